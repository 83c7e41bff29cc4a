//! What a noisy app costs a quiet one: the quiet one's times alone and beside it. Whatever else takes as much of the machine costs it
//! something, too: that is measured beside a bare echo that gets as much processor time.

use std::{fmt::Write, time::Duration};

use crate::{
    load::{self, Measured, Plan},
    machine, peers,
    subject::{Launch, Subject},
    throughput::{Effort, median, plan},
};

/// Calls of the noisy app per second.
const RATE: u32 = 10_000;
/// For the measurement of what a call and an echo take.
const TRIAL: Duration = Duration::from_secs(2);
/// The settings of a server beside which nobody goes first.
const ORDINARY: &str = "[workers]\nreal_time = false\n";

/// What the neighbour does meanwhile.
#[derive(Debug, Clone, Copy)]
enum Noise {
    None,
    Calls,
    /// Handlers that block their process and allocate.
    Burning,
    /// Nothing; a bare echo is as busy as the server and all else would be with the calls.
    Elsewhere,
}

impl Noise {
    const ALL: [Self; 4] = [Self::None, Self::Calls, Self::Burning, Self::Elsewhere];

    fn name(self) -> &'static str {
        match self {
            Self::None => "alone",
            Self::Calls => "beside 10,000 calls/s of another app",
            Self::Burning => "beside an app that burns CPU and memory",
            Self::Elsewhere => "beside a bare echo that takes as much processor time as those calls",
        }
    }

    fn plan(self, subject: &Subject, elsewhere: &Plan, time: Duration) -> Option<Plan> {
        let calls = |action| Plan { time, ..plan(subject, "noisy", action) };
        match self {
            Self::None => None,
            Self::Calls => Some(Plan { callers: 64, rate: Some(RATE), ..calls("echo") }),
            Self::Burning => Some(Plan { callers: 4, ..calls("burn") }),
            Self::Elsewhere => Some(Plan { time, ..elsewhere.clone() }),
        }
    }
}

/// One line of the table: a noise beside the quiet app of one server.
struct Row<'a> {
    subject: &'a Subject,
    noise: Noise,
    quiet: Vec<Measured>,
    noisy: Vec<Measured>,
}

pub async fn report(effort: Effort) -> anyhow::Result<String> {
    let (_echo, address) = peers::start(&["echo"]).await?;
    let mut plain = both(Launch::default()).await?;
    let mut ordinary = both(Launch { settings: ORDINARY.to_owned(), ..Launch::default() }).await?;
    let elsewhere = as_busy(&plain, address).await?;
    let row = |subject, noise| Row { subject, noise, quiet: Vec::new(), noisy: Vec::new() };
    let mut rows: Vec<_> = Noise::ALL.map(|noise| row(&plain, noise)).into();
    rows.extend([Noise::None, Noise::Calls].map(|noise| row(&ordinary, noise)));
    for _ in 0..effort.rounds {
        for row in &mut rows {
            let other = row.noise.plan(row.subject, &elsewhere, effort.time + Duration::from_secs(2));
            let (quiet, noisy) = beside(row.subject, other, effort.time).await?;
            row.quiet.push(quiet);
            row.noisy.extend(noisy);
        }
    }
    let (usual, others) = rows.split_at(Noise::ALL.len());
    let mut text = table("a quiet app, 200 calls/s", usual)?;
    let status = plain.get("/api/v1/status").await?;
    if status["workers"]["limits"]["realTime"] == false {
        text.push_str("\nWithout real-time priority (`workers.real_time`), which is not to be had here.\n");
    }
    write!(text, "\n{}", table("the same without `workers.real_time`", others)?)?;
    plain.stop().await?;
    ordinary.stop().await?;
    Ok(text)
}

fn table(title: &str, rows: &[Row<'_>]) -> anyhow::Result<String> {
    let mut text = format!("| {title} | p50 µs | p99 µs | p99 ÷ alone | the noise, calls/s |\n|---|---:|---:|---:|---:|\n");
    let alone = rows.first().map_or(f64::NAN, |row| median(&row.quiet).p99);
    for row in rows {
        let (Measured { p50, p99, .. }, loud) = (median(&row.quiet), median(&row.noisy).per_second);
        writeln!(text, "| {} | {p50:.0} | {p99:.0} | {:.2} | {loud:.0} |", row.noise.name(), p99 / alone)?;
    }
    Ok(text)
}

/// A server with the quiet app and the noisy one.
async fn both(launch: Launch) -> anyhow::Result<Subject> {
    let subject = Subject::with_integration(launch, "quiet").await?;
    subject.deploy("noisy").await?;
    Ok(subject)
}

/// Echoes at the rate at which they keep the machine as busy as the noisy app's calls do.
async fn as_busy(subject: &Subject, address: String) -> anyhow::Result<Plan> {
    let calls = Plan { callers: 64, rate: Some(RATE), time: TRIAL, ..plan(subject, "noisy", "echo") };
    let echoes = Plan { address, path: "/echo".to_owned(), token: String::new(), ..calls.clone() };
    let ratio = busy(&calls).await? / busy(&echoes).await?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some tens of thousands")]
    let rate = (f64::from(RATE) * ratio) as u32;
    Ok(Plan { rate: Some(rate), ..echoes })
}

/// The processor time that the machine spends on a request of a plan, in seconds.
async fn busy(plan: &Plan) -> anyhow::Result<f64> {
    let before = machine::busy();
    let requests = load::run(plan).await?.requests;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let requests = requests as f64;
    Ok((machine::busy() - before) / requests)
}

/// The quiet app's times, and the noise that was made meanwhile.
async fn beside(subject: &Subject, other: Option<Plan>, time: Duration) -> anyhow::Result<(Measured, Option<Measured>)> {
    let quiet = Plan { callers: 2, rate: Some(200), time, ..plan(subject, "quiet", "echo") };
    let Some(other) = other else { return Ok((load::run(&quiet).await?, None)) };
    let loud = load::start(&other).await?;
    // The noise begins first and ends last.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let quiet = load::run(&quiet).await?;
    Ok((quiet, Some(loud.await?)))
}
