//! What the host is told once ([`HostSettings`]) and what it is told per app ([`WorkerSpec`]). Plain data, nothing is checked
//! here: a wrong path shows up as a [`crate::StartError`] that names it.

use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};
use weft_jail::{AddressGuard, Resolver};

use crate::precedence::Precedence;

pub use weft_jail::Account;

/// Settings shared by all workers of one host.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The Bun executable.
    pub bun: PathBuf,
    /// The prelude: the script that speaks the protocol and loads the entry point. An absolute path.
    pub prelude: PathBuf,
    /// What keeps processes to themselves; without it they may do whatever their account may.
    pub confinement: Option<Confinement>,
    /// Where backends reach the platform over HTTP.
    pub runtime_url: String,
    /// How long a new process may take until it has evaluated its entry point.
    pub start_timeout: Duration,
    /// How long calls in flight may take to finish, and after that how long `onShutdown` may take.
    pub stop_timeout: Duration,
    /// What happens after a process died by itself.
    pub restarts: RestartPolicy,
    /// The longest line sent to a worker, in bytes; a call with larger parameters is refused.
    pub request_limit: usize,
    pub limits: Limits,
}

impl HostSettings {
    /// Settings with the documented defaults: 10 s to start, 10 s to stop, 16 MiB a request, no confinement, [`Limits`].
    pub fn new(bun: impl Into<PathBuf>, prelude: impl Into<PathBuf>, runtime_url: impl Into<String>) -> Self {
        Self {
            bun: bun.into(),
            prelude: prelude.into(),
            confinement: None,
            runtime_url: runtime_url.into(),
            start_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(10),
            restarts: RestartPolicy::default(),
            request_limit: 16 * 1024 * 1024,
            limits: Limits::default(),
        }
    }
}

/// How processes are kept to themselves.
#[derive(Clone)]
pub struct Confinement {
    /// Do not start a process where a part of the jail is missing.
    pub required: bool,
    /// Which inward addresses the operator opened.
    pub guard: Arc<AddressGuard>,
    /// Looks up the names that processes contact.
    pub resolver: Arc<dyn Resolver>,
    /// Where files are uploaded to, which every process may contact.
    pub own: std::net::SocketAddr,
    /// Whom no process may contact, opened or not: the database.
    pub closed: Vec<Endpoint>,
    /// What every process may read besides its own folder and the system's libraries: the prelude.
    pub readable: Vec<PathBuf>,
}

impl fmt::Debug for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confinement").field("required", &self.required).field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// A service at a host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A lower-case name or an address.
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// Whether a process that contacts `host` could mean this one. The port of a service on this machine is closed under
    /// every address, because a machine has many.
    pub(crate) fn covers(&self, host: &str, port: u16) -> bool {
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        self.port == port && (is_address || host == "localhost" || host == self.host)
    }
}

/// What one worker may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Resident memory in bytes; a process that exceeds it is killed.
    pub memory: u64,
    /// Calls at work at once.
    pub calls: usize,
    /// Calls that wait for a place, each at most for its own timeout; those beyond are refused at once.
    pub queue: usize,
    /// The parameters of all calls that are at work or wait, in bytes; at least [`HostSettings::request_limit`].
    pub call_bytes: usize,
    /// Log lines that are kept, sustained; those beyond are dropped and counted.
    pub log_lines_per_second: u32,
    /// Log lines that are kept at once after a quiet time.
    pub log_burst: u32,
    /// How long a process may leave a probe unanswered; it gets one when a call has timed out, and is killed after that.
    pub silence: Duration,
    /// How long a worker goes without a call before it is stopped; `None` for ever.
    pub idle: Option<Duration>,
    /// Threads of one process. It never has processes of its own. In force in a jail, as is what follows.
    pub threads: u64,
    pub open_files: u64,
    /// Bytes of the largest file that may be written.
    pub file_size: u64,
    /// How far it gives way to others when the processor is short: 0 (as the server) to 19 (takes what is left).
    pub niceness: u8,
    /// Decides whether processes that take little of the processors go first; nobody does without.
    pub precedence: Option<Arc<Precedence>>,
}

