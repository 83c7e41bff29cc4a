//! A person's machine: a folder to work in, a login file, and the command without a terminal.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::fake::Fake;

/// A line that has not come by then never will.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub struct Machine {
    home: TempDir,
}

/// A command that runs until the test is over.
pub struct Running {
    _child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

/// What a finished command left.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Machine {
    pub fn new() -> Self {
        let home = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(home.path().join("work")).expect("a folder to work in");
        Self { home }
    }

    /// A machine whose user is logged in to `fake`.
    pub fn logged_in(fake: &Fake) -> Self {
        let machine = Self::new();
        std::fs::create_dir(machine.login_file().parent().expect("a folder")).expect("the login folder");
        machine.log_in(fake, 1);
        machine
    }

    /// Leaves what logging in for the nth time does: `access-n` and `refresh-n`.
    pub fn log_in(&self, fake: &Fake, nth: u8) {
        let login = json!({ "url": fake.url, "accessToken": format!("access-{nth}"), "refreshToken": format!("refresh-{nth}") });
        std::fs::write(self.login_file(), login.to_string()).expect("the login file");
    }

    pub fn login_file(&self) -> PathBuf {
        self.home.path().join("weft/config.json")
    }

    pub fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }

    /// A file that can be run.
    pub fn program(&self, name: &str, script: &str) {
        self.write(name, script);
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.path(name), permissions).expect("the mode");
    }

    /// Starts a command that does not end by itself.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let (send, lines) = mpsc::unbounded_channel();
        tokio::spawn(forward(child.stdout.take().expect("a stdout"), send.clone()));
        tokio::spawn(forward(child.stderr.take().expect("a stderr"), send));
        Running { _child: child, lines }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command.args(arguments).current_dir(self.work()).env_clear().env("XDG_CONFIG_HOME", self.home.path());
        command
    }

    pub async fn weft(&self, arguments: &[&str]) -> Outcome {
        self.run(arguments, &[], "").await
    }

    pub async fn run(&self, arguments: &[&str], variables: &[(&str, &str)], stdin: &str) -> Outcome {
        let mut child = self
            .command(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut input = child.stdin.take().expect("a stdin");
        // A command that does not read its input may have closed it already.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
        let output = child.wait_with_output().await.expect("the command ends");
        Outcome {
            code: output.status.code().expect("an exit code"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Running {
    /// The next line that contains `text`.
    pub async fn line_with(&mut self, text: &str) -> String {
        self.lines_until(text).await.pop().expect("the line")
    }

    /// The lines up to the next one that contains `text`.
    pub async fn lines_until(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(Some(line)) = tokio::time::timeout(PATIENCE, self.lines.recv()).await {
            let found = line.contains(text);
            lines.push(line);
            if found {
                return lines;
            }
        }
        panic!("no line with {text:?}, only:\n{}", lines.join("\n"))
    }
}

async fn forward(stream: impl AsyncRead + Unpin, lines: mpsc::UnboundedSender<String>) {
    let mut reader = BufReader::new(stream).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        // Fails only when the test is over.
        let _ = lines.send(line);
    }
}

impl Outcome {
    /// The whole outcome as text, without addresses and times.
    pub fn shown(&self, fake: &Fake) -> String {
        self.to_string().replace(&fake.url, "http://server")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect("stdout is one JSON value")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stderr: Vec<String> = self.stderr.lines().map(without_time).collect();
        write!(formatter, "exit {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout.trim_end(), stderr.join("\n"))
    }
}

/// A step's closing line ends with `(12 ms)` or `(1.2 s)`.
fn without_time(line: &str) -> String {
    match line.rsplit_once("  (") {
        Some((step, time)) if time.ends_with(" ms)") || time.ends_with(" s)") => format!("{step}  (time)"),
        _ => line.to_owned(),
    }
}
