//! The live log of an app for as long as it takes: a connection that ends is made again.

use std::time::Duration;

use futures::StreamExt;

use crate::client::Client;
use crate::error::{CliError, Result};
use crate::sse::EventReader;

/// Before a server that does not answer is asked again.
pub const PAUSE: Duration = Duration::from_secs(1);

/// What is heard of a log.
pub enum Heard {
    /// The JSON of a line.
    Line(String),
    /// It broke off, and is followed again.
    Again,
}

/// Hands over what is heard. Returns only with an error that repeating does not mend.
pub async fn follow<F, E>(client: &Client, app: &str, hear: impl Fn(Heard) -> F) -> CliError
where
    F: Future<Output = std::result::Result<(), E>>,
{
    let mut begun = false;
    loop {
        match listen(client, app, &mut begun, &hear).await {
            Err(CliError::Problem(problem)) if problem.status < 500 => return CliError::Problem(problem),
            // The server may be restarting; the next deployment says so if it is gone.
            Ok(()) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn listen<F, E>(client: &Client, app: &str, begun: &mut bool, hear: &impl Fn(Heard) -> F) -> Result<()>
where
    F: Future<Output = std::result::Result<(), E>>,
{
    let url = client.api(&["apps", app, "logs"]);
    let response = client.execute(|http| Ok(http.get(url.clone()).header("accept", "text/event-stream"))).await?;
    // What is handed over gets lost only when the command is ending.
    if std::mem::replace(begun, true) {
        let _ = hear(Heard::Again).await;
    }
    let mut stream = response.bytes_stream();
    let mut reader = EventReader::default();
    while let Some(bytes) = stream.next().await {
        for data in reader.push(&bytes.map_err(|error| client.transport(&error))?) {
            let _ = hear(Heard::Line(data)).await;
        }
    }
    Ok(())
}
