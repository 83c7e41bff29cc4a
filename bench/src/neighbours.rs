//! What a noisy app costs a quiet one: the quiet one's times alone and beside it.

use std::{fmt::Write, time::Duration};

use crate::{
    load::{self, Measured, Plan},
    subject::{Launch, Subject},
    throughput::{Effort, median, plan},
};

/// What the neighbour does meanwhile.
#[derive(Debug, Clone, Copy)]
enum Noise {
    None,
    /// 10,000 calls a second.
    Calls,
    /// Handlers that block their process and allocate.
    Burning,
}

impl Noise {
    const ALL: [Self; 3] = [Self::None, Self::Calls, Self::Burning];

    fn name(self) -> &'static str {
        match self {
            Self::None => "alone",
            Self::Calls => "beside 10,000 calls/s of another app",
            Self::Burning => "beside an app that burns CPU and memory",
        }
    }

    fn plan(self, subject: &Subject, time: Duration) -> Option<Plan> {
        let calls = |action| Plan { time, ..plan(subject, "noisy", action) };
        match self {
            Self::None => None,
            Self::Calls => Some(Plan { callers: 64, rate: Some(10_000), ..calls("echo") }),
            Self::Burning => Some(Plan { callers: 4, ..calls("burn") }),
        }
    }
}

pub async fn report(effort: Effort) -> anyhow::Result<String> {
    let mut subject = Subject::with_integration(Launch::default(), "quiet").await?;
    subject.deploy("noisy").await?;
    let mut measured: [Vec<(Measured, Option<Measured>)>; 3] = Default::default();
    for _ in 0..effort.rounds {
        for (noise, found) in Noise::ALL.into_iter().zip(&mut measured) {
            found.push(beside(&subject, noise, effort.time).await?);
        }
    }
    subject.stop().await?;
    let quiet: Vec<_> =
        measured.iter().map(|rounds| median(&rounds.iter().map(|(quiet, _)| *quiet).collect::<Vec<_>>())).collect();
    let alone = quiet.first().map_or(f64::NAN, |alone| alone.p99);
    let mut text = String::from(
        "| a quiet app, 200 calls/s | p50 µs | p99 µs | p99 ÷ alone | the noise, calls/s |\n|---|---:|---:|---:|---:|\n",
    );
    for ((noise, quiet), rounds) in Noise::ALL.into_iter().zip(quiet).zip(&measured) {
        let noisy: Vec<_> = rounds.iter().filter_map(|(_, noisy)| *noisy).collect();
        let (p50, p99, loud) = (quiet.p50, quiet.p99, median(&noisy).per_second);
        writeln!(text, "| {} | {p50:.0} | {p99:.0} | {:.2} | {loud:.0} |", noise.name(), p99 / alone)?;
    }
    Ok(text)
}

/// The quiet app's times, and the noise that was made meanwhile.
async fn beside(subject: &Subject, noise: Noise, time: Duration) -> anyhow::Result<(Measured, Option<Measured>)> {
    let quiet = Plan { callers: 2, rate: Some(200), time, ..plan(subject, "quiet", "echo") };
    let Some(other) = noise.plan(subject, time + Duration::from_secs(2)) else { return Ok((load::run(&quiet).await?, None)) };
    let loud = load::start(&other).await?;
    // The noise begins first and ends last.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let quiet = load::run(&quiet).await?;
    Ok((quiet, Some(loud.await?)))
}
