//! The embedded database, kept running: one that ends by itself is started again, until that happens too often.
//!
//! Whoever uses the database meanwhile is told that it does not answer; the pool's next connections reach the new process, because
//! socket and password stay the same.

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use weft_postgres::{Cluster, Connection, Error, Settings};

/// A database that ends more often than this within the window is not started again.
const RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_mins(1);

/// The database of a server that was not given one.
pub struct Embedded {
    stop: CancellationToken,
    keeper: JoinHandle<Result<(), Error>>,
    given_up: oneshot::Receiver<String>,
}

impl Embedded {
    pub async fn start(settings: Settings) -> Result<(Self, Connection), Error> {
        let cluster = Cluster::start(settings.clone()).await?;
        let connection = cluster.connection();
        let stop = CancellationToken::new();
        let (sender, given_up) = oneshot::channel();
        let keeper = tokio::spawn(keep(cluster, settings, stop.clone(), sender));
        Ok((Self { stop, keeper, given_up }, connection))
    }

    /// Waits until the database is gone for good, and says why.
    pub async fn given_up(&mut self) -> String {
        (&mut self.given_up).await.unwrap_or_else(|_| "nobody looks after it any more".to_owned())
    }

    /// Stops the database in order.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.keeper.await??)
    }
}

async fn keep(
    mut cluster: Cluster,
    settings: Settings,
    stop: CancellationToken,
    give_up: oneshot::Sender<String>,
) -> Result<(), Error> {
    let mut ends = VecDeque::new();
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return cluster.stop().await,
            ended = cluster.ended() => ended.map_or_else(|error| error.to_string(), |status| status.to_string()),
        };
        let now = Instant::now();
        ends.retain(|end: &Instant| now.duration_since(*end) < WINDOW);
        ends.push_back(now);
        if ends.len() > RESTARTS {
            let _ = give_up.send(ended);
            return Ok(());
        }
        tracing::error!(%ended, "the embedded database ended by itself: starting it again");
        let started = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            started = Cluster::start(settings.clone()) => started,
        };
        match started {
            Ok(started) => cluster = started,
            Err(error) => {
                let _ = give_up.send(error.to_string());
                return Ok(());
            }
        }
    }
}
