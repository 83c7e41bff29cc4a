//! What is done later: jobs, ticks of crons, and hooks on the records of an app.
//!
//! `story` enqueues and changes records, `books` reads what became of all of it, and `check` compares the two. Unlike a call, a job has no
//! moment at which it has to be over, so this is checked now and then, when nothing is broken any more and the queue has been worked off.

mod app;
mod books;
mod check;
mod story;

pub use app::{APP, install, permissions};

use std::time::{Duration, Instant};

use crate::{
    history::{Attempt, micros},
    site::{Site, pause},
};

/// How long the queue may take until all that was in it is over: longer than a lease that its holder died with.
const PATIENCE: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(500);
/// How often this program looks whether it stood still.
const PULSE: Duration = Duration::from_millis(100);
/// A pause of this program itself that is longer says that the machine stood still.
const STILL: Duration = Duration::from_millis(500);

/// Everything that was asked for, and when nobody could have done it.
pub struct Later {
    begun: Instant,
    attempts: Vec<Attempt>,
    /// From when to when no server fires ticks, in microseconds since the beginning.
    outages: Vec<(u64, u64)>,
    stalls: tokio::sync::mpsc::UnboundedReceiver<(u64, u64)>,
}

/// What a check has seen, for people.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    pub jobs: usize,
    pub changes: usize,
    pub ticks: usize,
    /// Jobs that took more than one attempt.
    pub repeated: usize,
    /// Jobs of hooks and crons whose attempts were all broken off.
    pub given_up: usize,
}

impl Later {
    pub fn new(begun: Instant) -> Self {
        let (noticed, stalls) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut last = begun.elapsed();
            while !noticed.is_closed() {
                pause(PULSE).await;
                let now = begun.elapsed();
                if now.saturating_sub(last) > STILL {
                    let _ = noticed.send((micros(last), micros(now)));
                }
                last = now;
            }
        });
        Self { begun, attempts: Vec::new(), outages: Vec::new(), stalls }
    }

    /// Keeps what callers asked for to be done later.
    pub fn record(&mut self, attempts: &[Attempt]) {
        self.attempts.extend(attempts.iter().filter(|attempt| attempt.operation.is_later()).cloned());
    }

    /// Keeps in mind that from then until now no server could fire ticks.
    pub fn outage(&mut self, from: Instant) {
        self.outages.push((micros(from.duration_since(self.begun)), micros(self.begun.elapsed())));
    }

    /// Waits until the queue is worked off, and says what was broken since the beginning.
    pub async fn check(&mut self, site: &Site) -> anyhow::Result<(Seen, Vec<String>)> {
        let mut connection = site.connect().await?;
        let horizon = books::horizon(&mut connection).await?;
        let waiting = Instant::now();
        while books::unfinished(&mut connection, horizon).await? > 0 && waiting.elapsed() < PATIENCE {
            pause(POLL).await;
        }
        while let Ok(stall) = self.stalls.try_recv() {
            self.outages.push(stall);
        }
        let books = books::read(&mut connection, horizon, micros(self.begun.elapsed())).await?;
        let seen = Seen {
            jobs: books.jobs.len(),
            changes: books.changes.len(),
            ticks: books.ticks.len(),
            repeated: books.jobs.iter().filter(|job| job.attempts > 1).count(),
            given_up: books.jobs.iter().filter(|job| job.was_given_up()).count(),
        };
        Ok((seen, check::violations(&self.attempts, &books, &self.outages)))
    }
}
