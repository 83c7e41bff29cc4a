//! What a node knows of one budget, and what may be done with it now. Pure.

use std::time::Duration;

use weft_model::manifest::RateLimit;

use super::{
    pace::{Pace, between, hold},
    shared::{Sharing, Taken},
};

/// How soon is looked again whether nodes know of each other.
const SETTLING: Duration = Duration::from_millis(50);
/// How soon the database is asked again that did not answer, in microseconds.
const AGAIN: i64 = 1_000_000;

#[derive(Debug, Default)]
pub struct Account {
    /// Until when the budget is spoken for: as counted here, or as heard from its row.
    arrival: i64,
    /// Calls that were taken from the row, and until when they are good.
    held: u32,
    held_until: i64,
    /// When the row is worth asking.
    ask_at: i64,
    asked: Asked,
    /// When the next call may go out while the database is away.
    away: Option<i64>,
    /// Calls that went out meanwhile, which the row does not know.
    owed: u32,
}

/// The last question to the row.
#[derive(Debug, Default)]
struct Asked {
    at: i64,
    wanted: u32,
    /// Calls that went out since.
    used: u32,
}

/// What can be done for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is spent: the call may go out.
    Go,
    Wait(Duration),
    /// The row has to be asked for so many calls.
    Ask(u32),
}

/// What there is of a budget, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub requests: u32,
    pub seconds: u32,
    /// Calls that could go out at once.
    pub at_once: u32,
    /// In how many seconds it is whole again.
    pub whole_in: u64,
}

impl Left {
    /// The same, as told to whoever may not go out.
    pub const fn none(self) -> Self {
        Self { at_once: 0, ..self }
    }
}

impl Account {
    /// Spends one call, if that is possible; `waiting` calls want to go out.
    pub fn step(&mut self, limit: &RateLimit, (sharing, now): (Sharing, i64), waiting: u32) -> Step {
        match sharing {
            Sharing::Unsettled => Step::Wait(SETTLING),
            Sharing::Alone => Pace::alone(limit).map_or(Step::Go, |pace| self.count(&pace, now)),
            Sharing::Among(nodes) => {
                Pace::shared(limit).map_or(Step::Go, |pace| self.use_held((&pace, hold(limit)), nodes, now, waiting))
            }
        }
    }

    fn count(&mut self, pace: &Pace, now: i64) -> Step {
        let arrival = pace.from(self.arrival, now) + pace.cost(std::mem::take(&mut self.owed));
        let (taken, after) = pace.take(arrival, now, 1);
        self.arrival = after;
        if taken > 0 { Step::Go } else { Step::Wait(between(now, pace.next(after, now))) }
    }

    fn use_held(&mut self, (pace, hold): (&Pace, i64), nodes: u32, now: i64, waiting: u32) -> Step {
        if self.held > 0 && now < self.held_until {
            self.held -= 1;
            self.asked.used += 1;
            return Step::Go;
        }
        self.held = 0;
        if now >= self.ask_at {
            return Step::Ask(self.wish(hold, now).max(waiting).clamp(1, pace.most(nodes)));
        }
        match (self.away, pace.apart(nodes)) {
            (Some(next), Some(apart)) if now >= next => {
                self.away = Some(now + apart);
                self.owed += 1;
                Step::Go
            }
            (Some(next), Some(_)) => Step::Wait(between(now, next.min(self.ask_at))),
            _ => Step::Wait(between(now, self.ask_at)),
        }
    }

    /// What was lately used in the time for which it may be kept, but no more than twice of what was asked for before.
    fn wish(&self, hold: i64, now: i64) -> u32 {
        let since = (now - self.asked.at).max(1);
        let lately = i64::from(self.asked.used).saturating_mul(hold) / since;
        u32::try_from(lately).unwrap_or(u32::MAX).min(self.asked.wanted.saturating_mul(2))
    }

    /// Notes that the row is asked. What it has to be told that is owed.
    pub fn ask(&mut self, wanted: u32, now: i64) -> u32 {
        self.asked = Asked { at: now, wanted, used: 0 };
        std::mem::take(&mut self.owed)
    }

    /// Takes in what the row gave.
    pub fn learn(&mut self, limit: &RateLimit, sharing: Sharing, taken: &Taken) {
        if sharing == Sharing::Alone {
            // It was asked before this node was alone.
            self.arrival = self.arrival.max(taken.arrival);
            return;
        }
        let (at, hold) = (self.asked.at, hold(limit));
        (self.arrival, self.away) = (taken.arrival, None);
        (self.held, self.held_until) = (taken.granted, at + hold);
        // Where it is tight the row is not asked for each call by itself.
        let next = Pace::shared(limit).map_or(at, |pace| pace.next(taken.arrival, at));
        self.ask_at = if taken.granted < self.asked.wanted { next.max(at + hold / 2) } else { at };
    }

    /// Takes in that the database did not answer.
    pub fn miss(&mut self, limit: &RateLimit, (sharing, now): (Sharing, i64), owed: u32) {
        self.owed += owed;
        self.ask_at = now + AGAIN;
        let Sharing::Among(nodes) = sharing else { return };
        let apart = Pace::shared(limit).and_then(|pace| pace.apart(nodes));
        self.away = self.away.or(apart.map(|apart| now + apart));
    }

    /// Until when it is spoken for, if anything is spent.
    pub fn spent(&self, now: i64) -> Option<i64> {
        (self.arrival > now).then_some(self.arrival)
    }

    /// Takes in until when it is spoken for elsewhere.
    pub fn raise(&mut self, arrival: i64) {
        self.arrival = self.arrival.max(arrival);
    }

    pub fn is_whole(&self, now: i64) -> bool {
        self.spent(now).is_none() && self.owed == 0 && self.away.is_none() && now >= self.held_until.max(self.ask_at)
    }

