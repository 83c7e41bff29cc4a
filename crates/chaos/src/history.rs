//! What the callers did and saw, and what was done to the servers meanwhile.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;

/// What a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// An action that returns what it got.
    Echo,
    /// The same through another integration.
    Nested,
    /// A method of an app.
    Rpc,
    /// An action with an idempotency key, repeated until the outcome is known.
    Once,
    /// A destructive action.
    Destroy,
    /// A request of a sender.
    Webhook,
    /// An action that the caller has no right to.
    Forbidden,
    /// The check after a round that everything works again.
    Probe,
    /// A job with an idempotency key, asked for until the outcome is known.
    Enqueue,
    /// A new record.
    Create,
    /// A change of a record.
    Update,
    /// The end of a record.
    Delete,
    /// New records that are taken back, because one of them cannot be.
    Refused,
}

impl Operation {
    /// Whether it is something that leads to work later, rather than a call.
    pub const fn is_later(self) -> bool {
        matches!(self, Self::Enqueue | Self::Create | Self::Update | Self::Delete | Self::Refused)
    }
}

/// How an attempt ended, as its caller saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum Outcome {
    /// A 2xx with its body and the run that it names.
    Ok { status: u16, body: Value, run: Option<String> },
    /// Another status.
    Fail { status: u16, code: String, error: String },
    /// No answer: whether anything was done is not known.
    Unknown { error: String },
}

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    pub round: u64,
    /// Microseconds since the program began.
    pub invoked: u64,
    pub ended: u64,
    pub caller: usize,
    pub node: usize,
    pub operation: Operation,
    /// Names the wish; repeated attempts at one wish share it.
    pub nonce: String,
    pub trace: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Attempt(Attempt),
    Event { round: u64, at: u64, event: String },
}

/// Everything that happened, in the order in which it was recorded.
pub struct History {
    begun: Instant,
    entries: Vec<Entry>,
}

impl History {
    pub fn begin() -> Self {
        Self { begun: Instant::now(), entries: Vec::new() }
    }

    pub fn begun(&self) -> Instant {
        self.begun
    }

    pub fn event(&mut self, round: u64, event: impl Into<String>) {
        let at = micros(self.begun.elapsed());
        self.entries.push(Entry::Event { round, at, event: event.into() });
    }

    pub fn record(&mut self, attempts: &[Attempt]) {
        self.entries.extend(attempts.iter().cloned().map(Entry::Attempt));
    }

    /// Writes a JSON object per line.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for entry in &self.entries {
            serde_json::to_writer(&mut file, entry)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
