//! The commands that need what the server is made of instead of talking to one: the only place that knows `weft-server`.

use std::path::{Path, PathBuf};

use crate::error::{CliError, Result};

pub use weft_server::ServeArgs;

/// Runs the server until it is told to stop.
pub async fn serve(arguments: ServeArgs) -> Result<()> {
    weft_server::run(arguments).await.map_err(|error| CliError::failed(format!("{error:#}")))
}

/// The Bun that a server on this machine would use.
pub fn find_bun(runtime_dir: Option<&Path>) -> Result<PathBuf> {
    weft_server::find_bun(runtime_dir).map_err(|error| CliError::failed(format!("{error:#}")))
}
