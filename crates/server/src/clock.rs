//! The time, as everything in the server asks for it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Duration, Utc};

/// The system's clock, which a test may move.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Microseconds added to the system's time.
    offset: Arc<AtomicI64>,
    /// When it was stopped, in microseconds of the epoch; 0 while it runs.
    stopped: Arc<AtomicI64>,
}

impl Clock {
    pub fn now(&self) -> DateTime<Utc> {
        let stopped =
            DateTime::from_timestamp_micros(self.stopped.load(Ordering::Relaxed)).filter(|at| *at != DateTime::UNIX_EPOCH);
        #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
        let system = stopped.unwrap_or_else(Utc::now);
        system + Duration::microseconds(self.offset.load(Ordering::Relaxed))
    }

    /// Lets this clock, and every copy of it, stand still until it is moved. For tests.
    pub fn stop(&self) {
        let now = self.now().timestamp_micros();
        self.offset.store(0, Ordering::Relaxed);
        self.stopped.store(now, Ordering::Relaxed);
    }

    /// Moves this clock, and every copy of it, forward, or back when `by` is negative. For tests.
    pub fn advance(&self, by: Duration) {
        self.offset.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::Relaxed);
    }
}
