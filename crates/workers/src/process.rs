//! One running worker process: brought up, called, finished. Four tasks belong to it: stdin, stdout, stderr, and a keeper that
//! waits for its end, kills what is left of its group and only then ends its calls, so that replies written before the end
//! still arrive. Letting go of every handle kills it.

use crate::{
    Call, CallError, HostSettings, Platform, StartError, WorkerSpec,
    frame::{self, ToWorker},
    in_flight::{InFlight, Reply},
    logs::Journal,
    reader::{Handshake, Outgoing, Reader, StderrTail, follow_stderr},
    spawn::{self, Spawned},
};
use serde_json::value::RawValue;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

/// Lines that may wait for stdin; whoever comes later waits within the time of its call.
const QUEUE: usize = 4096;
const BATCH: usize = 256;
/// A batch buffer larger than this is not kept.
const BATCH_BYTES: usize = 1024 * 1024;
/// How long a process may live on after closing its stdout, and how long the pipes may be read after its end.
const GRACE: Duration = Duration::from_millis(500);

/// What every process of a host shares.
pub(crate) struct Shared<P> {
    pub(crate) settings: HostSettings,
    pub(crate) platform: Arc<P>,
}

pub(crate) struct Process<P: Platform> {
    calls: Arc<InFlight<P::Context>>,
    lines: mpsc::Sender<Outgoing>,
    kill: watch::Sender<bool>,
    exit: watch::Receiver<Option<Arc<str>>>,
    request_limit: usize,
}

impl<P: Platform> Process<P> {
    /// Starts a process and waits until it has evaluated its entry point.
    pub(crate) async fn start(
        shared: Arc<Shared<P>>,
        journal: Arc<Journal<P>>,
        spec: Arc<WorkerSpec>,
    ) -> Result<Arc<Self>, StartError> {
        let settings = &shared.settings;
        let spawned = spawn::spawn(settings, &spec)?;
        let tail = Arc::new(StderrTail::default());
        let (ready, word) = oneshot::channel();
        let process = Self::attach(spawned, &shared, journal, &spec.app_id, (ready, Arc::clone(&tail)));
        // The queue is empty, so this neither waits nor fails.
        let _ = process.lines.send(Outgoing::Line(discover(settings, &spec))).await;
        match timeout(settings.start_timeout, process.handshake(word, &tail)).await {
            Ok(outcome) => outcome.map(|()| Arc::new(process)),
            Err(_) => Err(StartError::Timeout { after: settings.start_timeout, stderr: tail.lines() }),
        }
    }

    fn attach(
        spawned: Spawned,
        shared: &Shared<P>,
        journal: Arc<Journal<P>>,
        app: &Arc<str>,
        (ready, tail): (oneshot::Sender<Handshake>, Arc<StderrTail>),
    ) -> Self {
        let (lines, queue) = mpsc::channel(QUEUE);
        let (kill, killed) = watch::channel(false);
        let (exited, exit) = watch::channel(None);
        let calls = Arc::new(InFlight::new());
        let request_limit = shared.settings.request_limit;
        let reader = Reader {
            app: Arc::clone(app),
            platform: Arc::clone(&shared.platform),
            journal: Arc::clone(&journal),
            calls: Arc::clone(&calls),
            lines: lines.clone(),
            request_limit,
            ready: Some(ready),
        };
        let keeper = Keeper {
            child: spawned.child,
            stdin: tokio::spawn(write(spawned.stdin, queue)),
            stdout: tokio::spawn(reader.run(spawned.stdout)),
            stderr: tokio::spawn(follow_stderr(spawned.stderr, journal, tail)),
            killed,
        };
        let table = Arc::clone(&calls);
        tokio::spawn(async move {
            let reason: Arc<str> = keeper.run().await.into();
            table.bury(&reason);
            exited.send_replace(Some(reason));
        });
        Self { calls, lines, kill, exit, request_limit }
    }

    async fn handshake(&self, word: oneshot::Receiver<Handshake>, tail: &StderrTail) -> Result<(), StartError> {
        match word.await {
            Ok(Handshake::Ready { protocol }) if protocol <= frame::PROTOCOL => Ok(()),
            Ok(Handshake::Ready { protocol }) => Err(StartError::Protocol { found: protocol }),
            Ok(Handshake::Fatal { message }) => Err(StartError::Fatal { message }),
            // The reader is gone: the process has ended or is about to.
            Err(_) => Err(StartError::Exited { reason: self.exited().await, stderr: tail.lines() }),
        }
    }

