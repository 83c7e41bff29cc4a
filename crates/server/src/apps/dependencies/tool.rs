//! Running Bun's package manager: in a jail where the machine has one, under an account of its own where the server is root, and
//! with bounds on its time, memory and output everywhere.
//!
//! It parses what strangers wrote, so it may read and write only the folder that is being made and the app's package cache, and
//! reach only the registry. Code of the project never runs: install scripts are off, and neither `bunfig.toml`, which can name
//! programs, nor `.env` of the project is read.

use std::{
    ffi::OsString,
    future, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        statvfs::statvfs,
    },
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::{MissedTickBehavior, interval},
};
use url::Url;
use weft_jail::{Jailed, Limits, Policy};

use super::{Error, Installer, egress::Registry};
use crate::config::Jail;

/// How much of the output is kept, in bytes: the end of it.
const KEPT_OUTPUT: usize = 4 * 1024 * 1024;
/// How much of it an error repeats.
const SHOWN_OUTPUT: usize = 2000;
/// How often memory is looked at.
const PERIOD: Duration = Duration::from_millis(250);
const LARGEST_FILE: u64 = 1024 * 1024 * 1024;
const OPEN_FILES: u64 = 8192;
/// Threads and processes of the installer account.
const TASKS: u64 = 1024;

/// How Bun tells that a disk is full, in most places.
const OUT_OF_ROOM: [&str; 4] = ["ENOSPC", "NoSpaceLeft", "EDQUOT", "No space left"];
/// Where it does not tell, although that is the usual reason.
const NO_REASON: &str = "Fail extracting tarball";
/// Bytes that larger packages need when they are unpacked.
const SHORT_OF_ROOM: u64 = 64 * 1024 * 1024;

/// What the operator's own programs find the registry with. None of it is the app's choice.
const PROXIES: [&str; 2] = ["HTTPS_PROXY", "HTTP_PROXY"];
const NO_PROXY: &str = "NO_PROXY";
const CERTIFICATES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"];

/// The part of the server's environment that the package manager gets.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    variables: Vec<(&'static str, OsString)>,
    pub(super) proxies: Vec<Url>,
    certificates: Vec<PathBuf>,
}

impl Environment {
    pub(super) fn read() -> Self {
        let names = PROXIES.into_iter().chain([NO_PROXY]).chain(CERTIFICATES);
        let variables: Vec<_> = names.filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
        let of =
            |wanted: [&'static str; 2]| variables.iter().filter(move |(name, _)| wanted.contains(name)).map(|(_, value)| value);
        let proxies: Vec<Url> = of(PROXIES).filter_map(|value| Url::parse(value.to_str()?).ok()).collect();
        let certificates: Vec<PathBuf> = of(CERTIFICATES).map(PathBuf::from).filter(|path| path.is_file()).collect();
        Self { variables, proxies, certificates }
    }
}

/// The package manager at work on one folder.
pub(super) struct Tool<'a> {
    installer: &'a Installer,
    folder: &'a Path,
    cache: &'a Path,
    registry: Arc<Registry>,
}

impl<'a> Tool<'a> {
    pub(super) fn new(installer: &'a Installer, folder: &'a Path, cache: &'a Path) -> Self {
        let registry = Arc::new(Registry::new(&installer.settings, &installer.environment.proxies));
        Self { installer, folder, cache, registry }
    }

