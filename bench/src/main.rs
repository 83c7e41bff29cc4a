//! How fast the product is, as ratios to bare baselines measured in the same run on the same machine.
//!
//! `run` starts everything in processes of their own (the server, a bare echo, the load) and prints tables; every load is
//! bounded in time and count and goes to loopback only. Not a test: nothing fails by being slow.

mod load;
mod machine;
mod neighbours;
mod peers;
mod queue;
mod recipes;
mod records;
mod report;
mod sizes;
mod starts;
mod subject;
mod throughput;

use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

#[derive(Parser)]
#[command(about = "Measures Weft against bare baselines")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure and print the tables; with --write also to bench/RESULTS.md
    Run {
        /// Seconds per measurement
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// How often the interleaved measurements are repeated; the table shows medians
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Measure only these parts
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<report::Part>,
        #[arg(long, conflicts_with = "only")]
        write: bool,
    },
    /// Measure the queue by itself, against the statements of pgmq; 5 minutes
    Queue(queue::Amount),
    /// A bare axum server that answers with what it got (started by `run`)
    Echo,
    /// A bare axum server that passes on what is posted to it (started by `run`)
    Forward { to: String },
    /// Send the requests of the plan on standard input and print what they took, both as JSON (started by `run`)
    Load,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run { seconds, rounds, only, write } => {
            let effort = throughput::Effort { time: Duration::from_secs(seconds.clamp(1, 60)), rounds: rounds.clamp(1, 20) };
            Builder::new_current_thread().enable_all().build()?.block_on(report::run(effort, &only, write))
        }
        Command::Queue(amount) => {
            println!("{}", Builder::new_multi_thread().enable_all().build()?.block_on(queue::report(amount))?);
            Ok(())
        }
        // As many threads as the server has.
        Command::Echo => Builder::new_multi_thread().enable_all().build()?.block_on(peers::echo()),
        Command::Forward { to } => Builder::new_multi_thread().enable_all().build()?.block_on(peers::forward(&to)),
        // One, so that the load takes as little from the server as it can.
        Command::Load => Builder::new_current_thread().enable_all().build()?.block_on(load::main()),
    }
}