impl Default for Limits {
    /// 256 MiB of memory, 256 calls and 1,024 waiting with 64 MiB of parameters, 2,000 log lines a second (4,000 at once), 10 s of silence,
    /// 15 min without a call, 512 threads, 1,024 open files, files of 256 MiB, niceness 5, nobody
    /// goes first.
    fn default() -> Self {
        Self {
            memory: 256 * 1024 * 1024,
            calls: 256,
            queue: 1024,
            call_bytes: 64 * 1024 * 1024,
            log_lines_per_second: 2000,
            log_burst: 4000,
            silence: Duration::from_secs(10),
            idle: Some(Duration::from_mins(15)),
            threads: 512,
            open_files: 1024,
            file_size: 256 * 1024 * 1024,
            niceness: 5,
            precedence: None,
        }
    }
}

/// When a dead process is started again, and when it is given up.
#[derive(Clone, Debug)]
pub struct RestartPolicy {
    /// The pause before the restart that follows the first, second, … death within the window. One death more than there are
    /// pauses means a crash loop.
    pub pauses: Vec<Duration>,
    /// Deaths older than this are forgotten.
    pub window: Duration,
}

impl Default for RestartPolicy {
    /// Pauses of 0, 2, 4 and 8 s; the fifth death within 60 s is a crash loop.
    fn default() -> Self {
        Self { pauses: [0, 2, 4, 8].map(Duration::from_secs).to_vec(), window: Duration::from_mins(1) }
    }
}

/// Tells whether a host (a lower-case name or an address) may be contacted: on a port, or on any port at all.
pub type Allows = dyn Fn(&str, Option<u16>) -> bool + Send + Sync;

/// One version of one app's backend.
pub struct WorkerSpec {
    pub app_id: Arc<str>,
    /// The version's folder: the working directory of the process. An absolute path.
    pub directory: PathBuf,
    /// The file to load, relative to `directory`.
    pub entry_point: PathBuf,
    /// A private folder that becomes `HOME` and `TMPDIR`; without it neither is set.
    pub scratch: Option<PathBuf>,
    /// The account to run as, where the server is root. Apps with different ones cannot touch each other's files even without
    /// a jail.
    pub account: Option<Account>,
    /// Whom it may contact; `None`: the public internet. In force in a jail.
    pub egress: Option<Arc<Allows>>,
    /// What is added to the otherwise empty environment.
    pub environment: Vec<(String, String)>,
    /// Secrets by name, handed over in the first message.
    pub credentials: BTreeMap<String, String>,
    pub manifest: Box<RawValue>,
    /// Whether `onStart` runs in this version's processes.
    pub run_on_start: bool,
    /// Whether the process reports its calls and their outgoing HTTP to the live log, for the person who writes it.
    pub dev: bool,
    /// Resident memory in bytes; counts where it is lower than [`Limits::memory`].
    pub memory_limit: Option<u64>,
    /// Whether it goes on without calls, because it works by itself.
    pub keep_running: bool,
}

impl fmt::Debug for WorkerSpec {
    /// Names only: environment and credentials hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSpec")
            .field("app_id", &self.app_id)
            .field("directory", &self.directory)
            .field("entry_point", &self.entry_point)
            .field("environment", &self.environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("credentials", &self.credentials.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_spec_names_secrets_without_their_values() {
        let spec = WorkerSpec {
            app_id: "crm".into(),
            directory: "/apps/crm".into(),
            entry_point: "index.ts".into(),
            scratch: None,
            account: None,
            egress: None,
            environment: vec![("TOKEN".to_owned(), "canary-1".to_owned())],
            credentials: BTreeMap::from([("KEY".to_owned(), "canary-2".to_owned())]),
            manifest: RawValue::NULL.to_owned(),
            run_on_start: false,
            dev: false,
            memory_limit: None,
            keep_running: false,
        };
        let text = format!("{spec:?}");
        assert!(text.contains("TOKEN") && text.contains("KEY"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
