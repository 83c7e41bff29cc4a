//! One running worker process: brought up, called, finished. Four tasks belong to it: stdin, stdout, stderr, and a keeper that
//! waits for its end, kills what is left of its group and only then ends its calls, so that replies written before the end
//! still arrive. Letting go of every handle kills it.

use crate::{
    Call, CallError, Death, DeathKind, HostSettings, Job, Platform, StartError, WorkerSpec, confine,
    frame::{self, Offer, ToWorker},
    in_flight::{InFlight, Reply},
    keeper::Keeper,
    logs::Journal,
    outbound::Outbound,
    reader::{Handshake, Outgoing, Reader, StderrTail, follow_stderr},
    spawn::{self, Spawned},
    vitals::Vitals,
};
use serde_json::value::RawValue;
use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    process::ChildStdin,
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::{sleep, sleep_until, timeout},
};

/// Lines that may wait for stdin; whoever comes later waits within the time of its call.
const QUEUE: usize = 4096;
const BATCH: usize = 256;
/// How long `onStart` may ask the platform for something.
const START_LIMIT: Duration = Duration::from_mins(1);
/// A method that no backend has: names with two underscores belong to the platform.
const PROBE: &str = "__probe";
/// A batch buffer larger than this is not kept.
const BATCH_BYTES: usize = 1024 * 1024;

/// What every process of a host shares.
pub(crate) struct Shared<P> {
    pub(crate) settings: HostSettings,
    pub(crate) platform: Arc<P>,
}

pub(crate) struct Process<P: Platform> {
    calls: Arc<InFlight<P::Context>>,
    lines: mpsc::Sender<Outgoing>,
    kill: watch::Sender<Option<Death>>,
    exit: watch::Receiver<Option<Death>>,
    vitals: Arc<Vitals>,
    request_limit: usize,
    silence: Duration,
    /// Whether it answers calls of methods that it does not have; one that reads its stdin by itself may not. It may say so late.
    answers_probes: Arc<AtomicBool>,
    probing: AtomicBool,
    /// What it has handlers for, once it has said so.
    offer: OnceLock<Offer>,
}

impl<P: Platform> Process<P> {
    /// Starts a process and waits until it has evaluated its entry point.
    pub(crate) async fn start(
        shared: Arc<Shared<P>>,
        journal: Arc<Journal<P>>,
        spec: Arc<WorkerSpec>,
    ) -> Result<Arc<Self>, StartError> {
        let settings = &shared.settings;
        let (calls, vitals) = (Arc::new(InFlight::new()), Arc::new(Vitals::default()));
        let outbound = settings.confinement.clone().map(|confinement| {
            let told = (Arc::clone(&spec.app_id), Arc::clone(&shared.platform), Arc::clone(&journal));
            Outbound::new(told, (Arc::clone(&calls), Arc::clone(&vitals)), (Arc::clone(&spec), confinement))
        });
        let spawned = match outbound {
            Some(outbound) => confine::spawn(settings, &spec, outbound).await?,
            None => spawn::spawn(settings, &spec)?,
        };
        let tail = Arc::new(StderrTail::default());
        let (ready, word) = oneshot::channel();
        let process = Self::attach(spawned, &shared, journal, (&spec, calls, vitals), (ready, Arc::clone(&tail)));
        let context = if spec.run_on_start { shared.platform.start_context(&spec.app_id) } else { None };
        match context {
            Some(context) => process.begin_start(context, (settings.clone(), Arc::clone(&spec))).await,
            // The queue is empty, so this neither waits nor fails.
            None => _ = process.lines.send(Outgoing::Line(discover(settings, &spec, None))).await,
        }
        match timeout(settings.start_timeout, process.handshake(word, &tail)).await {
            Ok(outcome) => outcome.map(|()| Arc::new(process)),
            Err(_) => Err(StartError::Timeout { after: settings.start_timeout, stderr: tail.lines() }),
        }
    }

