//! The door before an app's worker: how many calls are at work, how many may wait, and how much memory their parameters hold.
//!
//! It belongs to the app, not to a process, so what waits survives restarts and deployments. An ordinary call takes one permit
//! without waiting. Fails with [`CallError::Busy`], in which case nothing was sent. Nested calls pass freely: the calls that they
//! are part of hold permits until they end, so waiting for one of those could be waiting for ever.

use crate::{CallError, Limits};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

pub(crate) struct Gate {
    app: Arc<str>,
    room: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
    bytes: AtomicUsize,
    byte_limit: usize,
}

impl Gate {
    /// `request_limit` is the size of the largest single call, which has to fit whatever the limits say.
    pub(crate) fn new(app: Arc<str>, limits: &Limits, request_limit: usize) -> Self {
        Self {
            app,
            room: Semaphore::new(limits.calls.clamp(1, Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            queue: limits.queue,
            bytes: AtomicUsize::new(0),
            byte_limit: limits.call_bytes.max(request_limit),
        }
    }

    /// Lets a call of this size in as soon as there is room. Dropping the pass gives the room to the next one.
    pub(crate) async fn enter(&self, bytes: usize, patience: Duration) -> Result<Pass<'_>, CallError> {
        let bytes = Share::take(&self.bytes, bytes, self.byte_limit).ok_or_else(|| self.busy())?;
        if let Ok(permit) = self.room.try_acquire() {
            return Ok(Pass { _bytes: bytes, _permit: permit });
        }
        let _waiting = Share::take(&self.waiting, 1, self.queue).ok_or_else(|| self.busy())?;
        match timeout(patience, self.room.acquire()).await {
            Ok(Ok(permit)) => Ok(Pass { _bytes: bytes, _permit: permit }),
            // The semaphore is never closed, so this is the time that is over.
            _ => Err(self.busy()),
        }
    }

    fn busy(&self) -> CallError {
        CallError::Busy { app: Arc::clone(&self.app) }
    }
}

/// The right of one call to be at work.
pub(crate) struct Pass<'a> {
    _bytes: Share<'a>,
    _permit: SemaphorePermit<'a>,
}

/// A part of a counted resource, given back when dropped.
struct Share<'a> {
    counter: &'a AtomicUsize,
    amount: usize,
}

impl<'a> Share<'a> {
    fn take(counter: &'a AtomicUsize, amount: usize, limit: usize) -> Option<Self> {
        let before = counter.fetch_add(amount, Relaxed);
        let share = Self { counter, amount };
        (before.saturating_add(amount) <= limit).then_some(share)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.amount, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn gate(calls: usize, queue: usize, call_bytes: usize) -> Gate {
        Gate::new("crm".into(), &Limits { calls, queue, call_bytes, ..Limits::default() }, 0)
    }

    #[tokio::test]
    async fn one_call_too_many_is_refused_at_once_and_those_who_wait_get_their_turn() {
        let gate = gate(1, 1, 100);
        let first = gate.enter(1, LONG).await;
        let (second, third) = tokio::join!(biased; gate.enter(1, LONG), async {
            let refused = gate.enter(1, LONG).await;
            drop(first);
            refused
        });
        assert!(second.is_ok());
        assert!(matches!(third, Err(CallError::Busy { .. })));
        drop(second);
        assert!(gate.enter(1, LONG).await.is_ok());
    }

    #[tokio::test]
    async fn waiting_ends_with_the_time_of_the_call() {
        let gate = gate(1, 1, 100);
        let _first = gate.enter(1, LONG).await;
        assert!(matches!(gate.enter(1, Duration::ZERO).await, Err(CallError::Busy { .. })));
        assert_eq!((gate.waiting.load(Relaxed), gate.bytes.load(Relaxed)), (0, 1));
    }

    #[tokio::test]
    async fn parameters_beyond_the_memory_for_them_are_refused() {
        let gate = gate(9, 9, 100);
        let first = gate.enter(60, LONG).await;
        assert!(matches!(gate.enter(60, LONG).await, Err(CallError::Busy { .. })));
        drop(first);
        assert!(gate.enter(60, LONG).await.is_ok());
    }
}
