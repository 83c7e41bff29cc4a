//! Calls to a vendor that does not answer are stopped for a while, so that callers hear it at once, and the vendor can recover.
//!
//! Counted per account: one customer's broken instance says nothing about another's. Each node counts for itself, because it is
//! the node that waits in vain. Pure apart from the map; the time is handed in.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ahash::RandomState;
use moka::sync::Cache;

use super::Place;

/// Failures in a row after which calls are stopped, if they happen within the window.
const FAILURES: u32 = 5;
const WINDOW: Duration = Duration::from_mins(1);
/// The first pause; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(2);
/// How long a trial may take before another is made in its place.
const TRIAL: Duration = Duration::from_mins(1);
/// Accounts in trouble that are remembered, and for how long after they were last used.
const REMEMBERED: (u64, Duration) = (100_000, Duration::from_hours(1));

/// Which accounts are in trouble.
pub struct Breakers {
    troubled: Cache<Place, Arc<Mutex<Trouble>>, RandomState>,
}

/// What is known of an account whose last call failed.
#[derive(Debug)]
enum Trouble {
    Counting { failures: u32, since: Instant },
    Pausing { until: Instant, pause: Duration, trial: Option<Instant> },
}

impl Breakers {
    pub fn new() -> Self {
        let (count, idle) = REMEMBERED;
        let builder = Cache::builder().max_capacity(count).time_to_idle(idle);
        Self { troubled: builder.build_with_hasher(RandomState::new()) }
    }

    /// Whether a call may be made now; else how long to wait. When a pause is over, one call finds out for all.
    pub fn admit(&self, place: &Place, now: Instant) -> Result<(), Duration> {
        let Some(trouble) = self.troubled.get(place) else { return Ok(()) };
        trouble.lock().unwrap_or_else(PoisonError::into_inner).admit(now)
    }

    /// The vendor answered, be it with a refusal.
    pub fn answered(&self, place: &Place) {
        self.troubled.invalidate(place);
    }

    /// Nothing was learnt: whoever was to try did not get as far.
    pub fn untried(&self, place: &Place) {
        if let Some(trouble) = self.troubled.get(place)
            && let Trouble::Pausing { trial, .. } = &mut *trouble.lock().unwrap_or_else(PoisonError::into_inner)
        {
            *trial = None;
        }
    }

    /// The vendor did not answer.
    pub fn failed(&self, place: &Place, now: Instant) {
        let trouble =
            self.troubled.get_with_by_ref(place, || Arc::new(Mutex::new(Trouble::Counting { failures: 0, since: now })));
        trouble.lock().unwrap_or_else(PoisonError::into_inner).failed(now);
    }
}

impl Trouble {
    fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let Self::Pausing { until, trial, .. } = self else { return Ok(()) };
        if now < *until {
            return Err(*until - now);
        }
        if trial.is_some_and(|begun| now.saturating_duration_since(begun) < TRIAL) {
            return Err(Duration::from_secs(1));
        }
        *trial = Some(now);
        Ok(())
    }

    fn failed(&mut self, now: Instant) {
        *self = match *self {
            Self::Counting { since, .. } if now.saturating_duration_since(since) > WINDOW => {
                Self::Counting { failures: 1, since: now }
            }
            Self::Counting { failures, .. } if failures + 1 >= FAILURES => {
                Self::Pausing { until: now + FIRST_PAUSE, pause: FIRST_PAUSE, trial: None }
            }
            Self::Counting { failures, since } => Self::Counting { failures: failures + 1, since },
            // Calls that were under way when the pause began say nothing new.
            Self::Pausing { until, pause, trial: None } => Self::Pausing { until, pause, trial: None },
            Self::Pausing { pause, .. } => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                Self::Pausing { until: now + pause, pause, trial: None }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(now: Instant) -> Trouble {
        Trouble::Counting { failures: 0, since: now }
    }

    fn broken(now: Instant) -> Trouble {
        let mut trouble = counting(now);
        for _ in 0..FAILURES {
            assert_eq!(trouble.admit(now), Ok(()));
            trouble.failed(now);
        }
        trouble
    }

    #[test]
    fn five_failures_in_a_row_stop_the_calls_for_a_while() {
        let now = Instant::now();
        assert_eq!(broken(now).admit(now + Duration::from_secs(1)), Err(Duration::from_secs(4)));
    }

    #[test]
    fn failures_that_are_far_apart_stop_nothing() {
        let begin = Instant::now();
        let mut trouble = counting(begin);
        for round in 0..20 {
            let now = begin + WINDOW * 2 * round;
            assert_eq!(trouble.admit(now), Ok(()));
            trouble.failed(now);
        }
    }

    #[test]
    fn after_a_pause_one_call_tries_and_the_next_pause_is_longer() {
        let now = Instant::now();
        let mut trouble = broken(now);
        let over = now + FIRST_PAUSE;
        assert_eq!(trouble.admit(over), Ok(()));
        assert!(trouble.admit(over).is_err(), "one trial at a time");
        trouble.failed(over);
        assert_eq!(trouble.admit(over), Err(FIRST_PAUSE * 2));
        for _ in 0..20 {
            let Err(wait) = trouble.admit(over) else { break };
            assert!(wait <= LONGEST_PAUSE);
        }
    }

    #[test]
    fn calls_that_were_under_way_do_not_make_the_pause_longer() {
        let now = Instant::now();
        let mut trouble = broken(now);
        for _ in 0..50 {
            trouble.failed(now);
        }
        assert_eq!(trouble.admit(now), Err(FIRST_PAUSE));
    }

    #[test]
    fn a_trial_that_never_ends_is_followed_by_another() {
        let now = Instant::now();
        let mut trouble = broken(now);
        assert_eq!(trouble.admit(now + FIRST_PAUSE), Ok(()));
        assert_eq!(trouble.admit(now + FIRST_PAUSE + TRIAL), Ok(()));
    }
}
