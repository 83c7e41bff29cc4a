//! Running PostgreSQL's programs: as the right account, with an environment that holds nothing of the server's, and
//! with their output in the log.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::account::Account;
use crate::error::{Context, Error};
use crate::log::Log;

/// What the dynamic loader and a shell may need. Everything else, above all the server's secrets, stays behind.
const KEPT_VARIABLES: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// A command that runs as `account` and appends its errors to the log.
pub(crate) fn command(program: &Path, account: Option<Account>, log: &Log) -> Result<Command, Error> {
    let kept = std::env::vars_os().filter(|(name, _)| KEPT_VARIABLES.iter().any(|kept| name == kept));
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(kept)
        // Messages are matched and shown, so they keep one language.
        .env("LC_ALL", "C")
        // The account may not be allowed into the server's own working directory.
        .current_dir("/")
        // Ctrl-C in a terminal reaches the whole process group; the server has to drain first.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.append()?);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    Ok(command)
}

/// Runs a command to its end with `input` on its standard input. It is killed when the caller is cancelled.
pub(crate) async fn run(mut command: Command, name: &'static str, input: &str, log: &Log) -> Result<(), Error> {
    let start = log.length();
    let program = Path::new(command.as_std().get_program()).to_owned();
    let mut child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn().context("run", &program)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early closes its input; its exit status tells more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let status = child.wait().await.context("wait for", &program)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { program: name, status, log: log.path().to_owned(), output: log.since(start) })
}
