//! One run of all measurements, as a page for people.

use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use crate::{machine, neighbours, recipes, records, sizes, starts, throughput, throughput::Effort};

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Throughput,
    Recipes,
    Neighbours,
    Records,
    Starts,
    Sizes,
}

impl Part {
    const ALL: [Self; 6] = [Self::Throughput, Self::Recipes, Self::Neighbours, Self::Records, Self::Starts, Self::Sizes];

    fn title(self) -> &'static str {
        match self {
            Self::Throughput => "Warm calls",
            Self::Recipes => "Recipes and the proxy",
            Self::Neighbours => "Noisy neighbours",
            Self::Records => "Records",
            Self::Starts => "Starts",
            Self::Sizes => "Memory",
        }
    }

    /// What it aims at, and how to read it.
    fn note(self) -> &'static str {
        match self {
            Self::Throughput => {
                "Everything that governs a call is on: token, session, permission, both schemas, configuration, limits, timeout, \
                 history, metrics, the default log. Aim: 15,000 calls/s at 32 callers, p50 of 400 µs at one."
            }
            Self::Recipes => {
                "Everything that governs a call is on, and the vendor's token comes from the vault. Aim: a p50 of 300 µs more than \
                 directly at one caller, 0.5 of the bare proxy's calls/s at 32."
            }
            Self::Neighbours => "Aim: less than 2.",
            Self::Records => {
                "Through the API, rights and audit included, against the same statement sent by pgbench. Aim: 0.5, and lists that do not \
                 depend on the table's size."
            }
            Self::Starts => "A sleeping app has its files unpacked and no process.",
            Self::Sizes => "Resident memory of the process, shared pages of its program included; PostgreSQL is apart.",
        }
    }

    async fn measure(self, effort: Effort) -> anyhow::Result<String> {
        match self {
            Self::Throughput => throughput::report(effort).await,
            Self::Recipes => recipes::report(effort).await,
            Self::Neighbours => neighbours::report(effort).await,
            Self::Records => records::report(effort).await,
            Self::Starts => starts::report().await,
            Self::Sizes => sizes::report().await,
        }
    }
}

/// Measures and prints; with `write`, also to `bench/RESULTS.md`.
pub async fn run(effort: Effort, only: &[Part], write: bool) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut page = format!(
        "# Measured\n\nRelease build, written by `make bench`. Server, database, workers and load generator share {}.\nFigures are \
         medians of {} interleaved rounds of {} s each; compare only numbers of one run. [What the time is spent on and what was \
         tried](../docs/performance.md).\n",
        machine::describe(),
        effort.rounds,
        effort.time.as_secs(),
    );
    for part in Part::ALL.into_iter().filter(|part| only.is_empty() || only.contains(part)) {
        let table = part.measure(effort).await?;
        println!("{}\n\n{table}", part.title());
        write!(page, "\n## {}\n\n{}\n\n{table}", part.title(), part.note())?;
    }
    if write {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md"), page)?;
    }
    eprintln!("measured in {:.0?}", Duration::from_secs(begin.elapsed().as_secs()));
    Ok(())
}
