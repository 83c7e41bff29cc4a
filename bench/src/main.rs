//! How fast the product is, as ratios to bare baselines measured in the same run on the same machine.
//!
//! `run` starts everything in processes of their own (the server, a bare echo, the load) and prints a table; every load is
//! bounded in time and count and goes to loopback only. Not a test: nothing fails by being slow.

mod load;
mod peers;
mod report;
mod subject;

use std::time::Duration;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures Weft against bare baselines")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure everything and print the table; with --write also to bench/RESULTS.md
    Run {
        /// Seconds per measurement
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        #[arg(long)]
        write: bool,
    },
    /// A bare axum server that answers with what it got (started by `run`)
    Echo,
    /// Send requests and print what they took as JSON (started by `run`)
    Load(load::Plan),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run { seconds, write } => report::run(Duration::from_secs(seconds.clamp(1, 60)), write).await,
        Command::Echo => peers::echo().await,
        Command::Load(plan) => {
            println!("{}", serde_json::to_string(&load::run(plan).await?)?);
            Ok(())
        }
    }
}
