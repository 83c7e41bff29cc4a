//! Remembers deaths and says what follows from the next one. Pure: the caller brings the time.

use crate::RestartPolicy;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// What to do after a death.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Restart { attempt: usize, pause: Duration },
    GiveUp { deaths: usize },
}

/// The deaths of one app's processes within the policy's window.
#[derive(Default)]
pub(crate) struct Deaths(VecDeque<Instant>);

impl Deaths {
    pub(crate) fn record(&mut self, now: Instant, policy: &RestartPolicy) -> Verdict {
        self.0.retain(|at| now.duration_since(*at) < policy.window);
        self.0.push_back(now);
        let deaths = self.0.len();
        match policy.pauses.get(deaths - 1) {
            Some(pause) => Verdict::Restart { attempt: deaths, pause: *pause },
            None => Verdict::GiveUp { deaths },
        }
    }

    /// A new version starts with a clean slate.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(seconds: &[u64]) -> Vec<Verdict> {
        let (start, policy, mut deaths) = (Instant::now(), RestartPolicy::default(), Deaths::default());
        seconds.iter().map(|s| deaths.record(start + Duration::from_secs(*s), &policy)).collect()
    }

    fn restart(attempt: usize, pause: u64) -> Verdict {
        Verdict::Restart { attempt, pause: Duration::from_secs(pause) }
    }

    #[test]
    fn pauses_grow_and_the_fifth_death_within_a_minute_is_a_crash_loop() {
        let expected = [restart(1, 0), restart(2, 2), restart(3, 4), restart(4, 8), Verdict::GiveUp { deaths: 5 }];
        assert_eq!(verdicts(&[0, 1, 4, 9, 59]), expected);
    }

    #[test]
    fn deaths_older_than_a_minute_are_forgotten() {
        assert_eq!(verdicts(&[0, 60, 61, 200]), [restart(1, 0), restart(1, 0), restart(2, 2), restart(1, 0)]);
    }
}