    /// Calls a handler; nothing if this process takes no calls any more, in which case nothing was sent. The caller bounds the
    /// time; `timeout` is only passed on.
    pub(crate) async fn call(&self, call: &Call<P::Context>, timeout: Duration) -> Option<Result<Box<RawValue>, CallError>> {
        let bytes = call.params.get().len();
        if bytes > self.request_limit {
            return Some(Err(CallError::TooLarge { bytes, limit: self.request_limit }));
        }
        let ticket = self.calls.open(Arc::clone(&call.context))?;
        let message = ToWorker::Rpc {
            id: ticket.id().as_str(),
            method: &call.method,
            params: &call.params,
            caller: call.caller.as_deref(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        };
        // Fails when the process is ending; the answer then says why.
        let _ = self.lines.send(Outgoing::Line(message.line(bytes + 256))).await;
        Some(match ticket.answer().await {
            Reply::Result(result) => Ok(result),
            Reply::Died(reason) => Err(CallError::Died { reason }),
            Reply::Error(failure) if failure.code.as_deref() == Some("unknown_method") => {
                Err(CallError::UnknownMethod { method: call.method.clone() })
            }
            Reply::Error(failure) => Err(failure.into()),
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Waits for the end of the process and says why it came.
    pub(crate) async fn exited(&self) -> Arc<str> {
        match self.exit.clone().wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The keeper always leaves a reason unless the runtime itself goes down.
            Err(_) => "the server is shutting down".into(),
        }
    }

    /// Lets calls in flight finish, asks the process to finish, and kills what is left; `patience` bounds each of the two.
    pub(crate) async fn finish(&self, patience: Duration) {
        self.calls.retire();
        let _ = timeout(patience, self.calls.idle()).await;
        self.calls.bury(&"it was stopped, and the call took longer than the time given to finish".into());
        let _ = timeout(patience, async {
            // Both fail only when the process is gone already.
            let _ = self.lines.send(Outgoing::Line(ToWorker::Shutdown.line(32))).await;
            let _ = self.lines.send(Outgoing::Close).await;
            self.exited().await
        })
        .await;
        self.kill.send_replace(true);
        self.exited().await;
    }
}

fn discover(settings: &HostSettings, spec: &WorkerSpec) -> Vec<u8> {
    ToWorker::Discover {
        app_id: &spec.app_id,
        runtime_url: &settings.runtime_url,
        credentials: &spec.credentials,
        manifest: &spec.manifest,
        run_onstart: spec.run_on_start,
    }
    .line(1024)
}

/// Owns the process until its end.
struct Keeper {
    child: Child,
    stdin: JoinHandle<io::Result<()>>,
    stdout: JoinHandle<()>,
    stderr: JoinHandle<()>,
    killed: watch::Receiver<bool>,
}

impl Keeper {
    /// Waits for the end and cleans up after it; returns the reason.
    async fn run(mut self) -> String {
        let group = self.child.id();
        let status = tokio::select! {
            status = self.child.wait() => Some(status),
            () = must_end(&mut self.stdin, &mut self.stdout, &mut self.killed) => None,
        };
        let status = if let Some(status) = status {
            status
        } else {
            spawn::kill_group(group);
            self.child.wait().await
        };
        // Whatever it started must not outlive it, nor keep its pipes open.
        spawn::kill_group(group);
        let _ = timeout(GRACE, async {
            // A finished handle may have been polled already, which must not happen twice.
            if !self.stdout.is_finished() {
                let _ = (&mut self.stdout).await;
            }
            let _ = (&mut self.stderr).await;
        })
        .await;
        self.stdin.abort();
        self.stdout.abort();
        self.stderr.abort();
        spawn::describe(&status)
    }
}

/// Returns when the process has to be killed: somebody asked for it or let go of it, or a pipe of it is closed and it therefore
/// cannot be talked to any more.
async fn must_end(stdin: &mut JoinHandle<io::Result<()>>, stdout: &mut JoinHandle<()>, killed: &mut watch::Receiver<bool>) {
    let broken = async {
        tokio::select! {
            _ = stdout => {}
            Ok(Err(_)) = stdin => {}
        }
        // It may just be exiting by itself; its own reason says more than a signal.
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        _ = killed.wait_for(|kill| *kill) => {}
        () = broken => {}
    }
}

/// Writes queued lines to stdin, as many at once as there are.
async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<Outgoing>) -> io::Result<()> {
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), Vec::new());
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let mut last = false;
        for message in batch.drain(..) {
            match message {
                Outgoing::Line(line) => bytes.extend_from_slice(&line),
                Outgoing::Close => last = true,
            }
        }
        stdin.write_all(&bytes).await?;
        if last {
            break;
        }
        bytes.clear();
        bytes.shrink_to(BATCH_BYTES);
    }
    Ok(())
}
