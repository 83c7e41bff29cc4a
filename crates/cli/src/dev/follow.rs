//! The live log of an app for as long as it takes: a connection that ends is made again.

use std::time::Duration;

use futures::StreamExt;

use crate::client::Client;
use crate::error::{CliError, Result};
use crate::sse::EventReader;

/// Before a server that does not answer is asked again.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Hands each line's JSON to `line`. Returns only with an error that repeating does not mend.
pub async fn follow<F, E>(client: &Client, app: &str, line: impl Fn(String) -> F) -> CliError
where
    F: Future<Output = std::result::Result<(), E>>,
{
    loop {
        match listen(client, app, &line).await {
            Err(CliError::Problem(problem)) if problem.status < 500 => return CliError::Problem(problem),
            // The server may be restarting; the next deployment says so if it is gone.
            Ok(()) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn listen<F, E>(client: &Client, app: &str, line: &impl Fn(String) -> F) -> Result<()>
where
    F: Future<Output = std::result::Result<(), E>>,
{
    let url = client.api(&["apps", app, "logs"]);
    let response = client.execute(|http| Ok(http.get(url.clone()).header("accept", "text/event-stream"))).await?;
    let mut stream = response.bytes_stream();
    let mut reader = EventReader::default();
    while let Some(bytes) = stream.next().await {
        for data in reader.push(&bytes.map_err(|error| client.transport(&error))?) {
            // Fails only when the command is ending.
            let _ = line(data).await;
        }
    }
    Ok(())
}