    /// How long the next call waits at least.
    pub fn wait(&self, limit: &RateLimit, (sharing, now): (Sharing, i64)) -> Duration {
        match sharing {
            Sharing::Unsettled => SETTLING,
            Sharing::Alone => Pace::alone(limit).map_or(Duration::ZERO, |pace| between(now, pace.next(self.arrival, now))),
            Sharing::Among(_) => between(now, self.ask_at),
        }
    }

    pub fn left(&self, limit: &RateLimit, now: i64) -> Left {
        let held = if now < self.held_until { self.held } else { 0 };
        let free = Pace::alone(limit).map_or(0, |pace| pace.left(self.arrival, now));
        let whole_in = between(now, self.arrival).as_micros().div_ceil(1_000_000);
        Left {
            requests: limit.requests,
            seconds: limit.seconds,
            at_once: free.saturating_add(held),
            whole_in: u64::try_from(whole_in).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::manifest::RateScope;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const NOW: i64 = 1_000 * SECOND;
    const TWO: Sharing = Sharing::Among(2);

    fn limit(requests: u32, seconds: u32) -> RateLimit {
        RateLimit { requests, seconds, per: RateScope::Connection }
    }

    /// The row of a budget, as the database keeps it.
    #[derive(Default)]
    struct Row(i64);

    impl Row {
        fn give(&mut self, limit: &RateLimit, (now, owed): (i64, u32), wanted: u32) -> Taken {
            let pace = Pace::shared(limit).expect("a pace");
            let (granted, arrival) = pace.take(pace.from(self.0, now) + pace.cost(owed), now, wanted);
            self.0 = arrival;
            Taken { granted, arrival }
        }
    }

    /// Makes as many calls as can go out now. How many, and how often the row was asked.
    fn drain(account: &mut Account, row: Option<&mut Row>, limit: &RateLimit, now: i64) -> (usize, usize) {
        let (mut calls, mut asked, mut row) = (0, 0, row);
        loop {
            match account.step(limit, (TWO, now), 1) {
                Step::Go => calls += 1,
                Step::Wait(_) => return (calls, asked),
                Step::Ask(wanted) => {
                    asked += 1;
                    let owed = account.ask(wanted, now);
                    match &mut row {
                        Some(row) => account.learn(limit, TWO, &row.give(limit, (now, owed), wanted)),
                        None => account.miss(limit, (TWO, now), owed),
                    }
                }
            }
        }
    }

    #[test]
    fn nodes_that_are_busy_keep_to_the_limit_together_and_seldom_ask() {
        let limit = limit(1000, 60);
        let (mut row, mut accounts) = (Row::default(), [Account::default(), Account::default()]);
        let (mut moments, mut asked) = (Vec::new(), 0);
        for step in 0..180 * 50 {
            let now = NOW + step * SECOND / 50;
            for account in &mut accounts {
                let (calls, questions) = drain(account, Some(&mut row), &limit, now);
                asked += questions;
                moments.extend(std::iter::repeat_n(now, calls));
            }
        }
        let within = |begin: i64| moments.iter().filter(|at| (begin..begin + 60 * SECOND).contains(*at)).count();
        let most = moments.iter().map(|begin| within(*begin)).max().unwrap_or(0);
        assert!(most <= 1000, "{most} in a minute");
        assert!(moments.len() > 2600, "{} in three minutes", moments.len());
        assert!(asked * 2 < moments.len(), "{asked} questions for {} calls", moments.len());
    }

    #[test]
    fn a_node_that_makes_a_call_now_and_then_takes_one_at_a_time() {
        let limit = limit(1000, 60);
        let (mut row, mut account) = (Row::default(), Account::default());
        for call in 0..10 {
            let now = NOW + call * 2 * SECOND;
            assert_eq!(account.step(&limit, (TWO, now), 1), Step::Ask(1));
            let owed = account.ask(1, now);
            account.learn(&limit, TWO, &row.give(&limit, (now, owed), 1));
            assert_eq!(account.step(&limit, (TWO, now), 1), Step::Go);
        }
    }

    #[test]
    fn without_the_database_a_node_has_its_part_and_owns_up_to_it_later() {
        let limit = limit(100, 10);
        let (mut row, mut account) = (Row::default(), Account::default());
        drain(&mut account, Some(&mut row), &limit, NOW);
        let mut calls = 0;
        for step in 1..=500 {
            calls += drain(&mut account, None, &limit, NOW + step * SECOND / 50).0;
        }
        assert!((38..=45).contains(&calls), "{calls} of 90 for one of two nodes");
        let now = NOW + 12 * SECOND;
        let before = row.0;
        drain(&mut account, Some(&mut row), &limit, now);
        assert!(row.0 > before.max(now) + 3 * SECOND, "what went out meanwhile is counted: {}", row.0 - now);
    }

    #[test]
    fn a_node_that_is_alone_counts_by_itself() {
        let (limit, mut account) = (limit(100, 10), Account::default());
        let alone = (Sharing::Alone, NOW);
        for left in (0..10).rev() {
            assert_eq!(account.step(&limit, alone, 1), Step::Go);
            assert_eq!(account.left(&limit, NOW).at_once, left);
        }
        assert!(matches!(account.step(&limit, alone, 1), Step::Wait(wait) if wait < Duration::from_millis(200)));
        assert_eq!((account.left(&limit, NOW).whole_in, account.spent(NOW).is_some()), (2, true));
    }

    #[test]
    fn nothing_goes_out_before_nodes_know_of_each_other() {
        let step = Account::default().step(&limit(100, 10), (Sharing::Unsettled, NOW), 1);
        assert!(matches!(step, Step::Wait(_)), "{step:?}");
    }
}