    /// Runs it to its end and returns what it printed. Giving up on this future kills it and all that it started.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, Error> {
        let Jailed { mut child, broker: _serves_connections } = self.spawn(arguments).await?;
        let mut group = Group::of(&child);
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let outgrown = outgrown(child.id(), self.installer.settings.memory);
        let finished = async { tokio::try_join!(tail(output), tail(errors), child.wait()) };
        let (output, errors, status) = tokio::select! {
            finished = finished => finished?,
            () = outgrown => return Err(Error::OutOfMemory { limit: self.installer.settings.memory }),
        };
        group.ended();
        if status.success() { Ok(output) } else { Err(self.failed(&[errors, output].concat())) }
    }

    fn failed(&self, text: &[u8]) -> Error {
        let shown = text.get(text.len().saturating_sub(SHOWN_OUTPUT)..).unwrap_or_default();
        let shown = String::from_utf8_lossy(shown).trim().to_owned();
        if OUT_OF_ROOM.iter().any(|word| shown.contains(word)) || (shown.contains(NO_REASON) && self.is_short_of_room()) {
            return Error::Run(io::Error::from(io::ErrorKind::StorageFull));
        }
        Error::Failed(format!("{shown}{}", self.registry.complaint()))
    }

    /// Whether a package could well have had no room. What was written in vain is removed by now.
    fn is_short_of_room(&self) -> bool {
        [self.folder, self.cache].iter().any(|folder| {
            statvfs(*folder).is_ok_and(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()) < SHORT_OF_ROOM)
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.installer.bun);
        command.args(arguments).args(["--config=/dev/null", "--no-env-file"]).current_dir(self.folder).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.cache).env("TMPDIR", self.cache);
        command.env("BUN_INSTALL_CACHE_DIR", self.cache.join("packages"));
        // A variable rather than an argument, which others on the machine could read: it may hold a password.
        command.env("NPM_CONFIG_REGISTRY", self.installer.settings.registry.as_str());
        command.envs(self.installer.environment.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn spawn(&self, arguments: &[&str]) -> Result<Jailed, Error> {
        let (mut command, support) = (self.command(arguments), weft_jail::support());
        if self.installer.jail == Jail::Require && !support.is_complete() {
            let reasons: Vec<_> = support.missing.iter().map(|missing| missing.reason.as_str()).collect();
            return Err(Error::NoJail(reasons.join("; ")));
        }
        if self.installer.jail != Jail::Off && cfg!(target_os = "linux") {
            return Ok(weft_jail::spawn(command, self.policy()).await?);
        }
        command.process_group(0);
        if let Some(account) = self.installer.account {
            command.uid(account.uid).gid(account.gid);
        }
        Ok(Jailed { child: command.spawn()?, broker: None })
    }

    fn policy(&self) -> Policy {
        let system = weft_jail::system_files();
        let own = |path: &Path| path.to_owned();
        let account = self.installer.account.map(|account| weft_jail::Account { uid: account.uid, gid: account.gid });
        Policy {
            account,
            readable: [system.readable, self.installer.environment.certificates.clone()].concat(),
            writable: [system.writable, vec![own(self.folder), own(self.cache)]].concat(),
            executable: [system.executable, vec![self.installer.bun.clone()]].concat(),
            limits: Limits {
                data: None,
                tasks: Some(TASKS),
                open_files: Some(OPEN_FILES),
                file_size: Some(LARGEST_FILE),
                processes: false,
                niceness: self.installer.niceness,
            },
            network: self.registry.network(),
        }
    }
}

/// A process group that is killed unless it ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails only when nothing is left of it.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

/// The end of what comes out of a pipe, which is read to its own end.
async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let Some(mut pipe) = pipe else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    while pipe.read_buf(&mut kept).await? > 0 {
        if kept.len() > 2 * KEPT_OUTPUT {
            kept.drain(..kept.len() - KEPT_OUTPUT);
        }
    }
    kept.drain(..kept.len().saturating_sub(KEPT_OUTPUT));
    Ok(kept)
}

