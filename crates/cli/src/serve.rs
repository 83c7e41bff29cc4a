//! The one command that runs inside this process instead of talking to a server: the only place that knows `weft-server`.

use crate::error::{CliError, Result};

pub use weft_server::ServeArgs;

/// Runs the server until it is told to stop.
pub async fn serve(arguments: ServeArgs) -> Result<()> {
    weft_server::run(arguments).await.map_err(|error| CliError::failed(format!("{error:#}")))
}
