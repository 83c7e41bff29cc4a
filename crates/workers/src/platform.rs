//! The seam to the platform: what it gives with a call and what the host asks of it. The context is opaque here; the host only
//! keeps it beside the call and hands it back.

use crate::{CallError, Death, Failure, LogLine};
use serde::Serialize;
use serde_json::value::RawValue;
use std::{fmt, sync::Arc, time::Duration};

/// What the host asks of the platform while calls are in flight.
pub trait Platform: Send + Sync + 'static {
    /// Who calls, which run this belongs to: whatever the platform wants back.
    type Context: Send + Sync + 'static;

    /// Does what a backend asks for on behalf of the call that `context` came with. Runs beside the worker's other traffic, and
    /// goes on when that call ends meanwhile.
    fn self_action(
        &self,
        app: Arc<str>,
        context: Arc<Self::Context>,
        action: String,
        params: Box<RawValue>,
    ) -> impl Future<Output = Result<Box<RawValue>, CallError>> + Send;

    /// Answers a question about data on behalf of the call that `context` came with: `kind` is the type of `message`, which is the
    /// whole line of the backend. As [`Self::self_action`], beside everything else.
    fn data(
        &self,
        app: Arc<str>,
        context: Arc<Self::Context>,
        kind: &'static str,
        message: Box<RawValue>,
    ) -> impl Future<Output = Result<Box<RawValue>, CallError>> + Send {
        let _ = (app, context, message);
        std::future::ready(Err(Failure::new(format!("`{kind}` is nothing that this platform answers")).into()))
    }

    /// What `onStart` of an app has in place of a call's context; nothing where it may ask for nothing.
    fn start_context(&self, app: &str) -> Option<Arc<Self::Context>> {
        let _ = app;
        None
    }

    /// Sees every log line with the context of the call that wrote it, when there is one. Called on the task that reads the
    /// worker, so it must be quick and must not block.
    fn log(&self, app: &str, context: Option<&Arc<Self::Context>>, line: &LogLine) {
        let _ = (app, context, line);
    }

    /// Hears that a process connected to a host while this was its only call in flight. Must be quick and must not block.
    fn contacted(&self, app: &str, context: &Arc<Self::Context>, host: &str, port: u16) {
        let _ = (app, context, host, port);
    }

    /// Hears that a process was lost that nobody stopped, or did not come up again. Must be quick and must not block.
    fn died(&self, app: &str, death: &Death) {
        let _ = (app, death);
    }
}

/// The job that a call is an attempt at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: i64,
    /// 1, or more when it is tried again.
    pub attempt: i32,
}

/// One call of a backend's handler. Its parts are lent by whoever waits for the answer.
pub struct Call<'a, C> {
    pub method: &'a str,
    /// Makes it a call of `onJob`, whatever the method is called, and the parameters the job's payload.
    pub job: Option<Job>,
    pub params: &'a RawValue,
    /// `{userId, email, connectionId?, appId?}`, or nothing when the platform itself calls.
    pub caller: Option<&'a RawValue>,
    pub context: &'a Arc<C>,
    /// Covers everything, waiting for a place and a start of the process included.
    pub timeout: Duration,
    /// Whether it is made on behalf of another call that is at work. Such a call never waits for a place, because the places may
    /// all be taken by the calls that wait for it.
    pub nested: bool,
}

/// What an app's worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A process is being started, or waits for its restart.
    Starting,
    Running,
    /// Calls in flight may finish; new ones are refused.
    Stopping,
    Stopped,
    /// It died too often or never came up; the next call or start tries once more.
    Crashed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
        })
    }
}

/// How the worker of one app is.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    pub status: Status,
    /// Resident memory in bytes, while it runs and where the system tells.
    pub memory: Option<u64>,
    /// Calls that its running process is working on.
    pub calls_in_flight: usize,
    /// Whom the running process contacted so far, as `host:port`; known where it is in a jail.
    pub contacted: Vec<String>,
    /// Why the last process was lost that nobody stopped, and how long ago.
    pub last_death: Option<(Death, Duration)>,
}

impl<C> fmt::Debug for Call<'_, C> {
    /// The method only: parameters may hold anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
