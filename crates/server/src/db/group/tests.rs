//! What those who write in groups are told, while the database takes records, refuses one, is away, or hangs.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use super::*;

const PACE: Pace = Pace { capacity: 1000, gather: Duration::from_millis(1) };

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_database_that_hangs_is_refused_and_the_others_are_written_after_it() {
    let (wakes, stored) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
    let (waking, list) = (Arc::clone(&wakes), Arc::clone(&stored));
    let (writer, task) = Groups::start(PACE, move |items: Vec<u32>| {
        let (waking, list) = (Arc::clone(&waking), Arc::clone(&list));
        async move {
            if items.contains(&1) {
                waking.notified().await;
            }
            list.lock().expect("not poisoned").extend(items.clone());
            Ok(items)
        }
    });
    assert_eq!(writer.write(1).await, Err(NotWritten));
    assert!(writer.fails());
    writer.write_later(2).await;
    assert_eq!(writer.write(3).await, Err(NotWritten), "at once, and it is not stored");
    wakes.notify_one();
    while writer.write(4).await.is_err() {}
    assert!(!writer.fails());
    drop(writer);
    task.await.expect("it ends");
    assert_eq!(*stored.lock().expect("not poisoned"), [1, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_are_refused_by_the_same_attempt() {
    let attempts = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&attempts);
    let (writer, _task) = Groups::<u32, ()>::start(PACE, move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(PATIENCE / 2).await;
            Err(sqlx::Error::PoolTimedOut)
        }
    });
    writer.write_later(1).await;
    let refused = tokio::join!(writer.write(2), writer.write(3), writer.write(4));
    assert_eq!(refused, (Err(NotWritten), Err(NotWritten), Err(NotWritten)));
    assert!(attempts.load(Ordering::SeqCst) <= 2, "one that was at work, and theirs");
}

#[tokio::test]
async fn everything_is_written_once_and_answered_in_order() {
    let groups = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&groups);
    let (writer, task) = Groups::start(PACE, move |items: Vec<u32>| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { Ok(items.into_iter().map(|item| item * 2).collect()) }
    });
    let answers = futures::future::join_all((0..400).map(|item| writer.write(item))).await;
    assert_eq!(answers, (0..400).map(|item| Ok(item * 2)).collect::<Vec<_>>());
    assert!(groups.load(Ordering::Relaxed) < 400, "items share statements");
    drop(writer);
    task.await.expect("the writer ends with its last handle");
}

/// What PostgreSQL says to a text that it cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("invalid byte sequence")]
struct Refusal;

impl sqlx::error::DatabaseError for Refusal {
    fn message(&self) -> &'static str {
        "invalid byte sequence"
    }

    fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
        Some("22021".into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> sqlx::error::ErrorKind {
        sqlx::error::ErrorKind::Other
    }
}

#[tokio::test]
async fn an_item_that_the_database_refuses_takes_no_other_with_it() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&stored);
    let (writer, task) = Groups::start(PACE, move |items: Vec<u32>| {
        let sink = Arc::clone(&sink);
        async move {
            if items.contains(&13) {
                return Err(sqlx::Error::Database(Box::new(Refusal)));
            }
            sink.lock().expect("no panics").extend(items.iter().copied());
            Ok(vec![(); items.len()])
        }
    });
    let answers = futures::future::join_all([12, 13, 14].map(|item| writer.write(item))).await;
    assert_eq!(answers, [Ok(()), Err(NotWritten), Ok(())]);
    for item in [1, 13, 2] {
        writer.write_later(item).await;
    }
    drop(writer);
    task.await.expect("the writer ends");
    assert_eq!(*stored.lock().expect("no panics"), [12, 14, 1, 2]);
}

#[tokio::test]
async fn who_finds_no_place_waits_for_one_and_nothing_overtakes_it() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let (sink, gate) = (Arc::clone(&stored), Arc::new(tokio::sync::Semaphore::new(0)));
    let open = Arc::clone(&gate);
    let (writer, task) = Groups::start(Pace { capacity: 1, ..PACE }, move |items: Vec<u32>| {
        let (sink, gate) = (Arc::clone(&sink), Arc::clone(&gate));
        async move {
            gate.acquire().await.expect("never closed").forget();
            sink.lock().expect("no panics").extend(items.iter().copied());
            Ok(vec![(); items.len()])
        }
    });
    // Handed over without being awaited. Nothing else runs meanwhile, so it has the only place.
    drop(writer.write_later(1));
    let (mut second, mut third) = (Box::pin(writer.write_later(2)), Box::pin(writer.write_later(3)));
    assert!(futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut third).is_pending());
    open.add_permits(3);
    futures::future::join(third, second).await;
    drop(writer);
    task.await.expect("the writer ends");
    assert_eq!(*stored.lock().expect("no panics"), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_learns_of_a_failure_and_what_nobody_waits_for_is_kept() {
    let (stored, failures) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU32::new(3)));
    let sink = Arc::clone(&stored);
    let (writer, task) = Groups::start(PACE, move |items: Vec<u32>| {
        let (sink, fail) = (Arc::clone(&sink), failures.load(Ordering::Relaxed) > 0);
        failures.store(failures.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        async move {
            if fail {
                return Err(sqlx::Error::PoolTimedOut);
            }
            sink.lock().expect("no panics").extend(items.iter().copied());
            Ok(vec![(); items.len()])
        }
    });
    writer.write_later(1).await;
    assert_eq!(writer.write(2).await, Err(NotWritten));
    drop(writer);
    task.await.expect("the writer ends");
    assert_eq!(*stored.lock().expect("no panics"), [1]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_database_is_away_is_told_although_others_are_kept() {
    let (away, stored) = (Arc::new(AtomicU32::new(1)), Arc::new(Mutex::new(Vec::new())));
    let (switch, sink) = (Arc::clone(&away), Arc::clone(&stored));
    let (writer, task) = Groups::start(PACE, move |items: Vec<u32>| {
        let (sink, fail) = (Arc::clone(&sink), switch.load(Ordering::Relaxed) > 0);
        async move {
            if fail {
                return Err(sqlx::Error::PoolTimedOut);
            }
            sink.lock().expect("no panics").extend(items.iter().copied());
            Ok(vec![(); items.len()])
        }
    });
    for item in [1, 2, 3] {
        writer.write_later(item).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(writer.write(10 * item).await, Err(NotWritten));
    }
    away.store(0, Ordering::Relaxed);
    assert_eq!(writer.write(4).await, Ok(()));
    drop(writer);
    task.await.expect("the writer ends");
    assert_eq!(*stored.lock().expect("no panics"), [1, 2, 3, 4]);
}
