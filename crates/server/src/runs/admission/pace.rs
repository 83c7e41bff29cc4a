//! How often calls may go out, as arithmetic on one number: until when a budget is spoken for, its *arrival*. Pure.
//!
//! This is the generic cell rate algorithm. Each call moves the arrival on by an interval; it may go out as long as the arrival is not
//! further ahead than what may come at once. Moments are microseconds of the epoch, so that a node and the database mean the same by them.

use std::time::Duration;

use weft_model::manifest::RateLimit;

/// The longest that a node may keep what it took from the row of a budget, in microseconds.
const LONGEST_HOLD: i64 = 1_000_000;

/// How fast a budget may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two calls that are not made at once.
    interval: i64,
    /// How many may come at once.
    at_once: u32,
    /// What comes within a period besides those.
    rest: u32,
    period: i64,
}

impl Pace {
    /// That of a node that is alone.
    pub fn alone(limit: &RateLimit) -> Option<Self> {
        Self::new(limit, 0)
    }

    /// That of nodes together. What one of them has taken may go out later than it is counted, so that the rest is spread over more.
    pub fn shared(limit: &RateLimit) -> Option<Self> {
        Self::new(limit, hold(limit))
    }

    fn new(limit: &RateLimit, late: i64) -> Option<Self> {
        let at_once = limit.requests.div_ceil(10);
        if at_once == 0 || limit.seconds == 0 {
            return None;
        }
        // What comes at once is a part of the whole: only the rest comes back within the period.
        let rest = (limit.requests - at_once).max(1);
        let period = period(limit);
        let interval = up(period + late, rest);
        Some(Self { interval, at_once, rest, period })
    }

    /// Takes as many of the calls that are wanted as may go out now. How many, and the arrival after them.
    pub fn take(&self, arrival: i64, now: i64, wanted: u32) -> (u32, i64) {
        let from = self.from(arrival, now);
        let room = now + self.ahead() - from;
        if room < 0 {
            return (0, from);
        }
        let taken = u32::try_from(room / self.interval + 1).unwrap_or(u32::MAX).min(wanted);
        (taken, from + self.cost(taken))
    }

    /// What so many calls move the arrival on by.
    pub fn cost(&self, calls: u32) -> i64 {
        self.interval.saturating_mul(i64::from(calls))
    }

    /// When the next call may go out.
    pub fn next(&self, arrival: i64, now: i64) -> i64 {
        (self.from(arrival, now) - self.ahead()).max(now)
    }

    /// How many could go out now.
    pub fn left(&self, arrival: i64, now: i64) -> u32 {
        self.take(arrival, now, u32::MAX).0
    }

    /// The arrival that counts: what is over does not, and no clock that was wrong closes a budget for longer than a period.
    pub fn from(&self, arrival: i64, now: i64) -> i64 {
        arrival.clamp(now, now + self.period + self.cost(self.at_once))
    }

    /// The most that one of several nodes takes at once.
    pub fn most(&self, nodes: u32) -> u32 {
        (self.at_once / nodes.saturating_mul(2).max(1)).max(1)
    }

    pub const fn interval(&self) -> i64 {
        self.interval
    }

    /// Between two calls of one of several nodes that hear nothing of each other; `None` where there are more nodes than calls.
    pub fn apart(&self, nodes: u32) -> Option<i64> {
        match self.rest / nodes.max(1) {
            0 => None,
            part => Some(up(self.period, part)),
        }
    }

    fn ahead(&self) -> i64 {
        self.cost(self.at_once - 1)
    }
}

/// A time divided, rounded up so that the parts are not too short.
fn up(time: i64, parts: u32) -> i64 {
    let parts = i64::from(parts.max(1));
    (time + parts - 1) / parts
}

fn period(limit: &RateLimit) -> i64 {
    i64::from(limit.seconds) * 1_000_000
}

/// How long a node may keep what it took from the row of a budget, in microseconds.
pub fn hold(limit: &RateLimit) -> i64 {
    (period(limit) / 10).min(LONGEST_HOLD)
}

/// From one moment to a later one.
pub fn between(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use weft_model::manifest::RateScope;

    use super::*;

    const STEP: i64 = 20_000;

    fn limit(requests: u32) -> RateLimit {
        RateLimit { requests, seconds: 10, per: RateScope::Connection }
    }

    /// The most moments that any period of ten seconds sees.
    fn most(moments: &[i64]) -> usize {
        let within = |begin: i64| moments.iter().filter(|moment| (begin..begin + 10_000_000).contains(*moment)).count();
        moments.iter().map(|begin| within(*begin)).max().unwrap_or(0)
    }

    #[test]
    fn no_period_sees_more_calls_than_were_declared_and_nearly_all_of_them_can_be_made() {
        for requests in [1, 2, 3, 10, 11, 100, 250] {
            let pace = Pace::alone(&limit(requests)).expect("a pace");
            let (mut arrival, mut moments) = (0, Vec::new());
            for now in (0..40_000_000).step_by(20_000) {
                let (taken, after) = pace.take(arrival, now, u32::MAX);
                arrival = after;
                moments.extend((0..taken).map(|_| now));
            }
            let requests = requests as usize;
            assert!(most(&moments) <= requests, "{requests}: {}", most(&moments));
            assert!(moments.len() >= (requests - requests.div_ceil(10)) * 4, "{requests}: {}", moments.len());
        }
    }

    #[test]
    fn no_period_sees_more_however_late_nodes_use_what_they_took_together() {
        for requests in [1, 2, 10, 11, 100, 250] {
            let (limit, mut arrival, mut moments) = (limit(requests), 0, Vec::new());
            let pace = Pace::shared(&limit).expect("a pace");
            for (round, now) in (0..60_000_000).step_by(20_000).enumerate() {
                let (taken, after) = pace.take(arrival, now, pace.most(2));
                arrival = after;
                // Some go out at once, and some at the last moment.
                let late = if round % 200 < 100 { hold(&limit) - STEP } else { 0 };
                moments.extend((0..taken).map(|_| now + late));
            }
            assert!(most(&moments) <= requests as usize, "{requests}: {}", most(&moments));
            assert!(moments.len() >= (requests - requests.div_ceil(10)).max(1) as usize * 4, "{requests}: {}", moments.len());
        }
    }

    #[test]
    fn nodes_that_hear_nothing_of_each_other_stay_within_the_limit_together() {
        for (requests, nodes) in [(1, 2), (3, 2), (10, 3), (100, 7), (250, 2)] {
            let pace = Pace::shared(&limit(requests)).expect("a pace");
            let within = pace.apart(nodes).map_or(0, |apart| (10_000_000 + apart - 1) / apart);
            assert!(within * i64::from(nodes) <= i64::from(requests), "{requests} for {nodes}: {within} each");
        }
    }

    #[test]
    fn a_clock_that_was_far_ahead_closes_a_budget_for_a_period_at_most() {
        let pace = Pace::alone(&limit(100)).expect("a pace");
        let wait = pace.next(i64::from(u32::MAX) * 1_000_000, 0);
        assert!(wait <= 10_000_000 + pace.interval(), "{wait}");
    }
}