    fn attach(
        spawned: Spawned,
        shared: &Shared<P>,
        journal: Arc<Journal<P>>,
        (spec, calls, vitals): (&WorkerSpec, Arc<InFlight<P::Context>>, Arc<Vitals>),
        (ready, tail): (oneshot::Sender<Handshake>, Arc<StderrTail>),
    ) -> Self {
        let (lines, queue) = mpsc::channel(QUEUE);
        let (kill, killed) = watch::channel(None);
        let (exited, exit) = watch::channel(None);
        let mut limits = shared.settings.limits.clone();
        limits.memory = spec.memory_limit.unwrap_or(u64::MAX).min(limits.memory);
        let (request_limit, answers_probes) = (shared.settings.request_limit, Arc::new(AtomicBool::new(false)));
        let reader = Reader {
            app: Arc::clone(&spec.app_id),
            platform: Arc::clone(&shared.platform),
            journal: Arc::clone(&journal),
            calls: Arc::clone(&calls),
            lines: lines.clone(),
            request_limit,
            ready: Some(ready),
            answers_probes: Arc::clone(&answers_probes),
        };
        let keeper = Keeper {
            child: spawned.child,
            broker: spawned.broker,
            stdin: tokio::spawn(write(spawned.stdin, queue)),
            stdout: tokio::spawn(reader.run(spawned.stdout)),
            stderr: tokio::spawn(follow_stderr(spawned.stderr, Arc::clone(&journal), tail)),
            killed,
            limits,
            vitals: Arc::clone(&vitals),
            calls: Arc::clone(&calls),
            journal,
        };
        let table = Arc::clone(&calls);
        tokio::spawn(async move {
            let death = keeper.run().await;
            table.bury(&death);
            exited.send_replace(Some(death));
        });
        let silence = shared.settings.limits.silence;
        let (probing, offer) = (AtomicBool::new(false), OnceLock::new());
        Self { calls, lines, kill, exit, vitals, request_limit, silence, answers_probes, probing, offer }
    }

    /// Sends the first line with an id for `onStart`, which is good until that has ended or its time is over.
    async fn begin_start(&self, context: Arc<P::Context>, (settings, spec): (HostSettings, Arc<WorkerSpec>)) {
        let (calls, lines) = (Arc::clone(&self.calls), self.lines.clone());
        let (begun, sent) = oneshot::channel();
        tokio::spawn(async move {
            let Some(ticket) = calls.open(Some(context)) else { return };
            let line = discover(&settings, &spec, Some(ticket.id().as_str()));
            let _ = lines.send(Outgoing::Line(line)).await;
            let _ = begun.send(());
            // What it answers with says only that it has ended: a failure is in the log already.
            let _ = timeout(START_LIMIT, ticket.answer()).await;
        });
        // Nothing may go before the first line.
        let _ = sent.await;
    }

    async fn handshake(&self, word: oneshot::Receiver<Handshake>, tail: &StderrTail) -> Result<(), StartError> {
        match word.await {
            Ok(Handshake::Ready { protocol, offer }) if protocol <= frame::PROTOCOL => {
                self.calls.touch();
                let _ = self.offer.set(offer);
                Ok(())
            }
            Ok(Handshake::Ready { protocol, .. }) => Err(StartError::Protocol { found: protocol }),
            Ok(Handshake::Fatal { message }) => Err(StartError::Fatal { message }),
            // The reader is gone: the process has ended or is about to.
            Err(_) => Err(StartError::Exited { death: self.exited().await, stderr: tail.lines() }),
        }
    }

    /// Calls a handler; nothing if this process takes no calls any more, in which case nothing was sent. The caller bounds the
    /// time; `timeout` is only passed on.
    pub(crate) async fn call(&self, call: &Call<'_, P::Context>, timeout: Duration) -> Option<Result<Box<RawValue>, CallError>> {
        let bytes = call.params.get().len();
        if bytes > self.request_limit {
            return Some(Err(CallError::TooLarge { bytes, limit: self.request_limit }));
        }
        let ticket = self.calls.open(Some(Arc::clone(call.context)))?;
        let (id, caller) = (ticket.id().as_str(), call.caller);
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let message = match call.job {
            Some(Job { id: message, attempt }) => {
                let msg_id = message.to_string();
                ToWorker::Job { id, payload: call.params, caller, msg_id, attempt, timeout_ms }
            }
            None => ToWorker::Rpc { id, method: call.method, params: call.params, caller, timeout_ms },
        };
        // Fails when the process is ending; the answer then says why.
        let _ = self.lines.send(Outgoing::Line(message.line(bytes + 256))).await;
        Some(match ticket.answer().await {
            Reply::Result(result) => Ok(result),
            Reply::Died(death) => Err(CallError::Died(death)),
            Reply::Unhandled => Err(CallError::UnknownMethod { method: call.method.to_owned() }),
            // A backend that speaks the protocol by hand says it by the code.
            Reply::Error(failure) if failure.code.as_deref() == Some("unknown_method") && !self.answers_probes.load(Relaxed) => {
                Err(CallError::UnknownMethod { method: call.method.to_owned() })
            }
            Reply::Error(failure) => Err(failure.into()),
        })
    }

