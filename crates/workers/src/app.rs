//! One app as its callers see it: the state that its supervisor publishes, the way to the running process, and the commands that
//! the supervisor obeys.

use crate::{
    Call, CallError, Death, Offer, Platform, StartError, Status, WorkerReport, WorkerSpec,
    gate::Gate,
    logs::Journal,
    process::{Process, Shared},
    supervisor::Supervisor,
};
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

const COMMANDS: usize = 64;

/// How and when the last process was lost that nobody stopped.
pub(crate) type LastDeath = Option<(Death, Instant)>;

/// What callers need to know; published by the supervisor.
pub(crate) enum State<P: Platform> {
    Starting,
    Running(Arc<Process<P>>),
    Stopping,
    Stopped,
    /// `round` tells this crash from earlier ones, so that a thousand callers wake the app only once.
    Crashed {
        death: Death,
        round: u64,
    },
}

impl<P: Platform> Clone for State<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Starting => Self::Starting,
            Self::Running(process) => Self::Running(Arc::clone(process)),
            Self::Stopping => Self::Stopping,
            Self::Stopped => Self::Stopped,
            Self::Crashed { death, round } => Self::Crashed { death: death.clone(), round: *round },
        }
    }
}

pub(crate) enum Command {
    /// Replace whatever runs.
    Deploy(Arc<WorkerSpec>, oneshot::Sender<Result<(), StartError>>),
    /// Start unless something runs.
    Ensure(Arc<WorkerSpec>, oneshot::Sender<Result<(), StartError>>),
    /// Try again if this crash is still the last word.
    Wake {
        round: u64,
    },
    Stop(oneshot::Sender<()>),
}

impl Command {
    /// Answers a start that a later stop made pointless; gives anything else back.
    pub(crate) fn unless_start(self) -> Option<Self> {
        match self {
            Self::Deploy(_, done) | Self::Ensure(_, done) => {
                let _ = done.send(Err(StartError::Stopped));
                None
            }
            other => Some(other),
        }
    }
}

/// The handle of an app's supervisor. Dropping it ends the supervisor and kills the process.
pub(crate) struct App<P: Platform> {
    id: Arc<str>,
    gate: Gate,
    state: watch::Receiver<State<P>>,
    last_death: watch::Receiver<LastDeath>,
    commands: mpsc::Sender<Command>,
}

impl<P: Platform> App<P> {
    pub(crate) fn new(id: Arc<str>, shared: Arc<Shared<P>>, journal: Arc<Journal<P>>) -> Self {
        let (publish, state) = watch::channel(State::Starting);
        let (mourn, last_death) = watch::channel(None);
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let gate = Gate::new(Arc::clone(&id), &shared.settings.limits, shared.settings.request_limit);
        tokio::spawn(Supervisor::new(shared, journal, (publish, mourn), inbox).run());
        Self { id, gate, state, last_death, commands }
    }

    pub(crate) fn status(&self) -> Status {
        match &*self.state.borrow() {
            State::Starting => Status::Starting,
            State::Running(_) => Status::Running,
            State::Stopping => Status::Stopping,
            State::Stopped => Status::Stopped,
            State::Crashed { .. } => Status::Crashed,
        }
    }

    pub(crate) fn report(&self) -> WorkerReport {
        let process = self.running();
        WorkerReport {
            status: self.status(),
            memory: process.as_ref().and_then(|process| process.memory()),
            calls_in_flight: process.as_ref().map_or(0, |process| process.calls_in_flight()),
            contacted: process.map_or_else(Vec::new, |process| process.contacts()),
            last_death: self.last_death.borrow().as_ref().map(|(death, at)| (death.clone(), at.elapsed())),
        }
    }

    /// Whether what runs has a handler for jobs; nothing if that is not known, or nothing runs.
    pub(crate) fn takes_jobs(&self) -> Option<bool> {
        self.running()?.offer()?.jobs
    }

    /// What the process that runs has handlers for; nothing if none runs.
    pub(crate) fn offer(&self) -> Option<Offer> {
        self.running()?.offer().cloned()
    }

    /// Sends a command and waits until it has been obeyed; nothing if the supervisor is gone.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.ok()?;
        answer.await.ok()
    }

    /// Calls the running process, or the next one as soon as it is ready, once there is a place for the call.
    pub(crate) async fn call(&self, call: &Call<'_, P::Context>) -> Result<Box<RawValue>, CallError> {
        let begun = Instant::now();
        let _pass = if call.nested { None } else { Some(self.gate.enter(call.params.get().len(), call.timeout).await?) };
        let left = call.timeout.saturating_sub(begun.elapsed());
        if let Ok(outcome) = timeout(left, self.call_now(call, begun)).await {
            return outcome;
        }
        match self.running() {
            Some(process) => process.doubt(),
            // A call is answered at once when its process dies, so this one never had a process.
            None => return Err(CallError::NotReady { app: Arc::clone(&self.id), death: self.lost() }),
        }
        Err(CallError::Timeout(call.timeout))
    }

    /// Why the last process was lost.
    fn lost(&self) -> Option<Death> {
        self.last_death.borrow().as_ref().map(|(death, _)| death.clone())
    }

    async fn call_now(&self, call: &Call<'_, P::Context>, begun: Instant) -> Result<Box<RawValue>, CallError> {
        if let Some(process) = self.running()
            && let Some(outcome) = process.call(call, call.timeout.saturating_sub(begun.elapsed())).await
        {
            return outcome;
        }
        // Boxed, because it is rare: the future of every call would have room for it.
        Box::pin(self.call_when_ready(call, begun)).await
    }

    fn running(&self) -> Option<Arc<Process<P>>> {
        match &*self.state.borrow() {
            State::Running(process) => Some(Arc::clone(process)),
            _ => None,
        }
    }

    async fn call_when_ready(&self, call: &Call<'_, P::Context>, begun: Instant) -> Result<Box<RawValue>, CallError> {
        let mut state = self.state.clone();
        let mut woken = false;
        loop {
            let seen = state.borrow_and_update().clone();
            match seen {
                State::Running(process) => {
                    let left = call.timeout.saturating_sub(begun.elapsed());
                    if let Some(outcome) = process.call(call, left).await {
                        return outcome;
                    }
                }
                State::Starting => {}
                State::Stopping | State::Stopped => break,
                State::Crashed { death, .. } if woken => return Err(CallError::DoesNotStart(death)),
                State::Crashed { round, .. } => {
                    woken = true;
                    // Fails when the inbox is full, which means that others have asked for the same.
                    let _ = self.commands.try_send(Command::Wake { round });
                }
            }
            if state.changed().await.is_err() {
                break;
            }
        }
        Err(CallError::NotRunning { app: Arc::clone(&self.id) })
    }
}
