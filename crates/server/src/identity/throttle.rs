//! Slows the guessing of passwords without shutting the true owner out.
//!
//! Three things are counted, all in memory and in constant time: attempts from one address, attempts on one account from
//! addresses where nobody has logged in to it before, and attempts on one account from one address. Only the last makes
//! waiting grow, so whoever guesses from elsewhere spends a budget that the owner, on an address of an earlier login, does
//! not need. Accounts that do not exist are counted alike.
//!
//! Each node counts for itself: with `n` nodes a guesser has `n` times the budget. Which addresses are familiar is in the
//! database. See `docs/adr/0030-slow-guessing-without-lockout.md`.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    sync::Arc,
    time::Duration as Wait,
};

use chrono::{DateTime, Duration, Utc};
use governor::{Quota, RateLimiter, middleware::NoOpMiddleware, nanos::Nanos, state::keyed::DashMapStateStore};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::network::ClientNetwork;
use crate::clock::Clock;

/// Attempts from one address: so many at once, and then one per interval.
const PER_ADDRESS: (u32, Wait) = (100, Wait::from_secs(2));
/// Attempts on one account from unfamiliar addresses, all of them together.
const PER_ACCOUNT: (u32, Wait) = (30, Wait::from_secs(30));
/// Attempts on one account from one address before waiting begins.
const FREE: u32 = 5;
/// The longest wait between two attempts on one account from one address.
const LONGEST: Wait = Wait::from_mins(5);
/// Accounts and addresses that are remembered together, and for how long after the last attempt.
const REMEMBERED: (u64, Wait) = (100_000, Wait::from_hours(1));

type Limiter = RateLimiter<u64, DashMapStateStore<u64>, Ticks, NoOpMiddleware<Nanos>>;

/// Too many attempts: the next one may come after this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts: try again in {} s", .0.as_secs() + u64::from(.0.subsec_nanos() > 0))]
pub struct TooMany(pub Wait);

/// What happened between one account and one address.
#[derive(Debug, Default)]
struct Tries {
    failed: u32,
    /// When the next attempt may come.
    next: Option<DateTime<Utc>>,
}

/// The turn of one attempt on one account from one address: the next one waits until this is over, so that many at once do not
/// slip through, and are not refused either when they all have the right password.
#[derive(Debug)]
pub struct Turn(OwnedMutexGuard<Tries>);

impl Turn {
    /// Forgets what failed before.
    pub fn succeeded(mut self) {
        *self.0 = Tries::default();
    }
}

pub struct Throttle {
    clock: Clock,
    /// Keyed by chance, so that nobody can make two accounts share a place.
    hasher: RandomState,
    addresses: Limiter,
    accounts: Limiter,
    pairs: moka::sync::Cache<u64, Arc<Mutex<Tries>>>,
}

impl Throttle {
    pub fn new(clock: Clock) -> Self {
        let (capacity, idle) = REMEMBERED;
        Self {
            hasher: RandomState::new(),
            addresses: limiter(PER_ADDRESS, &clock),
            accounts: limiter(PER_ACCOUNT, &clock),
            pairs: moka::sync::Cache::builder().max_capacity(capacity).time_to_idle(idle).build(),
            clock,
        }
    }

    /// Counts a request that is costly or writes something, before anything is looked up. An address that says nothing about
    /// who asks has no budget: it would be everybody's.
    pub fn knock(&self, from: ClientNetwork) -> Result<(), TooMany> {
        if from.is_local() { Ok(()) } else { self.take(&self.addresses, self.key(("address", from.to_string()))) }
    }

    /// Waits for the turn of an attempt on an account, which need not exist, and refuses it when too many failed from there.
    pub async fn turn(&self, account: &str, from: ClientNetwork) -> Result<Turn, TooMany> {
        let pair = self.key(("pair", account.to_lowercase(), from.to_string()));
        let turn = Turn(self.pairs.get_with(pair, Arc::default).lock_owned().await);
        let wait = turn.0.next.and_then(|next| (next - self.clock.now()).to_std().ok()).unwrap_or_default();
        if wait.is_zero() { Ok(turn) } else { Err(TooMany(wait)) }
    }

    /// Counts an attempt as failed, until it is said to have succeeded: whoever goes away before the answer has tried too.
    /// `familiar`: somebody logged in to the account from there before.
    pub fn count(&self, turn: &mut Turn, account: &str, familiar: bool) -> Result<(), TooMany> {
        if !familiar {
            self.take(&self.accounts, self.key(("account", account.to_lowercase())))?;
        }
        let failed = turn.0.failed.saturating_add(1);
        let next = self.clock.now() + Duration::from_std(delay(failed)).unwrap_or_default();
        *turn.0 = Tries { failed, next: Some(next) };
        Ok(())
    }

    /// Drops what no longer limits anybody.
    pub fn tidy(&self) {
        self.addresses.retain_recent();
        self.accounts.retain_recent();
    }

    fn take(&self, limiter: &Limiter, key: u64) -> Result<(), TooMany> {
        limiter.check_key(&key).map_err(|until| TooMany(until.wait_time_from(Ticks(self.clock.clone()).read())))
    }

