//! A warm action call against a bare echo and against a worker's pipes, at one caller and at many.

use std::{fmt::Write, time::Duration};

use crate::{
    load::{self, Measured, Method, Plan},
    peers::{self, Pinged},
    subject::{INPUT, Launch, Subject},
};

const CALLERS: [usize; 2] = [1, 32];

/// How long and how often to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub time: Duration,
    pub rounds: usize,
}

/// Everything measured at one number of callers, the medians of all rounds.
struct Level {
    callers: usize,
    echo: Measured,
    action: Measured,
    raw: Measured,
    worker: Measured,
    /// Processor time per call, in microseconds: server, worker, database.
    work: [f64; 3],
}

pub async fn report(effort: Effort) -> anyhow::Result<String> {
    let (_echo, echo_address) = peers::start(&["echo"]).await?;
    let mut subject = Subject::with_integration(Launch::default(), "noop").await?;
    let plan = |callers| Plan { callers, time: effort.time, ..plan(&subject, "noop", "echo") };
    let mut levels = Vec::new();
    for callers in CALLERS {
        let (mut echo, mut action, mut raw, mut worker) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut work = [0.0; 3];
        for _ in 0..effort.rounds {
            let bare = Plan { address: echo_address.clone(), path: "/echo".to_owned(), token: String::new(), ..plan(callers) };
            echo.push(load::run(&bare).await?);
            let before = subject.processor_times()?;
            action.push(load::run(&plan(callers)).await?);
            let after = subject.processor_times()?;
            for ((work, before), after) in work.iter_mut().zip(before).zip(after) {
                *work += after - before;
            }
            raw.push(peers::ping(Pinged::Raw, callers, effort.time / 2).await?);
            worker.push(peers::ping(Pinged::Worker, callers, effort.time / 2).await?);
        }
        let (echo, action, raw, worker) = (median(&echo), median(&action), median(&raw), median(&worker));
        // The load's warm-up, a tenth of its time, is work too.
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let work = work.map(|seconds| seconds / (action.requests as f64 * 1.1) * 1e6);
        levels.push(Level { callers, echo, action, raw, worker, work });
    }
    let (server, worker) = (subject.memory()?, subject.worker_memory()?);
    subject.stop().await?;
    let mut text = table(&levels)?;
    writeln!(text, "\nMemory after this load: server {server:.0} MiB, worker {worker:.0} MiB.")?;
    Ok(text)
}

/// A plan for an action of an integration.
pub fn plan(subject: &Subject, integration: &str, action: &str) -> Plan {
    Plan {
        address: subject.address.clone(),
        method: Method::Post,
        path: format!("/api/v1/integrations/{integration}/actions/{action}"),
        token: subject.token.clone(),
        body: INPUT.to_owned(),
        callers: 1,
        rate: None,
        time: Duration::from_secs(1),
    }
}

/// Each figure's own median.
pub fn median(rounds: &[Measured]) -> Measured {
    let middle = |figure: fn(&Measured) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    Measured {
        per_second: middle(|one| one.per_second),
        p50: middle(|one| one.p50),
        p99: middle(|one| one.p99),
        requests: rounds.iter().map(|one| one.requests).sum(),
        failures: rounds.iter().map(|one| one.failures).sum(),
        own_work: middle(|one| one.own_work),
    }
}

fn table(levels: &[Level]) -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "| what | callers | calls/s | p50 µs | p99 µs | calls/s ÷ echo | calls/s ÷ worker's pipes |\n|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for Level { callers, echo, action, raw, worker, .. } in levels {
        let rows = [
            ("action through a worker", action),
            ("bare axum echo", echo),
            ("worker's pipes, no server", worker),
            ("bare Bun echo over pipes", raw),
        ];
        for (name, own) in rows {
            let (to_echo, to_worker) = (own.per_second / echo.per_second, own.per_second / worker.per_second);
            writeln!(
                text,
                "| {name} | {callers} | {:.0} | {:.0} | {:.0} | {to_echo:.2} | {to_worker:.2} |",
                own.per_second, own.p50, own.p99
            )?;
        }
    }
    text.push_str("\n| processor time per call, µs | callers | server | worker | database | load | all |\n|---|---:|---:|---:|---:|---:|---:|\n");
    for Level { callers, action, work: [server, worker, database], .. } in levels {
        let (load, all) = (action.own_work, server + worker + database + action.own_work);
        writeln!(
            text,
            "| action through a worker | {callers} | {server:.0} | {worker:.0} | {database:.0} | {load:.0} | {all:.0} |"
        )?;
    }
    Ok(text)
}