    pub(crate) fn offer(&self) -> Option<&Offer> {
        self.offer.get()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Finds out whether the process still reads its messages, after a call that it did not answer in time, and kills it if not.
    pub(crate) fn doubt(self: &Arc<Self>) {
        if self.answers_probes.load(Relaxed) && !self.probing.swap(true, Relaxed) {
            let process = Arc::clone(self);
            tokio::spawn(async move {
                process.probe().await;
                process.probing.store(false, Relaxed);
            });
        }
    }

    /// Calls a method that no backend has: a process that reads at all says so at once.
    async fn probe(&self) {
        let Some(ticket) = self.calls.open(None) else { return };
        let timeout_ms = u64::try_from(self.silence.as_millis()).unwrap_or(u64::MAX);
        let (id, params) = (ticket.id().as_str(), RawValue::NULL);
        let line = ToWorker::Rpc { id, method: PROBE, params, caller: None, timeout_ms }.line(256);
        let answer = async {
            let _ = self.lines.send(Outgoing::Line(line)).await;
            ticket.answer().await
        };
        if timeout(self.silence, answer).await.is_err() {
            let reason = format!("it stopped answering: it read no message for {:?} after a call had timed out", self.silence);
            self.kill.send_replace(Some(Death::new(DeathKind::Unresponsive, reason)));
        }
    }

    pub(crate) fn calls_in_flight(&self) -> usize {
        self.calls.count()
    }

    /// Resident memory in bytes, once it is known.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.vitals.resident()
    }

    /// Whom it contacted, as `host:port`.
    pub(crate) fn contacts(&self) -> Vec<String> {
        self.vitals.contacts()
    }

    /// Returns when there was no call for that long.
    pub(crate) async fn unused_for(&self, limit: Duration) {
        loop {
            match self.calls.unused_since() {
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => sleep_until(since + limit).await,
                None => sleep(limit).await,
            }
        }
    }

    /// Waits for the end of the process and says why it came.
    pub(crate) async fn exited(&self) -> Death {
        let death = self.exit.clone().wait_for(Option::is_some).await.ok().and_then(|death| death.clone());
        // The keeper always leaves a reason unless the runtime itself goes down.
        death.unwrap_or_else(|| Death::new(DeathKind::Stopped, "the server is shutting down"))
    }

    /// Lets calls in flight finish, asks the process to finish, and kills what is left; `patience` bounds each of the two.
    pub(crate) async fn finish(&self, patience: Duration) {
        self.calls.retire();
        let _ = timeout(patience, self.calls.idle()).await;
        self.calls
            .bury(&Death::new(DeathKind::Stopped, "it was stopped, and the call took longer than the time given to finish"));
        let _ = timeout(patience, async {
            // Both fail only when the process is gone already.
            let _ = self.lines.send(Outgoing::Line(ToWorker::Shutdown.line(32))).await;
            let _ = self.lines.send(Outgoing::Close).await;
            self.exited().await
        })
        .await;
        self.kill.send_replace(Some(Death::new(DeathKind::Stopped, "it was stopped")));
        self.exited().await;
    }
}

fn discover(settings: &HostSettings, spec: &WorkerSpec, start_call: Option<&str>) -> Vec<u8> {
    ToWorker::Discover {
        app_id: &spec.app_id,
        runtime_url: &settings.runtime_url,
        credentials: &spec.credentials,
        manifest: &spec.manifest,
        run_onstart: spec.run_on_start,
        start_call,
        dev: spec.dev,
    }
    .line(1024)
}

/// Writes queued lines to stdin, as many at once as there are.
async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<Outgoing>) -> io::Result<()> {
    let (mut batch, mut bytes, mut held) = (Vec::with_capacity(BATCH), Vec::new(), Vec::new());
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // Whoever is ready at the same moment gets to queue its line first: writing costs more than all else about a line, and so
        // does waking the worker for it.
        yield_now().await;
        while batch.len() < BATCH
            && let Ok(message) = queue.try_recv()
        {
            batch.push(message);
        }
        let mut last = false;
        for message in batch.drain(..) {
            match message {
                Outgoing::Line(line) => bytes.extend_from_slice(&line),
                Outgoing::Answer(line, room) => {
                    bytes.extend_from_slice(&line);
                    held.extend(room);
                }
                Outgoing::Close => last = true,
            }
        }
        stdin.write_all(&bytes).await?;
        held.clear();
        if last {
            break;
        }
        bytes.clear();
        bytes.shrink_to(BATCH_BYTES);
    }
    Ok(())
}
