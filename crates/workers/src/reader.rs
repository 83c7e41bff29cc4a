//! What a worker says: replies to their callers, requests to the platform, the rest to the log.
//!
//! Runs on one task per process and waits for nothing but the next line, so that a call which needs the same worker again
//! (a self-action) can never block itself. Only a flood of what is no reply makes it rest for a moment.

use crate::{
    Failure, Level, Platform,
    flood::Pace,
    frame::{Answer, FromWorker, LINE_LIMIT, Offer, Outcome, PROTOCOL, Question, STORAGE_UPLOAD_URL},
    in_flight::{CallId, InFlight, Reply},
    lines::{Line, Lines},
    logs::{Journal, MESSAGE_LIMIT},
};
use serde_json::value::RawValue;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::{
    process::{ChildStderr, ChildStdout},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// How many self-actions of one process may be at work; a backend that asks for more is refused, not queued.
const SELF_ACTIONS: usize = 1024;
/// What they ask with, in bytes, and what they are answered with and has not been read yet.
const ASKED_BYTES: usize = 64 * 1024 * 1024;
const ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// The longest id of a self-action, in bytes: it comes back with the answer.
const ID_LIMIT: usize = 256;
const STDERR_TAIL: usize = 10;

/// What goes to the task that writes to stdin.
pub(crate) enum Outgoing {
    Line(Vec<u8>),
    /// A line whose room is given back once it is written.
    Answer(Vec<u8>, Vec<OwnedSemaphorePermit>),
    /// Nothing follows: close the pipe.
    Close,
}

/// A process's first word.
pub(crate) enum Handshake {
    Ready { protocol: u64, offer: Offer },
    Fatal { message: String },
}

pub(crate) struct Reader<P: Platform> {
    pub(crate) app: Arc<str>,
    pub(crate) platform: Arc<P>,
    pub(crate) journal: Arc<Journal<P>>,
    pub(crate) calls: Arc<InFlight<P::Context>>,
    pub(crate) lines: mpsc::Sender<Outgoing>,
    pub(crate) request_limit: usize,
    /// Taken by the first `discover` or `fatal`.
    pub(crate) ready: Option<oneshot::Sender<Handshake>>,
    /// What the last `discover` said of that.
    pub(crate) answers_probes: Arc<AtomicBool>,
}

impl<P: Platform> Reader<P> {
    pub(crate) async fn run(mut self, stdout: ChildStdout) {
        let mut lines = Lines::new(stdout, LINE_LIMIT);
        let room = Room::new();
        let mut pace = Pace::new(Instant::now());
        while let Ok(Some(line)) = lines.next().await {
            let noise = match line {
                Line::Whole(line) if self.receive(line, &room) => line.len(),
                Line::Whole(_) => continue,
                Line::TooLong(line) => {
                    self.journal.warn(
                        "dropped a message of more than 1 MiB from the backend, and the call it answers will time out; return less",
                    );
                    line.len()
                }
                Line::Skipped(bytes) => bytes,
            };
            if let Some(end) = pace.count(noise, Instant::now()) {
                sleep_until(end).await;
            }
        }
    }

    /// Does what a line asks for; whether it was anything else than a reply that a call waits for.
    fn receive(&mut self, line: &[u8], room: &Room) -> bool {
        match FromWorker::parse(line) {
            Some(FromWorker::Reply { id, result }) => return !self.reply(id, result),
            Some(FromWorker::Unhandled { id }) => return !self.settle(id, Reply::Unhandled),
            Some(FromWorker::Ask { id, .. }) if id.get().len() > ID_LIMIT => {
                self.journal.warn("dropped a request of the backend, because its id has more than 256 bytes");
            }
            Some(FromWorker::Ask { id, call, question, answer }) => {
                self.ask((Asked { id: id.to_owned(), answer }, question.into()), call, room);
            }
            Some(message) => self.note(message),
            None if line.is_empty() => {}
            None => self.journal.write(Level::Stdout, &String::from_utf8_lossy(line), None),
        }
        true
    }

    fn note(&mut self, message: FromWorker<'_>) {
        match message {
            FromWorker::Reply { .. } | FromWorker::Unhandled { .. } | FromWorker::Ask { .. } => {}
            FromWorker::Log { level, message, call } => {
                self.journal.write(Level::from_worker(level), &message, self.context(call).as_ref());
            }
            FromWorker::Event { text, call } => {
                self.journal.write(Level::Event, &text, self.context(call).as_ref());
            }
            FromWorker::Discover { protocol, offer } => {
                self.answers_probes.store(protocol == PROTOCOL, Relaxed);
                self.first_word(Handshake::Ready { protocol, offer });
            }
            FromWorker::Fatal { message } => self.first_word(Handshake::Fatal { message }),
        }
    }

    /// Whether a call was waiting for it.
    fn reply(&self, id: Option<CallId>, result: Result<&RawValue, Failure>) -> bool {
        let reply = match result {
            Ok(value) => Reply::Result(value.to_owned()),
            Err(failure) => Reply::Error(failure),
        };
        self.settle(id, reply)
    }

    fn settle(&self, id: Option<CallId>, reply: Reply) -> bool {
        let awaited = id.is_some_and(|id| self.calls.settle(&id, reply));
        if !awaited {
            self.journal.warn("dropped a reply to a call that is over or never was");
        }
        awaited
    }

    fn first_word(&mut self, word: Handshake) {
        if let Handshake::Fatal { message } = &word {
            self.journal.write(Level::Error, message, None);
        }
        if let Some(ready) = self.ready.take() {
            // Fails when the start was given up meanwhile.
            let _ = ready.send(word);
        }
    }

    fn context(&self, call: Option<CallId>) -> Option<Arc<P::Context>> {
        call.and_then(|id| self.calls.context(&id))
    }

    /// Answers on a task of its own: the platform may take its time, and stdin may be full.
    fn ask(&self, (asked, question): (Asked, Owned), call: Option<CallId>, room: &Room) {
        let Some(mut held) = room.enter(question.bytes()) else {
            self.journal.warn("dropped a self-action: the backend has more than 1,024 of them, or 64 MiB, at work");
            let refusal = Failure::new("too many self-actions at once; wait for some to finish").with_code("too_many_calls");
            // When even the queue is full, the backend does not read, and an answer would be lost on it.
            let _ = self.lines.try_send(Outgoing::Line(asked.refused(&refusal)));
            return;
        };
        let (app, platform, lines) = (Arc::clone(&self.app), Arc::clone(&self.platform), self.lines.clone());
        let (context, limit, answers) = (self.context(call), self.request_limit, Arc::clone(&room.answers));
        tokio::spawn(async move {
            let line = match context {
                Some(context) => asked.perform(question, &*platform, (app, context), limit).await,
                None => asked.refused(
                    &Failure::new("this call is over, so nothing can be done on its behalf any more").with_code("call_over"),
                ),
            };
            let line = match permits(&answers, line.len()) {
                Some(permit) => {
                    held.push(permit);
                    line
                }
                None => asked.refused(
                    &Failure::new("it was done, but its answer is left out: more than 256 MiB of answers wait to be read")
                        .with_code("answer_dropped"),
                ),
            };
            // Fails when the process is gone.
            let _ = lines.send(Outgoing::Answer(line, held)).await;
        });
    }
}

/// How much a process may ask at once. What it takes is given back when the answer is written.
struct Room {
    places: Arc<Semaphore>,
    asked: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Room {
    fn new() -> Self {
        let of = |size| Arc::new(Semaphore::new(size));
        Self { places: of(SELF_ACTIONS), asked: of(ASKED_BYTES), answers: of(ANSWER_BYTES) }
    }

    /// A place for a question of this size.
    fn enter(&self, bytes: usize) -> Option<Vec<OwnedSemaphorePermit>> {
        Some(vec![permits(&self.places, 1)?, permits(&self.asked, bytes)?])
    }
}

fn permits(of: &Arc<Semaphore>, count: usize) -> Option<OwnedSemaphorePermit> {
    Arc::clone(of).try_acquire_many_owned(u32::try_from(count).ok()?).ok()
}

/// Who asked, and for what kind of answer.
struct Asked {
    id: Box<RawValue>,
    /// The type of the answer.
    answer: &'static str,
}

/// A [`Question`] that outlives its line.
enum Owned {
    SelfAction { action: String, params: Box<RawValue> },
    Data { kind: &'static str, message: Box<RawValue> },
}

impl Owned {
    fn bytes(&self) -> usize {
        match self {
            Self::SelfAction { action, params } => action.len() + params.get().len(),
            Self::Data { message, .. } => message.get().len(),
        }
    }
}

impl From<Question<'_>> for Owned {
    fn from(question: Question<'_>) -> Self {
        match question {
            Question::SelfAction { action, params } => Self::SelfAction { action, params: params.to_owned() },
            Question::Data { kind, message } => Self::Data { kind, message: message.to_owned() },
        }
    }
}

impl Asked {
    /// Asks the platform and words its answer as a line.
    async fn perform<P: Platform>(
        &self,
        question: Owned,
        platform: &P,
        (app, context): (Arc<str>, Arc<P::Context>),
        limit: usize,
    ) -> Vec<u8> {
        let outcome = match question {
            Owned::SelfAction { action, params } => platform.self_action(app, context, action, params).await,
            Owned::Data { kind, message } => platform.data(app, context, kind, message).await,
        };
        let failure = match outcome {
            Ok(result) if result.get().len() <= limit => {
                let outcome = if self.answer == STORAGE_UPLOAD_URL { Outcome::Url(&result) } else { Outcome::Result(&result) };
                return Answer { kind: self.answer, id: &self.id, outcome }.line();
            }
            Ok(result) => crate::CallError::TooLarge { bytes: result.get().len(), limit }.into_failure(),
            Err(error) => error.into_failure(),
        };
        self.refused(&failure)
    }

    fn refused(&self, failure: &Failure) -> Vec<u8> {
        Answer { kind: self.answer, id: &self.id, outcome: Outcome::Error(failure.into()) }.line()
    }
}

/// The last lines a process wrote to stderr: the reason, when it does not come up.
#[derive(Default)]
pub(crate) struct StderrTail(Mutex<VecDeque<String>>);

impl StderrTail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == STDERR_TAIL {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Copies stderr to the log, line by line.
pub(crate) async fn follow_stderr<P: Platform>(stderr: ChildStderr, journal: Arc<Journal<P>>, tail: Arc<StderrTail>) {
    let mut lines = Lines::new(stderr, MESSAGE_LIMIT);
    let mut pace = Pace::new(Instant::now());
    while let Ok(Some(line)) = lines.next().await {
        let read = match line {
            Line::Whole([]) => continue,
            Line::Whole(bytes) | Line::TooLong(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                tail.push(&text);
                journal.write(Level::Stderr, &text, None);
                bytes.len()
            }
            Line::Skipped(bytes) => bytes,
        };
        if let Some(end) = pace.count(read, Instant::now()) {
            sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_asks_with_is_bounded_until_it_is_answered() {
        let room = Room::new();
        let first = room.enter(ASKED_BYTES).expect("there is room");
        assert!(room.enter(1).is_none());
        drop(first);
        let all: Vec<_> = (0..SELF_ACTIONS).map_while(|_| room.enter(1)).collect();
        assert_eq!((all.len(), room.enter(0).is_none()), (SELF_ACTIONS, true));
    }
}
