//! How often a vendor may be called: what the manifest says, kept to before the vendor has to refuse.
//!
//! A budget belongs to a tenant's integration, or to each account at the vendor, so that nobody spends another's. A tenth of it may come at
//! once, and the rest is spread over the period, so that no period sees more than was declared. Each node has it whole; vendors that also
//! say how much is left are believed by recipes.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};
use moka::sync::Cache;
use weft_model::{
    AppId, ConnectionId, TenantId,
    manifest::{RateLimit, RateScope},
};

use super::Place;

/// The longest that a call waits for its turn; beyond it the caller is told when to come again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Integrations with a budget that are remembered.
const REMEMBERED: u64 = 10_000;
/// After how many calls of an integration accounts are forgotten whose budget is whole again.
const TIDY_AFTER: u64 = 10_000;

type Limiter = RateLimiter<
    Option<ConnectionId>,
    DashMapStateStore<Option<ConnectionId>>,
    DefaultClock,
    NoOpMiddleware<<DefaultClock as Clock>::Instant>,
>;

/// The budgets of one integration.
struct Budget {
    accounts: Limiter,
    spent: AtomicU64,
}

pub struct Budgets {
    limiters: Cache<(TenantId, AppId, u32, u32), Arc<Budget>>,
    clock: DefaultClock,
}

impl Budgets {
    pub fn new() -> Self {
        Self { limiters: Cache::new(REMEMBERED), clock: DefaultClock::default() }
    }

    /// Spends one call. Waits for its turn, if that comes soon; else says when it comes.
    pub async fn spend(&self, place: &Place, limit: &RateLimit) -> Result<(), Duration> {
        let Some(quota) = quota(limit) else { return Ok(()) };
        let key = (place.tenant.clone(), place.integration.clone(), limit.requests, limit.seconds);
        let budget =
            self.limiters.get_with(key, || Arc::new(Budget { accounts: Limiter::keyed(quota), spent: AtomicU64::new(0) }));
        let account = place.connection.filter(|_| limit.per == RateScope::Connection);
        let mut waited = Duration::ZERO;
        while let Err(not_yet) = budget.accounts.check_key(&account) {
            let wait = not_yet.wait_time_from(self.clock.now());
            if waited + wait > PATIENCE {
                return Err(wait);
            }
            tokio::time::sleep(wait).await;
            waited += wait;
        }
        if budget.spent.fetch_add(1, Ordering::Relaxed) % TIDY_AFTER == TIDY_AFTER - 1 {
            budget.accounts.retain_recent();
        }
        Ok(())
    }
}

fn quota(limit: &RateLimit) -> Option<Quota> {
    let at_once = NonZeroU32::new(limit.requests.div_ceil(10))?;
    // What comes at once is a part of the whole: only the rest comes back within the period.
    let rest = (limit.requests - at_once.get()).max(1);
    let interval = Duration::from_secs(limit.seconds.into()).checked_div(rest)?;
    Some(Quota::with_period(interval)?.allow_burst(at_once))
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    /// The moments at which calls go out when somebody calls all the time, in milliseconds.
    fn moments(limit: &RateLimit, periods: u64) -> Vec<u64> {
        let clock = FakeRelativeClock::default();
        let limiter = RateLimiter::direct_with_clock(quota(limit).expect("a quota"), clock.clone());
        let step = Duration::from_millis(20);
        let mut moments = Vec::new();
        for moment in (0..periods * u64::from(limit.seconds) * 1000).step_by(20) {
            while limiter.check().is_ok() {
                moments.push(moment);
            }
            clock.advance(step);
        }
        moments
    }

    #[test]
    fn no_period_sees_more_calls_than_were_declared_and_nearly_all_of_them_can_be_made() {
        for requests in [1, 2, 3, 10, 11, 100, 250] {
            let limit = RateLimit { requests, seconds: 10, per: RateScope::Connection };
            let moments = moments(&limit, 4);
            let within = |begin: u64| moments.iter().filter(|moment| (begin..begin + 10_000).contains(*moment)).count();
            let (requests, most) = (requests as usize, moments.iter().map(|begin| within(*begin)).max());
            assert!(most.is_some_and(|most| most <= requests), "{requests}: {most:?}");
            assert!(moments.len() >= (requests - requests.div_ceil(10)) * 4, "{requests}: {}", moments.len());
        }
    }
}
