//! A folder with an app, a jail around Bun, and somebody who writes down whom it contacted.

use std::{
    error::Error,
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use weft_jail::{Account, AddressGuard, Egress, Jailed, Limits, Network, Policy, Refusal, Resolver, Resolving};

pub type TestResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// No test waits this long unless something is broken.
pub const LONG: Duration = Duration::from_secs(30);
const NOBODY: Account = Account { uid: 65_534, gid: 65_534 };

/// Writes down what happens, and allows what ends in `.test`, `localhost`, and the addresses that the test names.
#[derive(Default)]
pub struct Book {
    addresses: Vec<String>,
    entries: Mutex<Vec<String>>,
}

impl Book {
    pub fn allowing(addresses: &[&str]) -> Self {
        Self { addresses: addresses.iter().map(|&address| address.to_owned()).collect(), ..Self::default() }
    }

    fn write(&self, entry: String) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    pub fn entries(&self) -> Vec<String> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Egress for Book {
    fn allows(&self, host: &str, _port: u16) -> bool {
        self.allows_name(host)
    }

    fn allows_name(&self, host: &str) -> bool {
        let is_test = host.rsplit_once('.').is_some_and(|(_, last)| last == "test");
        is_test || host == "localhost" || self.addresses.iter().any(|address| address == host)
    }

    fn connected(&self, host: &str, port: u16) {
        self.write(format!("connected {host}:{port}"));
    }

    fn refused(&self, host: &str, port: u16, why: Refusal) {
        let why = format!("{why:?}");
        let kind = why.split('(').next().unwrap_or_default();
        self.write(format!("refused {host}:{port} {kind}"));
    }
}

/// Every name is at 127.0.0.1, but `private.test` at 10.0.0.1, `absent.test` nowhere, and `rebinding.test` at 127.0.0.1 when
/// it is first looked up and at 127.0.0.2 from then on.
#[derive(Default)]
struct Fake {
    looked_up: Mutex<Vec<String>>,
}

impl Resolver for Fake {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        let mut looked_up = self.looked_up.lock().unwrap_or_else(PoisonError::into_inner);
        let again = looked_up.iter().any(|name| name == host);
        looked_up.push(host.to_owned());
        let addresses: Vec<IpAddr> = match host {
            "private.test" => vec![[10, 0, 0, 1].into()],
            "mixed.test" => vec![[10, 0, 0, 1].into(), [127, 0, 0, 1].into()],
            "absent.test" => vec![],
            "rebinding.test" if again => vec![[127, 0, 0, 2].into()],
            _ => vec![[127, 0, 0, 1].into()],
        };
        Box::pin(async move { Ok(addresses) })
    }
}

/// An app in its folder, not yet running.
pub struct Rig {
    folder: TempDir,
    pub book: Arc<Book>,
    pub policy: Policy,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// The lines that it printed.
    pub output: Vec<Value>,
    pub errors: String,
}

impl Rig {
    pub fn new() -> TestResult<Self> {
        Self::with(Book::default(), &["127.0.0.1"])
    }

    /// `open` are the inward addresses that may be contacted.
    pub fn with(book: Book, open: &[&str]) -> TestResult<Self> {
        let folder = TempDir::new()?;
        for (name, mode) in [("", 0o755), ("app", 0o755), ("scratch", 0o777), ("other", 0o777)] {
            let path = folder.path().join(name);
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        fs::write(folder.path().join("other/secret"), "of another app")?;
        let guard = AddressGuard::new(&open.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>())?;
        let book = Arc::new(book);
        let network = Network { resolver: Arc::new(Fake::default()), ..Network::new(Arc::clone(&book) as _, Arc::new(guard)) };
        let policy = policy(folder.path(), network)?;
        Ok(Self { folder, book, policy })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a program of TypeScript in the jail.
    pub async fn start(&self, program: &str, arguments: &[&str]) -> TestResult<Jailed> {
        let main = self.path("app/main.ts");
        fs::write(&main, format!("{HELPERS}\n{program}\n"))?;
        let mut command = Command::new(bun()?);
        command.arg("--no-install").arg(&main).args(arguments).current_dir(self.path("app")).env_clear();
        command.env("HOME", self.path("scratch")).env("TMPDIR", self.path("scratch")).env("NODE_EXTRA_CA_CERTS", "ca.pem");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(weft_jail::spawn(command, self.policy.clone()).await?)
    }

    /// Runs a program to its end.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> TestResult<Ended> {
        let Jailed { mut child, broker: _broker } = self.start(program, arguments).await?;
        let (mut output, mut errors) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (child.stdout.take().ok_or("no output")?, child.stderr.take().ok_or("no errors")?);
        let all = async { tokio::try_join!(stdout.read_to_string(&mut output), stderr.read_to_string(&mut errors)) };
        timeout(LONG, all).await.map_err(|_| "the program does not end")??;
        let status = timeout(LONG, child.wait()).await??;
        let output = output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect();
        Ok(Ended { status, output, errors })
    }

    /// Runs a program that says one thing.
    pub async fn say(&self, program: &str, arguments: &[&str]) -> TestResult<Value> {
        let ended = self.run(program, arguments).await?;
        match <[Value; 1]>::try_from(ended.output) {
            Ok([said]) => Ok(said),
            Err(output) => Err(format!("{:?} said {output:?} and {}", ended.status, ended.errors).into()),
        }
    }
}

/// What every program has at hand: `say` prints a line, `attempt` gives a value or the code of what went wrong.
const HELPERS: &str = r"
const say = (value: unknown) => console.log(JSON.stringify(value));
const attempt = async (work: () => unknown) => {
  try { return await work(); } catch (error: any) { return error?.code ?? String(error); }
};
";

fn policy(folder: &Path, network: Network) -> TestResult<Policy> {
    let system = weft_jail::system_files();
    let mut writable = system.writable;
    writable.push(folder.join("scratch"));
    let mut readable = system.readable;
    readable.push(folder.join("app"));
    let mut executable = system.executable;
    executable.push(bun()?);
    let account = weft_jail::support().own_account.then_some(NOBODY);
    Ok(Policy { account, readable, writable, executable, limits: Limits::default(), network })
}

/// The pinned Bun, from `WEFT_RUNTIME_DIR` or the repository's `runtime` folder.
pub fn bun() -> TestResult<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "tests have no command line whose settings could say where the runtime is")]
    let runtime = std::env::var("WEFT_RUNTIME_DIR")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime"), PathBuf::from);
    let packages = fs::read_dir(runtime.join("node_modules/@oven"))?.filter_map(Result::ok);
    let found = packages.map(|package| package.path().join("bin/bun")).find(|bun| bun.exists());
    Ok(found.ok_or("run `make runtime` first: Bun is not installed")?.canonicalize()?)
}

/// A server that is not in a jail, written in TypeScript.
pub struct Outside {
    /// What it said first.
    pub said: Value,
    _child: Child,
    _output: BufReader<ChildStdout>,
}

impl Outside {
    pub async fn start(program: &str, folder: &Path) -> TestResult<Self> {
        let main = folder.join("outside.ts");
        fs::write(&main, program)?;
        let mut command = Command::new(bun()?);
        let mut child = command.arg(main).current_dir(folder).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        timeout(LONG, output.read_line(&mut line)).await??;
        Ok(Self { said: serde_json::from_str(&line)?, _child: child, _output: output })
    }

    pub fn port(&self, name: &str) -> String {
        self.said[name].to_string()
    }
}
