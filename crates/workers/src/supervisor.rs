//! One app's worker over time: starts, replaces, restarts and stops its processes, and publishes the state that callers go by.
//! Commands are obeyed one after the other, except that a stop interrupts a start. Ends when every handle of the app is gone.

use crate::{
    Death, DeathKind, Platform, StartError, WorkerSpec,
    app::{Command, LastDeath, State},
    logs::Journal,
    process::{Process, Shared},
    restart::{Deaths, Verdict},
};
use std::{collections::VecDeque, future, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

enum Event {
    Command(Command),
    Died(Death),
    /// There was no call for a while.
    Idle,
    RestartDue,
    /// A replaced process has finished.
    Retired,
}

pub(crate) struct Supervisor<P: Platform> {
    shared: Arc<Shared<P>>,
    journal: Arc<Journal<P>>,
    state: watch::Sender<State<P>>,
    last_death: watch::Sender<LastDeath>,
    commands: mpsc::Receiver<Command>,
    /// Commands that arrived while a process was coming up.
    inbox: VecDeque<Command>,
    /// The version to run; a version that never came up replaces nothing.
    spec: Option<Arc<WorkerSpec>>,
    process: Option<Arc<Process<P>>>,
    restart_at: Option<Instant>,
    deaths: Deaths,
    round: u64,
    retiring: JoinSet<()>,
}

impl<P: Platform> Supervisor<P> {
    pub(crate) fn new(
        shared: Arc<Shared<P>>,
        journal: Arc<Journal<P>>,
        (state, last_death): (watch::Sender<State<P>>, watch::Sender<LastDeath>),
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            shared,
            journal,
            state,
            last_death,
            commands,
            inbox: VecDeque::new(),
            spec: None,
            process: None,
            restart_at: None,
            deaths: Deaths::default(),
            round: 0,
            retiring: JoinSet::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        while let Some(event) = self.next().await {
            match event {
                Event::Command(Command::Deploy(spec, done)) => {
                    let _ = done.send(self.deploy(spec).await);
                }
                Event::Command(Command::Ensure(spec, done)) => {
                    let _ = done.send(self.ensure(spec).await);
                }
                Event::Command(Command::Wake { round }) => self.wake(round).await,
                Event::Command(Command::Stop(done)) => {
                    self.stop().await;
                    let _ = done.send(());
                }
                Event::Died(death) => self.mourn(&death),
                Event::Idle => self.rest(),
                Event::RestartDue => self.restart().await,
                Event::Retired => {}
            }
        }
    }

    /// A death comes before the commands that followed it. Nothing when every handle of the app is gone.
    async fn next(&mut self) -> Option<Event> {
        let death = async {
            match &self.process {
                Some(process) => process.exited().await,
                None => future::pending().await,
            }
        };
        let restart = async {
            match self.restart_at {
                Some(at) => sleep_until(at).await,
                None => future::pending().await,
            }
        };
        let idle_limit = self.idle_limit();
        let idle = async {
            match (&self.process, idle_limit) {
                (Some(process), Some(limit)) => process.unused_for(limit).await,
                _ => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            death = death => Some(Event::Died(death)),
            Some(command) = async { self.inbox.pop_front() } => Some(Event::Command(command)),
            command = self.commands.recv() => command.map(Event::Command),
            () = restart => Some(Event::RestartDue),
            Some(_) = self.retiring.join_next() => Some(Event::Retired),
            () = idle => Some(Event::Idle),
        }
    }

    /// How long the process may go without a call; nothing for one that works by itself.
    fn idle_limit(&self) -> Option<Duration> {
        let keep = self.spec.as_ref().is_some_and(|spec| spec.keep_running);
        self.shared.settings.limits.idle.filter(|_| !keep)
    }

    async fn ensure(&mut self, spec: Arc<WorkerSpec>) -> Result<(), StartError> {
        if self.process.as_ref().is_some_and(|process| process.is_alive()) {
            return Ok(());
        }
        self.deploy(spec).await
    }

    /// Starts a version; only when it is ready does it take over. Otherwise everything stays as it was, and an app that never ran
    /// is left crashed.
    async fn deploy(&mut self, spec: Arc<WorkerSpec>) -> Result<(), StartError> {
        let before = self.state.borrow().clone();
        if self.process.is_none() {
            self.publish(State::Starting);
        }
        match self.bring_up(&spec).await {
            Ok(process) => {
                self.deaths.forget();
                self.spec = Some(spec);
                self.take_over(process);
                Ok(())
            }
            Err(error) => {
                self.journal.system(&format!("worker could not be started: {error}"));
                if self.spec.is_none() {
                    self.spec = Some(spec);
                    self.crash(error.as_death());
                } else {
                    self.publish(before);
                }
                Err(error)
            }
        }
    }

    /// Starts a process while listening for a stop.
    async fn bring_up(&mut self, spec: &Arc<WorkerSpec>) -> Result<Arc<Process<P>>, StartError> {
        let start = Process::start(Arc::clone(&self.shared), Arc::clone(&self.journal), Arc::clone(spec));
        tokio::pin!(start);
        loop {
            let command = tokio::select! {
                outcome = &mut start => return outcome,
                command = self.commands.recv() => command.ok_or(StartError::HostGone)?,
            };
            if matches!(command, Command::Stop(_)) {
                self.inbox = self.inbox.drain(..).filter_map(Command::unless_start).collect();
                self.inbox.push_back(command);
                return Err(StartError::Stopped);
            }
            self.inbox.push_back(command);
        }
    }

    fn take_over(&mut self, process: Arc<Process<P>>) {
        self.restart_at = None;
        let old = self.process.replace(Arc::clone(&process));
        self.publish(State::Running(process));
        self.journal.system("worker started");
        if let Some(old) = old {
            self.retire(old, "replaced worker stopped");
        }
    }

    /// Lets a process finish while life goes on.
    fn retire(&mut self, process: Arc<Process<P>>, last_words: &'static str) {
        let (journal, patience) = (Arc::clone(&self.journal), self.shared.settings.stop_timeout);
        self.retiring.spawn(async move {
            process.finish(patience).await;
            journal.system(last_words);
        });
    }

    /// Stops an idle process. Whoever calls now finds the app stopped and starts it, without waiting for the old process to end.
    fn rest(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.publish(State::Stopped);
        self.retire(process, "worker stopped: it had no calls for a while; the next one starts it again");
    }

    fn mourn(&mut self, death: &Death) {
        self.process = None;
        self.journal.died(death);
        self.last_death.send_replace(Some((death.clone(), Instant::now())));
        self.plan_restart(death);
    }

    fn plan_restart(&mut self, death: &Death) {
        let policy = &self.shared.settings.restarts;
        let now = Instant::now();
        match self.deaths.record(now, policy) {
            Verdict::Restart { attempt, pause } => {
                self.journal.system(&format!("restarting worker (attempt {attempt})"));
                self.restart_at = Some(now + pause);
                self.publish(State::Starting);
            }
            Verdict::GiveUp { deaths } => {
                let window = policy.window.as_secs();
                self.journal.system(&format!("crash loop: {deaths} deaths within {window} s, giving up"));
                let reason = format!("crash loop: it died {deaths} times within {window} s, last because {death}");
                self.crash(Death::new(DeathKind::CrashLoop, reason));
            }
        }
    }

    async fn restart(&mut self) {
        self.restart_at = None;
        let Some(spec) = self.spec.clone() else { return };
        match self.bring_up(&spec).await {
            Ok(process) => self.take_over(process),
            // What stopped it is in the inbox.
            Err(StartError::Stopped | StartError::HostGone) => {}
            Err(error) => self.mourn(&error.as_death()),
        }
    }

    /// One more try for a crashed app; its deaths are remembered, so a broken one gets one process per wake, not five.
    async fn wake(&mut self, round: u64) {
        let current = matches!(&*self.state.borrow(), State::Crashed { round: now, .. } if *now == round);
        let Some(spec) = self.spec.clone().filter(|_| current) else { return };
        self.publish(State::Starting);
        match self.bring_up(&spec).await {
            Ok(process) => self.take_over(process),
            Err(error) => {
                self.journal.system(&format!("worker could not be started: {error}"));
                self.crash(error.as_death());
            }
        }
    }

    async fn stop(&mut self) {
        self.restart_at = None;
        let process = self.process.take();
        self.publish(State::Stopping);
        if let Some(process) = &process {
            process.finish(self.shared.settings.stop_timeout).await;
        }
        while self.retiring.join_next().await.is_some() {}
        self.publish(State::Stopped);
        if process.is_some() {
            self.journal.system("worker stopped");
        }
    }

    fn crash(&mut self, death: Death) {
        self.round += 1;
        self.last_death.send_replace(Some((death.clone(), Instant::now())));
        self.publish(State::Crashed { death, round: self.round });
    }

    fn publish(&self, state: State<P>) {
        self.state.send_replace(state);
    }
}
