//! The `weft` command: one binary that runs the server and talks to it.
//!
//! Every command except [`serve`] knows the server only through its HTTP API. Results go to stdout, progress,
//! hints and errors to stderr; `--json` makes stdout machine-readable. Exit codes: 0 done, 1 failed, 2 misuse.

mod archive;
mod client;
mod commands;
mod config;
mod dev;
mod download;
mod error;
mod input;
mod manifest;
mod output;
mod progress;
mod serve;
mod sign_on;
mod sse;
mod types;

pub use serve::runtime;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::commands::{Command, Context, Globals};
use crate::error::CliError;
use crate::output::Output;

/// Build, deploy and call integrations on a Weft server.
#[derive(Parser)]
#[command(name = "weft", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// The command line's definition, for completions and for the generated reference.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the process's arguments, runs the command and reports its failure.
pub async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    let output = Output::detect(cli.globals.json);
    let context = Context::new(cli.globals, output.clone());
    match cli.command.run(&context).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn refuse_arguments(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if wants_json && error.use_stderr() {
        let text = error.render().to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim().to_owned();
        let refused = CliError::usage(message);
        Output::detect(true).error(&refused);
        return ExitCode::from(refused.exit_code());
    }
    // A closed stdout or stderr leaves nobody to tell.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_consistent() {
        super::command().debug_assert();
    }
}
