//! Programs from npm that tests talk to: each a process of its own that takes commands as lines of JSON and ends when its input does.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
};

/// A script that answers each line with a line.
pub struct Peer {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts a script of a folder and returns what it says first.
    pub async fn start(folder: &str, script: &str, argument: &str) -> (Self, Value) {
        let folder = Path::new(folder);
        assert!(folder.join("node_modules").is_dir(), "the packages of {} are missing: run `make js`", folder.display());
        let mut child = Command::new("node")
            .arg(folder.join(script))
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node starts");
        let (input, output) = (child.stdin.take().expect("an input"), child.stdout.take().expect("an output"));
        let mut peer = Self { input, output: BufReader::new(output).lines() };
        let first = peer.answer().await;
        (peer, first)
    }

    pub async fn ask(&mut self, command: &Value) -> Value {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("the script listens");
        self.answer().await
    }

    async fn answer(&mut self) -> Value {
        let line = self.output.next_line().await.expect("the script can be heard").expect("the script runs");
        serde_json::from_str(&line).expect("the script answers JSON")
    }
}