    fn key(&self, of: impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }
}

/// How long to wait after so many failures in a row.
fn delay(failed: u32) -> Wait {
    match failed.checked_sub(FREE) {
        None => Wait::ZERO,
        Some(beyond) => Wait::from_secs(1 << beyond.min(16)).min(LONGEST),
    }
}

fn limiter((burst, interval): (u32, Wait), clock: &Clock) -> Limiter {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(interval).expect("the interval is not zero").allow_burst(burst);
    RateLimiter::dashmap_with_clock(quota, Ticks(clock.clone()))
}

/// The node's clock as the limiters read it.
#[derive(Debug, Clone)]
struct Ticks(Clock);

impl Ticks {
    fn read(&self) -> Nanos {
        Nanos::new(u64::try_from(self.0.now().timestamp_nanos_opt().unwrap_or(0)).unwrap_or(0))
    }
}

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.read()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    /// A clock that does not move by itself.
    fn clock() -> Clock {
        let clock = Clock::default();
        clock.stop();
        clock
    }

    fn from(address: &str) -> ClientNetwork {
        ClientNetwork(address.parse().expect("an address"))
    }

    async fn attempt(throttle: &Throttle, account: &str, address: &str, familiar: bool) -> Result<Turn, TooMany> {
        let mut turn = throttle.turn(account, from(address)).await?;
        throttle.count(&mut turn, account, familiar)?;
        Ok(turn)
    }

    /// Tries and fails; the seconds to wait when it is not even let through.
    async fn fails(throttle: &Throttle, account: &str, address: &str, familiar: bool) -> Option<u64> {
        attempt(throttle, account, address, familiar).await.err().map(|TooMany(wait)| wait.as_secs())
    }

    #[tokio::test]
    async fn waiting_begins_after_five_failures_doubles_and_has_an_end() {
        let clock = clock();
        let throttle = Throttle::new(clock.clone());
        let mut waits = Vec::new();
        for _ in 0..16 {
            while let Some(seconds) = fails(&throttle, "alice", "192.0.2.1", true).await {
                waits.push(seconds);
                clock.advance(Duration::seconds(i64::try_from(seconds).expect("short")));
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[tokio::test]
    async fn success_forgets_failures() {
        let throttle = Throttle::new(clock());
        for _ in 0..20 {
            attempt(&throttle, "alice", "192.0.2.1", true).await.expect("let through").succeeded();
        }
    }

    #[tokio::test]
    async fn of_many_attempts_at_once_no_more_are_let_through_than_one_after_the_other_and_right_ones_all_are() {
        let throttle = Throttle::new(clock());
        let wrong = join_all((0..50).map(|_| fails(&throttle, "alice", "192.0.2.1", true))).await;
        assert_eq!(wrong.iter().filter(|refused| refused.is_none()).count(), 5);
        let right = (0..50).map(|_| async {
            let turn = attempt(&throttle, "bob", "192.0.2.1", true).await.expect("let through");
            tokio::task::yield_now().await;
            turn.succeeded();
        });
        join_all(right).await;
    }

    #[tokio::test]
    async fn an_attacker_elsewhere_does_not_shut_out_who_is_familiar() {
        let throttle = Throttle::new(clock());
        let mut let_through = 0;
        for n in 0..40 {
            let_through += u32::from(fails(&throttle, "Alice", &format!("198.51.100.{n}"), false).await.is_none());
        }
        assert_eq!(let_through, 30);
        assert_eq!(fails(&throttle, "alice", "192.0.2.1", true).await, None);
        assert_eq!(fails(&throttle, "alice", "203.0.113.9", false).await, Some(30));
        assert_eq!(fails(&throttle, "bob", "203.0.113.9", false).await, None);
    }

    #[tokio::test]
    async fn an_attempt_that_was_refused_costs_nothing_more() {
        let throttle = Throttle::new(clock());
        let mut refused = 0;
        for _ in 0..1000 {
            refused += u32::from(fails(&throttle, "alice", "198.51.100.1", false).await.is_some());
        }
        assert_eq!(refused, 995);
        assert_eq!(fails(&throttle, "alice", "198.51.100.2", false).await, None);
    }

    #[test]
    fn an_address_has_a_budget_over_all_accounts_unless_it_says_nothing() {
        let clock = clock();
        let throttle = Throttle::new(clock.clone());
        let let_through = |address| (0..150).filter(|_| throttle.knock(from(address)).is_ok()).count();
        assert_eq!([let_through("192.0.2.1"), let_through("192.0.2.2"), let_through("127.0.0.1")], [100, 100, 150]);
        clock.advance(Duration::seconds(20));
        assert_eq!(let_through("192.0.2.1"), 10);
        throttle.tidy();
        assert_eq!(let_through("192.0.2.1"), 0);
    }

    #[tokio::test]
    async fn one_household_is_one_address_in_either_protocol() {
        let throttle = Throttle::new(clock());
        let mut refused = 0;
        for n in 0..10 {
            refused += u32::from(fails(&throttle, "alice", &format!("2001:db8::{n}"), true).await.is_some());
        }
        assert_eq!(refused, 5);
    }
}
