//! How long starting takes: a worker for the first call to a sleeping app, and the server until `/health` answers.

use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft_postgres::{Binaries, Cluster, Settings};

use crate::{
    peers::repository,
    subject::{self, Launch, Subject},
};

const COLD_CALLS: usize = 25;
const RESTARTS: usize = 7;
/// A worker sleeps after 0.3 s without a call.
const SLEEPY: &str = "[workers]\nidle_minutes = 0.005\n";

pub async fn report() -> anyhow::Result<String> {
    let mut embedded = Subject::with_integration(Launch { settings: SLEEPY.to_owned(), ..Launch::default() }, "noop").await?;
    let mut cold = Vec::new();
    for _ in 0..COLD_CALLS {
        cold.push(cold_call(&embedded).await?);
    }
    let on_embedded = restarts(&mut embedded).await?;
    let folder = subject::folder()?;
    let database = database(folder.path()).await?;
    let launch = Launch { database_url: Some(database.connection().url()), ..Launch::default() };
    let mut external = Subject::start(launch).await?;
    let on_external = restarts(&mut external).await?;
    drop(external);
    database.stop().await?;

    let mut text = String::from("| what | median ms | p99 ms | samples | aim |\n|---|---:|---:|---:|---|\n");
    for (name, mut times, aim) in [
        ("first call to a sleeping app", cold, "≤ 150 ms"),
        ("`/health` after start, database elsewhere", on_external, "≤ 300 ms"),
        ("`/health` after start, embedded database", on_embedded, "≤ 2.5 s"),
    ] {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        writeln!(text, "| {name} | {:.0} | {:.0} | {} | {aim} |", at(50), at(99), times.len())?;
    }
    Ok(text)
}

/// Waits until the worker sleeps and measures the call that wakes it.
async fn cold_call(subject: &Subject) -> anyhow::Result<Duration> {
    let patience = Instant::now() + Duration::from_secs(20);
    while subject.get("/api/v1/apps/noop/worker/status").await?.get("status").and_then(Value::as_str) != Some("stopped")
        || subject.worker_memory()? > 0.0
    {
        ensure!(Instant::now() < patience, "the worker does not go to sleep");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begin = Instant::now();
    subject.call("noop").await?;
    Ok(begin.elapsed())
}

async fn restarts(subject: &mut Subject) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..RESTARTS {
        times.push(subject.restart().await?);
    }
    subject.stop().await?;
    Ok(times)
}

/// A PostgreSQL of its own, with the settings of the embedded one.
pub async fn database(folder: &Path) -> anyhow::Result<Cluster> {
    let binaries = Binaries::find(&[repository().join("runtime")]).context("run `make runtime`")?;
    Ok(Cluster::start(Settings::new(folder.to_owned(), binaries)).await?)
}
