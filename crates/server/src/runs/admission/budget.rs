//! How often a vendor may be called: what the manifest says, kept to before the vendor has to refuse.
//!
//! A budget belongs to a tenant's integration, or to each account at the vendor, so that nobody spends another's. A tenth of it may come at
//! once, and the rest is spread over the period, so that no period sees more than was declared. A node that is alone counts in memory;
//! several nodes take from one row in the database, some calls at a time. Whoever waits for a budget waits in one line, in which askers
//! have their turns one after another. Vendors that also say how much is left are believed by recipes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use sqlx::PgPool;
use tokio::{sync::oneshot, task::JoinHandle};
use weft_model::manifest::{RateLimit, RateScope};

use super::{
    Place,
    account::{Account, Left, Step},
    line::{Asker, Line},
    pace::Pace,
    shared::{ANSWER, Shared, Sharing, Take},
};
use crate::clock::Clock;

/// The longest that a call waits for its turn; beyond it the caller is told when to come again.
const PATIENCE: Duration = Duration::from_secs(2);
/// After how many calls budgets are forgotten that are whole again.
const TIDY_AFTER: u64 = 10_000;

/// What is left after a call that may go out; else how long to wait, and what there is.
pub type Answer = Result<Left, (Duration, Left)>;
/// What a node knows of the budgets that are not whole.
pub type Desks = Arc<DashMap<Place, Arc<Mutex<Desk>>>>;

/// A budget, and who waits for it.
#[derive(Default)]
pub struct Desk {
    pub account: Account,
    line: Line<oneshot::Sender<Answer>>,
    /// Whether a task is at work that gives those who wait their turns.
    is_served: bool,
}

pub struct Budgets {
    clock: Clock,
    desks: Desks,
    pub shared: Arc<Shared>,
    spent: AtomicU64,
}

impl Budgets {
    /// Starts the writer of what this node takes from budgets; it ends when this is dropped.
    pub fn start(pool: PgPool, clock: Clock) -> (Self, JoinHandle<()>) {
        let desks = Desks::default();
        let (shared, taking) = Shared::start(pool, clock.clone(), Arc::clone(&desks));
        (Self { clock, desks, shared: Arc::new(shared), spent: AtomicU64::new(0) }, taking)
    }

    /// Spends one call. Waits for its turn, if that comes soon; else says when it comes.
    pub async fn spend(&self, place: &Place, asker: Asker, limit: &RateLimit) -> Answer {
        let place = Place { connection: place.connection.filter(|_| limit.per == RateScope::Connection), ..place.clone() };
        let desk = Arc::clone(&self.desks.entry(place.clone()).or_default());
        self.tidy();
        let (waiting, is_served) = match self.enter(&desk, asker, limit) {
            Entered::Told(answer) => return answer,
            Entered::Waits(waiting, is_served) => (waiting, is_served),
        };
        if !is_served {
            let service = Service { shared: Arc::clone(&self.shared), clock: self.clock.clone(), place, limit: *limit };
            tokio::spawn(service.serve(Arc::clone(&desk)));
        }
        if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, waiting).await {
            return answer;
        }
        let at = (self.shared.sharing(), now(&self.clock));
        let desk = locked(&desk);
        Err((desk.account.wait(limit, at).max(Duration::from_secs(1)), desk.account.left(limit, at.1).none()))
    }

    /// Spends at once if nobody waits, or enters the line.
    fn enter(&self, desk: &Mutex<Desk>, asker: Asker, limit: &RateLimit) -> Entered {
        let mut desk = locked(desk);
        let at = (self.shared.sharing(), now(&self.clock));
        if desk.line.is_empty() && desk.account.step(limit, at, 1) == Step::Go {
            return Entered::Told(Ok(desk.account.left(limit, at.1)));
        }
        let interval = Duration::from_micros(Pace::alone(limit).map_or(0, |pace| pace.interval().unsigned_abs()));
        let ahead = u32::try_from(desk.line.ahead(&asker)).unwrap_or(u32::MAX);
        let wait = desk.account.wait(limit, at) + interval.saturating_mul(ahead);
        if wait > PATIENCE {
            return Entered::Told(Err((wait, desk.account.left(limit, at.1).none())));
        }
        let (ticket, waiting) = oneshot::channel();
        desk.line.enter(asker, ticket);
        Entered::Waits(waiting, std::mem::replace(&mut desk.is_served, true))
    }

    /// Now and then forgets budgets that are whole. One that somebody has in hand stays.
    fn tidy(&self) {
        if self.spent.fetch_add(1, Ordering::Relaxed) % TIDY_AFTER == TIDY_AFTER - 1 {
            let now = now(&self.clock);
            self.desks.retain(|_, desk| Arc::strong_count(desk) > 1 || !locked(desk).account.is_whole(now));
        }
    }
}

