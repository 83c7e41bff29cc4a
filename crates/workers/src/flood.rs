//! Keeps a talkative worker from costing others anything. Pure: the caller brings the time.
//!
//! [`Quota`] says which log lines are kept; [`Pace`] says when to stop reading for a moment, which fills the pipe and makes the
//! worker itself wait. Both look at what is not a reply: a worker that answers many calls is not a flood.

use std::time::Duration;
use tokio::time::Instant;

/// How often dropped lines are reported while a flood lasts.
const REPORT: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_millis(100);
/// What is read within a window; with the cost of a line at a few microseconds, one worker takes a few percent of one core.
const WINDOW_LINES: usize = 2000;
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// A token bucket for log lines, with the count of what did not fit.
pub(crate) struct Quota {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
    dropped: u64,
    reported: Option<Instant>,
}

impl Quota {
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { per_second: f64::from(per_second), burst, tokens: burst, filled: now, dropped: 0, reported: None }
    }

    /// Whether one more line is kept; counts it if not.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        let gained = now.duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.filled = now;
        let kept = self.tokens >= 1.0;
        if kept {
            self.tokens -= 1.0;
        } else {
            self.dropped += 1;
        }
        kept
    }

    /// How many lines were dropped since the last report, if that is worth one now; at most once a second.
    pub(crate) fn report(&mut self, now: Instant) -> Option<u64> {
        let recent = self.reported.is_some_and(|at| now.duration_since(at) < REPORT);
        if recent {
            return None;
        }
        let dropped = self.settle()?;
        self.reported = Some(now);
        Some(dropped)
    }

    /// The same when nothing will follow.
    pub(crate) fn settle(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.dropped)).filter(|dropped| *dropped > 0)
    }
}

/// How fast one stream of a worker is read.
pub(crate) struct Pace {
    since: Instant,
    lines: usize,
    bytes: usize,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, lines: 0, bytes: 0 }
    }

    /// Counts a line; the time at which reading may go on, if it has been too much.
    pub(crate) fn count(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        self.lines += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        (self.lines > WINDOW_LINES || self.bytes > WINDOW_BYTES).then(|| self.since + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_dropped_and_reported_once_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut quota = Quota::new(10, 20, start);
        assert_eq!((0..50).filter(|_| quota.admit(start)).count(), 20);
        assert_eq!(quota.report(start), Some(30));
        assert!(!quota.admit(start));
        assert_eq!((0..50).filter(|_| quota.admit(at(500))).count(), 5);
        assert_eq!(quota.report(at(999)), None);
        assert_eq!(quota.report(at(1000)), Some(46));
        assert_eq!((0..50).filter(|_| quota.admit(at(60_000))).count(), 20);
        assert_eq!((quota.settle(), quota.settle()), (Some(30), None));
    }

    #[test]
    fn reading_pauses_until_the_window_is_over() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!((0..WINDOW_LINES).all(|_| pace.count(10, start).is_none()));
        assert_eq!(pace.count(10, start), Some(start + WINDOW));
        assert_eq!(pace.count(10, start + WINDOW), None);
        assert_eq!(pace.count(WINDOW_BYTES, start + WINDOW), Some(start + WINDOW * 2));
    }
}
