//! Work that goes on when whoever asked for it goes away.
//!
//! A request's future is dropped when its client hangs up. What must not stop halfway is polled in place all the same, which
//! spares the switch to another task, and moves to a task of its own only then.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio_util::task::TaskTracker;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that is finished in the background when it is dropped before its end.
pub struct Outliving<T: Send + 'static> {
    work: Option<Work<T>>,
    background: TaskTracker,
}

/// Begins when it is awaited; what was never begun needs no end.
pub fn outlive<T: Send + 'static>(background: &TaskTracker, work: impl Future<Output = T> + Send + 'static) -> Outliving<T> {
    Outliving { work: Some(Box::pin(work)), background: background.clone() }
}

impl<T: Send + 'static> Future for Outliving<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Outliving<T> {
    fn drop(&mut self) {
        // What panicked is over; and outside of a runtime there is nobody to go on with it.
        if let Some(work) = self.work.take()
            && !std::thread::panicking()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            self.background.spawn_on(
                async move {
                    work.await;
                },
                &runtime,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_finished_when_nobody_waits_any_more() {
        let background = TaskTracker::new();
        let (release, released) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let mut work = Box::pin(outlive(&background, async move {
            released.await.expect("released");
            done.send("finished").expect("somebody listens");
        }));
        assert!(futures::poll!(&mut work).is_pending());
        drop(work);
        release.send(()).expect("it goes on");
        assert_eq!(finished.await, Ok("finished"));
        background.close();
        background.wait().await;
    }

    #[tokio::test]
    async fn the_result_comes_back_to_whoever_waits() {
        let background = TaskTracker::new();
        assert_eq!(outlive(&background, async { 7 }).await, 7);
        assert!(background.is_empty());
    }
}
