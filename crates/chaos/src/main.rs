//! Kills and stops the parts of a running Weft at seeded moments while callers use it, and checks that it keeps its promises:
//! no acknowledged webhook is lost, no run stays `running`, no answer goes to the wrong caller, nothing is done twice. What is done later
//! is done: acknowledged jobs at least once, ticks of crons once, and hooks for the changes that were committed, in their order.
//!
//! The server under test is the real program in processes of its own. What the callers saw is kept as a history, one JSON object
//! per line, and written to a folder when a check fails.

mod apps;
mod check;
mod client;
mod evidence;
mod fault;
mod history;
mod later;
mod node;
mod processes;
mod round;
mod run;
mod site;
mod traffic;

use std::process::ExitCode;

use clap::Parser;

/// Under this name the program is the one it tests, so a test never runs an older build than itself.
pub const WEFT: &str = "weft";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == WEFT) {
        return weft_cli::main().await;
    }
    match run::run(run::Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::from(2)
        }
    }
}
