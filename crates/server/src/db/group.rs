//! Group commit: many small writes, one statement.
//!
//! A row committed alone costs a disk flush; hundreds in one statement cost one too. Writers hand their item over and may wait
//! until it is on disk. A group is written as soon as the previous one is done, so a lone writer waits for nobody.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinHandle,
};

/// Items per statement at most.
const GROUP_SIZE: usize = 500;

/// How long a group may take until those who wait for it are refused. A database that hangs says nothing, and keeps none of its own limits.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a failure is news where nothing was written after it.
const NEWS: Duration = Duration::from_secs(30);

/// The group could not be written; the item is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database did not take the write")]
pub struct NotWritten;

type Waiter<R> = Option<oneshot::Sender<Result<R, NotWritten>>>;

/// A handle to write items of type `T` in groups; each answers with an `R`.
pub struct Groups<T, R> {
    sender: mpsc::Sender<(T, Waiter<R>)>,
    /// Tells the writer that somebody waits.
    hurry: Arc<Notify>,
    trouble: Arc<Trouble>,
}

impl<T, R> Clone for Groups<T, R> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), hurry: Arc::clone(&self.hurry), trouble: Arc::clone(&self.trouble) }
    }
}

/// How a group writer treats items that nobody waits for.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many items may wait in memory before writers are slowed down.
    pub capacity: usize,
    /// How long to collect a group when nobody waits for it.
    pub gather: Duration,
}

impl<T: Send + Clone + 'static, R: Send + 'static> Groups<T, R> {
    /// Starts the writer. `write` stores one group and returns an answer for each item, in order.
    /// It ends, everything written, when the last handle is dropped.
    pub fn start<W, F>(pace: Pace, write: W) -> (Self, JoinHandle<()>)
    where
        W: Fn(Vec<T>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<R>, sqlx::Error>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(pace.capacity);
        let (hurry, trouble) = (Arc::new(Notify::new()), Arc::new(Trouble::default()));
        let handle = Self { sender, hurry: Arc::clone(&hurry), trouble: Arc::clone(&trouble) };
        (handle, tokio::spawn(run(receiver, (hurry, trouble), pace, write)))
    }

    /// Whether the last group could not be written, as far as that was lately.
    pub fn fails(&self) -> bool {
        self.trouble.lasts()
    }

    /// Stores an item and waits until it is on disk.
    pub async fn write(&self, item: T) -> Result<R, NotWritten> {
        let (waiter, answer) = oneshot::channel();
        self.sender.send((item, Some(waiter))).await.map_err(|_| NotWritten)?;
        self.hurry.notify_one();
        answer.await.map_err(|_| NotWritten)?
    }

    /// Stores an item soon. It is kept in memory and tried again while the database is away.
    ///
    /// It is handed over now, not when this is awaited, so that whoever calls has no room for it in its own future. Awaiting it is
    /// waiting for a place, where there was none: an item that never gets one is not stored.
    pub fn write_later(&self, item: T) -> impl Future<Output = ()> + Send {
        let waits = match self.sender.try_send((item, None)) {
            Err(TrySendError::Full(item)) => Some(Box::pin(self.sender.send(item))),
            sent => {
                told_of_end(sent.is_ok());
                None
            }
        };
        async move {
            if let Some(sending) = waits {
                told_of_end(sending.await.is_ok());
            }
        }
    }
}

/// When a group last failed, if none was written since. Told once, however often it is tried.
#[derive(Default)]
struct Trouble(Mutex<Option<Instant>>);

impl Trouble {
    fn begin(&self, error: &sqlx::Error, items: usize) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now()).is_none() {
            tracing::warn!(%error, items, "records cannot be written; who waits for one is refused, the others are kept and tried again");
        }
    }

    fn end(&self) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("records are written again");
        }
    }

    fn lasts(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|since| since.elapsed() < NEWS)
    }
}

fn told_of_end(stored: bool) {
    if !stored {
        tracing::error!("a record arrived after its writer had stopped");
    }
}

async fn run<T, R, W, F>(
    mut receiver: mpsc::Receiver<(T, Waiter<R>)>,
    (hurry, trouble): (Arc<Notify>, Arc<Trouble>),
    pace: Pace,
    write: W,
) where
    T: Clone,
    W: Fn(Vec<T>) -> F,
    F: Future<Output = Result<Vec<R>, sqlx::Error>>,
{
    let mut group: Vec<(T, Waiter<R>)> = Vec::with_capacity(GROUP_SIZE);
    while receiver.recv_many(&mut group, GROUP_SIZE).await > 0 {
        gather(&mut receiver, &mut group, &hurry, pace.gather).await;
        store(&mut receiver, &mut group, (pace.capacity, &trouble), &write).await;
    }
}

/// Waits for company as long as nobody waits for the group. What comes meanwhile wakes nobody.
async fn gather<T, R>(
    receiver: &mut mpsc::Receiver<(T, Waiter<R>)>,
    group: &mut Vec<(T, Waiter<R>)>,
    hurry: &Notify,
    time: Duration,
) {
    if group.len() < GROUP_SIZE && group.iter().all(|(_, waiter)| waiter.is_none()) {
        let _ = tokio::time::timeout(time, hurry.notified()).await;
    }
    while group.len() < GROUP_SIZE
        && let Ok(item) = receiver.try_recv()
    {
        group.push(item);
    }
}