enum Entered {
    Told(Answer),
    /// In the line; whether somebody serves it already.
    Waits(oneshot::Receiver<Answer>, bool),
}

/// Gives those who wait for one budget their turns.
struct Service {
    shared: Arc<Shared>,
    clock: Clock,
    place: Place,
    limit: RateLimit,
}

impl Service {
    /// Until nobody waits.
    async fn serve(self, desk: Arc<Mutex<Desk>>) {
        while let Some(step) = self.give(&desk) {
            match step {
                Step::Go => {}
                Step::Wait(wait) if wait > PATIENCE => self.refuse(&desk, wait),
                Step::Wait(wait) => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
                Step::Ask(wanted) => self.ask(&desk, wanted).await,
            }
        }
    }

    /// Gives turns for as long as there are calls. What has to be done for more; `None` when nobody waits any more.
    fn give(&self, desk: &Mutex<Desk>) -> Option<Step> {
        let (at, mut desk) = (self.at(), locked(desk));
        desk.line.retain(|ticket| !ticket.is_closed());
        while !desk.line.is_empty() {
            let waiting = u32::try_from(desk.line.len()).unwrap_or(u32::MAX);
            match desk.account.step(&self.limit, at, waiting) {
                Step::Go => {
                    let left = desk.account.left(&self.limit, at.1);
                    if let Some(ticket) = desk.line.next() {
                        // Whoever gave up this very moment has spent a call in vain.
                        let _ = ticket.send(Ok(left));
                    }
                }
                other => return Some(other),
            }
        }
        desk.is_served = false;
        None
    }

    fn refuse(&self, desk: &Mutex<Desk>, wait: Duration) {
        let (at, mut desk) = (self.at(), locked(desk));
        let left = desk.account.left(&self.limit, at.1).none();
        while let Some(ticket) = desk.line.next() {
            let _ = ticket.send(Err((wait, left)));
        }
    }

    /// Takes some calls from the row.
    async fn ask(&self, desk: &Mutex<Desk>, wanted: u32) {
        let Some(pace) = Pace::shared(&self.limit) else { return };
        let now = now(&self.clock);
        let owed = locked(desk).account.ask(wanted, now);
        let take = Take { place: self.place.clone(), pace, now, wanted, owed };
        let answer = tokio::time::timeout(ANSWER, self.shared.take(take)).await;
        let (at, mut desk) = (self.at(), locked(desk));
        match answer {
            Ok(Ok(taken)) => desk.account.learn(&self.limit, at.0, &taken),
            Ok(Err(_)) | Err(_) => desk.account.miss(&self.limit, at, owed),
        }
    }

    fn at(&self) -> (Sharing, i64) {
        (self.shared.sharing(), now(&self.clock))
    }
}

fn now(clock: &Clock) -> i64 {
    clock.now().timestamp_micros()
}

/// A desk that nobody else is at. Nothing that is done at it can fail halfway.
pub fn locked(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::future::{join_all, maybe_done};
    use sqlx::postgres::PgPoolOptions;
    use weft_model::{AppId, TenantId};

    use super::*;

    #[tokio::test]
    async fn whoever_comes_after_a_flood_has_a_turn_in_the_middle_of_it() {
        let pool = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1/nothing").expect("an address");
        let (budgets, _taking) = Budgets::start(pool, Clock::default());
        budgets.shared.set(Sharing::Alone);
        let place = Place {
            tenant: TenantId::try_from("acme".to_owned()).expect("a name"),
            integration: "mail".parse::<AppId>().expect("a name"),
            connection: None,
        };
        let limit = RateLimit { requests: 40, seconds: 1, per: RateScope::Integration };
        let order = Mutex::new(Vec::new());
        let spend = async |app: &'static str| {
            let asker = Asker::App(app.parse().expect("a name"));
            budgets.spend(&place, asker, &limit).await.expect("a turn");
            order.lock().expect("no panics").push(app);
        };
        let flood: Vec<_> = (0..24).map(|_| Box::pin(maybe_done(spend("flood")))).collect();
        let quiet: Vec<_> = (0..2).map(|_| Box::pin(maybe_done(spend("quiet")))).collect();
        let mut all: Vec<_> = flood.into_iter().chain(quiet).collect();
        for call in &mut all {
            let _ = futures::poll!(call.as_mut());
        }
        join_all(all).await;
        let order = order.into_inner().expect("no panics");
        let last = order.iter().rposition(|app| *app == "quiet").expect("it had its turns");
        // Four went out at once; from then on it is one of each.
        assert!(last < 12, "{order:?}");
    }
}
