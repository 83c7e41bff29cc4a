//! One run of all measurements, as a table for people.

use std::{fmt::Write, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    load::{Measured, Plan},
    peers,
    subject::Subject,
};

const BODY: &str = r##"{"channel":"#general","text":"Hello from the bench"}"##;
const CALLERS: [usize; 2] = [1, 32];

/// Measures and prints; with `write`, also to `bench/RESULTS.md`.
pub async fn run(time: Duration, write: bool) -> anyhow::Result<()> {
    let (echo, echo_address) = echo().await?;
    let mut subject = Subject::start().await?;
    let idle = subject.memory()?;
    let mut text = String::new();
    writeln!(text, "| what | callers | calls/s | p50 µs | p99 µs | calls/s ÷ bare echo |\n|---|---:|---:|---:|---:|---:|")?;
    for callers in CALLERS {
        let bare = load(&Plan { address: echo_address.clone(), path: "/echo".into(), ..plan(callers, time) }).await?;
        let path = "/api/v1/integrations/noop/actions/echo".to_owned();
        let action =
            load(&Plan { address: subject.address.clone(), path, token: subject.token.clone(), ..plan(callers, time) }).await?;
        row(&mut text, "bare axum echo", callers, bare, bare)?;
        row(&mut text, "warm action through a worker", callers, action, bare)?;
    }
    drop(echo);
    let busy = subject.memory()?;
    let ping = peers::ping(&bun()?, BODY).await?;
    let mut cold = Vec::new();
    for _ in 0..10 {
        cold.push(subject.cold_call().await?);
    }
    cold.sort_unstable();
    let ready = subject.restart().await?;
    subject.stop().await?;
    writeln!(text, "\n| what | value |\n|---|---:|")?;
    writeln!(text, "| raw line to Bun and back, p50 | {ping:.0} µs |")?;
    writeln!(text, "| first call to a stopped app, median of {} | {:.0} ms |", cold.len(), millis(cold.get(cold.len() / 2)))?;
    writeln!(text, "| server ready again on an initialised embedded database | {:.0} ms |", millis(Some(&ready)))?;
    writeln!(text, "| server memory, idle / after load | {:.0} / {:.0} MiB |", idle.0, busy.0)?;
    writeln!(text, "| worker memory, idle / after load | {:.0} / {:.0} MiB |", idle.1, busy.1)?;
    println!("{text}");
    if write {
        let page = format!("# Measured\n\n{}\n\n{text}", machine());
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md"), page)?;
    }
    Ok(())
}

fn plan(callers: usize, time: Duration) -> Plan {
    Plan {
        address: String::new(),
        path: String::new(),
        token: String::new(),
        body: BODY.to_owned(),
        callers,
        seconds: time.as_secs(),
    }
}

/// Runs a plan in a process of its own.
async fn load(plan: &Plan) -> anyhow::Result<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .args(["load", "--address", &plan.address, "--path", &plan.path, "--token", &plan.token, "--body", &plan.body])
        .args(["--callers", &plan.callers.to_string(), "--seconds", &plan.seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(output.status.success(), "the load failed");
    let measured: Measured = serde_json::from_slice(&output.stdout)?;
    ensure!(measured.failures == 0, "{} of {} requests failed", measured.failures, measured.requests);
    Ok(measured)
}

fn row(text: &mut String, name: &str, callers: usize, own: Measured, bare: Measured) -> std::fmt::Result {
    let ratio = own.per_second / bare.per_second;
    writeln!(text, "| {name} | {callers} | {:.0} | {:.0} | {:.0} | {ratio:.2} |", own.per_second, own.p50, own.p99)
}

async fn echo() -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("echo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let address = lines.next_line().await?.context("the echo prints its address")?;
    Ok((child, address))
}

fn bun() -> anyhow::Result<std::path::PathBuf> {
    let scope = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/node_modules/@oven");
    let mut packages = std::fs::read_dir(scope)?.flatten().map(|package| package.path().join("bin/bun"));
    packages.find(|bun| bun.is_file()).context("Bun is not installed: run `make runtime`")
}

fn millis(time: Option<&Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// The machine, as it describes itself.
fn machine() -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let (processor, memory) = (field(&file("/proc/cpuinfo"), "model name"), field(&file("/proc/meminfo"), "MemTotal"));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = file("/proc/sys/kernel/osrelease");
    format!(
        "Release build; server, database, worker and load generator share {cores} cores of {processor}, {memory} of memory, \
         Linux {}. Written by `make bench`; compare only numbers of one run.",
        kernel.trim()
    )
}
