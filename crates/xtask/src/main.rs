//! House-keeping of the repository: generated artefacts and rules that no other tool checks.
//!
//! `generate` writes what is derived from the code, `check` fails when something differs or a rule is broken, `sqlx` prepares
//! the checked queries against a scratch database.

mod artefacts;
mod queries;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;

#[derive(Parser)]
#[command(about = "House-keeping of the repository")]
enum Command {
    /// Write the generated artefacts
    Generate,
    /// Fail when a generated artefact is stale or a house rule is broken
    Check,
    /// Check every query against a scratch database and write `.sqlx`
    Sqlx,
}

fn main() -> anyhow::Result<ExitCode> {
    let root = root()?;
    match Command::parse() {
        Command::Generate => artefacts::write(&root)?,
        Command::Check => {
            let problems = [artefacts::stale(&root)?, tidy::problems(&root)?, queries::stale(&root)?].concat();
            if problems.is_empty() {
                println!("generated artefacts are fresh, house rules are kept");
            } else {
                // Said last and without a trace, so that the end of a log shows it.
                eprintln!("{}", problems.join("\n"));
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Sqlx => queries::write(&root)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The repository's root folder.
fn root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("the repository's root")
}
