//! `weft audit verify`: needs a file, and asks nobody.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use weft_attest::KeySet;
use weft_attest::verify::{Known, Report, Trust, verify};

use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::output::{Paint, printable};

#[derive(Args)]
pub struct Arguments {
    /// An export, see `weft audit export`
    file: PathBuf,
    /// The keys to check signatures with, as `weft audit keys` printed them; those that the file names itself when absent
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// An earlier export: what it ends with has to be in this one, or right before it
    #[arg(long, value_name = "FILE")]
    earlier: Option<PathBuf>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let keys = arguments.jwks.as_deref().map(read_keys).transpose()?;
    let earlier = match &arguments.earlier {
        Some(file) => Some(head_of(file, keys.clone())?),
        None => None,
    };
    let report = check(&arguments.file, &Trust { keys, earlier })?;
    if arguments.jwks.is_none() {
        context
            .output
            .note("Checked with the keys that the file names itself. Keep them apart to be sure: weft audit keys, and --jwks");
    }
    show(context, &report)?;
    match report.findings.first() {
        None => Ok(()),
        Some(first) => Err(CliError::failed(format!("this is not the log as it was written: {first}"))
            .with_hint("compare with an earlier export, or with the checkpoints in the server's log")),
    }
}

fn check(file: &Path, trust: &Trust) -> Result<Report> {
    let unreadable = |error: std::io::Error| CliError::usage(format!("cannot read {}: {error}", file.display()));
    let lines = BufReader::new(File::open(file).map_err(unreadable)?).lines();
    verify(lines, trust).map_err(unreadable)
}

/// The end of an earlier export, which has to be in order itself.
fn head_of(file: &Path, keys: Option<KeySet>) -> Result<Known> {
    let report = check(file, &Trust { keys, earlier: None })?;
    report.head.ok_or_else(|| {
        let first = report.findings.first().map(ToString::to_string).unwrap_or_default();
        CliError::failed(format!("{} is not in order itself: {first}", file.display()))
    })
}

fn read_keys(file: &Path) -> Result<KeySet> {
    let text =
        std::fs::read_to_string(file).map_err(|error| CliError::usage(format!("cannot read {}: {error}", file.display())))?;
    serde_json::from_str(&text).map_err(|error| {
        CliError::usage(format!("{} is no set of keys: {error}", file.display())).with_hint("`weft audit keys` prints one")
    })
}

fn show(context: &Context, report: &Report) -> Result<()> {
    let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    let head = report.head.as_ref().map(|head| json!({ "seq": head.seq, "hash": head.hash }));
    let value = json!({
        "chain": report.chain,
        "issuer": report.issuer,
        "events": report.events,
        "checkpoints": report.checkpoints,
        "signedBy": report.signed_by,
        "head": head,
        "findings": findings,
    });
    context.output.show(&value, || {
        let verdict = match &report.head {
            Some(head) => format!("{} up to event {}, {}", context.output.paint(Paint::Good, "in order"), head.seq, head.hash),
            None => context.output.paint(Paint::Bad, "not in order"),
        };
        let mut lines = vec![format!("log {}: {verdict}", printable(&report.chain))];
        let signers: Vec<_> = report.signed_by.iter().map(|key| printable(key)).collect();
        let signers = if signers.is_empty() { "nobody".to_owned() } else { signers.join(", ") };
        lines.push(format!("{} events, {} checkpoints, signed by {signers}", report.events, report.checkpoints));
        lines.extend(findings.iter().map(|finding| format!("  {}", printable(finding))));
        lines.join("\n")
    })
}
