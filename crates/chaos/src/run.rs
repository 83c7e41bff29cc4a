//! The command line: how many rounds of what, and what is kept of a failure.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    apps,
    client::Client,
    round::Experiment,
    site::{Kind, Site},
};

/// Rounds between two checks of what was done later.
const ROUNDS_BETWEEN: u64 = 20;

/// Break a running Weft in seeded ways and check that it keeps its promises
#[derive(Debug, clap::Parser)]
pub struct Arguments {
    /// How many rounds
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// The first round's seed; each further round has the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, value_enum, default_value = "embedded")]
    site: Kind,
    /// How many callers
    #[arg(long, default_value_t = 12)]
    callers: usize,
    /// Begin no further round after so many minutes
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// A build of `weft` to test instead of the one that belongs to this program
    #[arg(long)]
    program: Option<PathBuf>,
    /// Write the history into this folder even when nothing is broken
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// Runs the rounds; whether every promise was kept.
pub async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let site = Site::start(arguments.site, arguments.program.clone()).await?;
    let client = Client::new()?;
    let url = site.nodes.first().and_then(|node| node.address().lock().ok()?.clone()).context("a node is up")?;
    let installed = apps::install(&client, &url, arguments.callers).await?;
    let mut experiment = Experiment::new(site, client, installed);
    let limit = Duration::from_secs(arguments.minutes * 60);
    let mut done = 0;
    for round in 0..arguments.rounds {
        if begun.elapsed() > limit {
            break;
        }
        let seed = arguments.seed + round;
        let broke_off = |error: anyhow::Error| vec![format!("the round broke off: {error:#}")];
        let mut broken = experiment.round(round, seed).await.unwrap_or_else(broke_off);
        let is_last = round + 1 == arguments.rounds || begun.elapsed() > limit;
        if broken.is_empty() && (is_last || (round + 1) % ROUNDS_BETWEEN == 0) {
            broken = experiment.check_later(round).await.unwrap_or_else(broke_off);
        }
        if !broken.is_empty() {
            report(&arguments, &experiment, seed, &broken)?;
            return Ok(false);
        }
        done += 1;
    }
    if let Some(folder) = &arguments.keep {
        save(&experiment, folder)?;
    }
    println!(
        "{done} rounds ({:?}, seeds from {}): {} requests, {} webhooks handled again, {} jobs, {} of them again, {} given up, {} changes of records, \
         {} ticks, every promise kept, {:.0?}",
        arguments.site,
        arguments.seed,
        experiment.attempts,
        experiment.repeated_webhooks,
        experiment.seen.jobs,
        experiment.seen.repeated,
        experiment.seen.given_up,
        experiment.seen.changes,
        experiment.seen.ticks,
        begun.elapsed()
    );
    experiment.site.stop().await?;
    Ok(true)
}

fn report(arguments: &Arguments, experiment: &Experiment, seed: u64, broken: &[String]) -> anyhow::Result<()> {
    let folder = arguments.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("weft-chaos-failure-{seed}")));
    save(experiment, &folder)?;
    eprintln!("seed {seed} broke {} promises:", broken.len());
    for violation in broken {
        eprintln!("  {violation}");
    }
    eprintln!("history and logs: {}", folder.display());
    eprintln!("the same again: weft-chaos --site {:?} --seed {seed} --rounds 1", arguments.site);
    Ok(())
}

fn save(experiment: &Experiment, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    experiment.history.write(&folder.join("history.jsonl"))?;
    experiment.site.save_logs(folder)
}