/// Ends when a process holds more than `limit` bytes.
async fn outgrown(process: Option<u32>, limit: u64) {
    let Some(process) = process else { return future::pending().await };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if weft_jail::resident_memory(process).is_some_and(|bytes| bytes > limit) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        clock::Clock,
        config::{ServeArgs, Settings},
        host,
        host::Accounts,
    };

    const MIB: u64 = 1024 * 1024;

    /// A folder with a program in it, a cache, and an installer whose registry is `registry`.
    struct Rig {
        root: tempfile::TempDir,
        installer: Installer,
    }

    impl Rig {
        fn new(registry: &str, memory: u64) -> Self {
            let root = tempfile::tempdir().expect("a folder");
            let runtime = std::env::var_os("WEFT_RUNTIME_DIR").map(PathBuf::from);
            let runtime = runtime.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime"));
            let bun = host::find_bun(&[runtime]).expect("run `make runtime` first");
            let mut settings = Settings::load(ServeArgs { package_registry: Some(registry.to_owned()), ..ServeArgs::default() });
            settings.as_mut().expect("the defaults are valid").packages.memory = memory;
            let settings = settings.expect("the defaults are valid");
            let account = Accounts::if_root().map(|accounts| accounts.installer);
            for name in ["", "folder", "cache"] {
                let path = root.path().join(name);
                fs::create_dir_all(&path).expect("a folder");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("its mode");
            }
            let installer = Installer::new((bun, root.path().to_owned()), account, &settings, Clock::default());
            Self { root, installer }
        }

        /// Runs a program where only the package manager should ever run.
        async fn run(&self, program: &str) -> Result<Value, Error> {
            let (folder, cache) = (self.root.path().join("folder"), self.root.path().join("cache"));
            fs::write(folder.join("program.ts"), program).expect("written");
            let output = Tool::new(&self.installer, &folder, &cache).run(&["run", "program.ts"]).await?;
            Ok(serde_json::from_slice(&output).unwrap_or_default())
        }
    }

    #[tokio::test]
    async fn even_code_that_ran_in_there_would_reach_the_registry_and_its_own_files_only() {
        if !super::super::is_confined() {
            return;
        }
        let (registry, other) =
            (TcpListener::bind("127.0.0.1:0").await.expect("a port"), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let rig = Rig::new(&format!("http://127.0.0.1:{}/", port(&registry)), 512 * MIB);
        fs::write(rig.root.path().join("secret"), "of another app").expect("written");
        let program = format!(
            "import {{ connect }} from 'node:net'; import {{ readFileSync, writeFileSync }} from 'node:fs'; import {{ spawnSync }} from 'node:child_process';
             const reach = (port: number) => new Promise((done) => {{
                 const socket = connect(port, '127.0.0.1');
                 socket.on('connect', () => {{ socket.destroy(); done('connected'); }}).on('error', (error: any) => done(error.code));
             }});
             const attempt = (work: () => unknown) => {{ try {{ work(); return 'done'; }} catch (error: any) {{ return error.code; }} }};
             console.log(JSON.stringify({{
                 registry: await reach({}), other: await reach({}),
                 secret: attempt(() => readFileSync('../secret')), passwords: attempt(() => readFileSync('/etc/passwd')),
                 own: attempt(() => writeFileSync('own', '')), cache: attempt(() => writeFileSync('../cache/x', '')),
                 beside: attempt(() => writeFileSync('../x', '')), program: spawnSync('/bin/sh', ['-c', 'true']).error?.code ?? 'ran',
                 environment: Object.keys(process.env).filter((name) => /SECRET|KEY|TOKEN|DATABASE/.test(name)),
             }}));",
            port(&registry),
            port(&other),
        );
        let said = rig.run(&program).await.expect("it runs");
        for (what, outcome) in
            [("registry", "connected"), ("own", "done"), ("cache", "done"), ("secret", "EACCES"), ("passwords", "EACCES")]
        {
            assert_eq!(said[what], outcome, "{what}: {said}");
        }
        for what in ["other", "beside", "program"] {
            assert!(!["connected", "done", "ran"].contains(&said[what].as_str().unwrap_or_default()), "{what}: {said}");
        }
        assert_eq!(said["environment"], json!([]));
    }

    #[tokio::test]
    async fn what_needs_too_much_memory_is_ended_with_the_name_of_the_setting() {
        let rig = Rig::new("https://npm.test/", 300 * MIB);
        let program = "const kept = []; while (true) kept.push(new Uint8Array(1 << 20).fill(1));";
        let error = rig.run(program).await.expect_err("too much").to_string();
        assert!(error.contains("300 MiB") && error.contains("packages.memory_mib"), "{error}");
    }

    #[tokio::test]
    async fn giving_up_ends_everything_that_was_started() {
        let rig = Rig::new("https://npm.test/", 512 * MIB);
        let mark = rig.root.path().join("cache/process");
        let program = "require('node:fs').writeFileSync('../cache/process', String(process.pid)); setInterval(() => {}, 1000);";
        let started = async {
            loop {
                match fs::read_to_string(&mark) {
                    Ok(text) if !text.is_empty() => break text,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let process = tokio::select! {
            ended = rig.run(program) => panic!("it ended: {ended:?}"),
            process = started => process,
        };
        while fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|state| !state.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn output_is_kept_from_its_end_and_bounded() {
        let long = [vec![b'a'; 3 * KEPT_OUTPUT], b"the end".to_vec()].concat();
        let kept = tail(Some(&*long)).await.expect("read");
        assert!(kept.len() == KEPT_OUTPUT && kept.ends_with(b"the end"));
    }
}