/// Writes a group. When the database is away, those who wait are told at once and the rest is tried again until it works.
/// Meanwhile others are let into the group: whoever waits must not wait for that.
async fn store<T: Clone, R, W, F>(
    receiver: &mut mpsc::Receiver<(T, Waiter<R>)>,
    group: &mut Vec<(T, Waiter<R>)>,
    (most, trouble): (usize, &Trouble),
    write: &W,
) where
    W: Fn(Vec<T>) -> F,
    F: Future<Output = Result<Vec<R>, sqlx::Error>>,
{
    let mut delay = Duration::from_millis(50);
    while !group.is_empty() {
        let size = group.len().min(GROUP_SIZE);
        let mut writing = pin!(write(group.iter().take(size).map(|(item, _)| item.clone()).collect()));
        let written = if let Ok(written) = tokio::time::timeout(PATIENCE, &mut writing).await {
            written
        } else {
            hold_out(receiver, group, (most, trouble), writing).await
        };
        match written {
            Ok(answers) => {
                trouble.end();
                for ((_, waiter), answer) in group.drain(..size).zip(answers) {
                    if let Some(waiter) = waiter {
                        // The writer may have gone away; its item is stored all the same.
                        let _ = waiter.send(Ok(answer));
                    }
                }
            }
            Err(error) if refuses_an_item(&error) => {
                let refused = group.drain(..size).collect();
                store_singly(receiver, refused, (&error, trouble), write).await;
            }
            Err(error) => {
                trouble.begin(&error, group.len());
                group.retain_mut(|(_, waiter)| match waiter.take() {
                    Some(waiter) => {
                        let _ = waiter.send(Err(NotWritten));
                        false
                    }
                    None => true,
                });
                pause(receiver, group, most, delay).await;
                delay = (delay * 2).min(Duration::from_secs(2));
            }
        }
    }
}

/// Waits for a group that hangs, to its end: what is given up half-way is neither written nor not written, and its connection of no use.
/// Who waits for a record is told at once that it is not stored; what nobody waits for is taken in, up to so many.
async fn hold_out<T, R, F: Future>(
    receiver: &mut mpsc::Receiver<(T, Waiter<R>)>,
    group: &mut Vec<(T, Waiter<R>)>,
    (most, trouble): (usize, &Trouble),
    mut writing: Pin<&mut F>,
) -> F::Output {
    trouble.begin(&hangs(), group.len());
    for waiter in group.iter_mut().filter_map(|(_, waiter)| waiter.take()) {
        let _ = waiter.send(Err(NotWritten));
    }
    loop {
        tokio::select! {
            written = &mut writing => return written,
            Some((item, waiter)) = receiver.recv(), if group.len() < most => match waiter {
                Some(waiter) => {
                    // It lasts as long as anybody is refused.
                    trouble.begin(&hangs(), group.len());
                    let _ = waiter.send(Err(NotWritten));
                }
                None => group.push((item, None)),
            },
        }
    }
}

fn hangs() -> sqlx::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer for {} s", PATIENCE.as_secs())).into()
}

/// Waits before the next attempt and takes in, up to so many, what comes meanwhile; ends early for somebody who waits, and for all who do.
async fn pause<T, R>(
    receiver: &mut mpsc::Receiver<(T, Waiter<R>)>,
    group: &mut Vec<(T, Waiter<R>)>,
    most: usize,
    time: Duration,
) {
    let end = tokio::time::Instant::now() + time;
    while !group.is_empty() && group.len() < most {
        match tokio::time::timeout_at(end, receiver.recv()).await {
            Ok(Some(item)) => {
                let waits = item.1.is_some();
                group.push(item);
                if waits {
                    // An attempt may take its time, and each of them would wait for one of its own.
                    while group.len() < most
                        && let Ok(item) = receiver.try_recv()
                    {
                        group.push(item);
                    }
                    return;
                }
            }
            Ok(None) => break,
            Err(_) => return,
        }
    }
    if !group.is_empty() {
        tokio::time::sleep_until(end).await;
    }
}

/// Whether it is the content of an item that the database does not take, now or ever: a value it cannot hold, or a broken rule.
fn refuses_an_item(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // Classes: data exception, integrity constraint violation, program limit exceeded.
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

/// Writes each item by itself, so that a bad one takes no other with it; it is given up, because trying again does not help.
async fn store_singly<T: Clone, R, W, F>(
    receiver: &mut mpsc::Receiver<(T, Waiter<R>)>,
    mut group: Vec<(T, Waiter<R>)>,
    (error, trouble): (&sqlx::Error, &Trouble),
    write: &W,
) where
    W: Fn(Vec<T>) -> F,
    F: Future<Output = Result<Vec<R>, sqlx::Error>>,
{
    if group.len() > 1 {
        for item in group {
            // Nothing is taken in beside it: what comes is not to be stored before what was here.
            Box::pin(store(receiver, &mut vec![item], (1, trouble), write)).await;
        }
        return;
    }
    tracing::error!(%error, "a record that the database refuses is lost");
    if let Some((_, Some(waiter))) = group.pop() {
        let _ = waiter.send(Err(NotWritten));
    }
}

#[cfg(test)]
mod tests;
