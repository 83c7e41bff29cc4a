//! A person's machine: a folder to work in, a login file, and the command without a terminal.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::fake::Fake;

pub struct Machine {
    home: TempDir,
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
        let login = json!({ "url": fake.url, "accessToken": "access-1", "refreshToken": "refresh-1" });
        std::fs::create_dir(machine.login_file().parent().expect("a folder")).expect("the login folder");
        std::fs::write(machine.login_file(), login.to_string()).expect("the login file");
        machine
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

    pub async fn weft(&self, arguments: &[&str]) -> Outcome {
        self.run(arguments, &[], "").await
    }

    pub async fn run(&self, arguments: &[&str], variables: &[(&str, &str)], stdin: &str) -> Outcome {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(arguments)
            .current_dir(self.work())
            .env_clear()
            .env("XDG_CONFIG_HOME", self.home.path())
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
