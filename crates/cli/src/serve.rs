//! The commands that need what the server is made of instead of talking to one: the only place that knows `weft-server`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Command;

use crate::error::{CliError, Result};
use crate::output::{Output, Paint};

pub use weft_server::{ServeArgs, runtime};

/// Beside those of the command line: what scripts, builds of frontends and tests use.
const OTHERS: [&str; 4] = ["WEFT_BASE", "WEFT_BIN", "WEFT_CHROMIUM", "WEFT_TEST_RECORD"];
/// Kubernetes sets such ones for a service that is called `weft`.
const OF_SERVICES: [&str; 2] = ["WEFT_SERVICE_", "WEFT_PORT"];

/// Runs the server until it is told to stop.
pub async fn serve(output: &Output, arguments: ServeArgs) -> Result<()> {
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in unknown(variables, &crate::command()) {
        // One that was to require a jail, and is misspelt, must not go unnoticed.
        output.note(&format!("{} {name} is no variable of Weft, and nothing comes of it", output.paint_err(Paint::Warn, "!")));
    }
    weft_server::run(arguments).await.map_err(|error| CliError::failed(format!("{error:#}")))
}

/// The Bun that a server on this machine would use.
pub fn find_bun(runtime_dir: Option<&Path>) -> Result<PathBuf> {
    weft_server::find_bun(runtime_dir).map_err(|error| CliError::failed(format!("{error:#}")))
}

/// Names of variables that look like Weft's own and mean nothing.
fn unknown(names: impl Iterator<Item = String>, command: &Command) -> Vec<String> {
    let known = variables(command);
    let is_known = |name: &String| {
        known.contains(name) || OTHERS.contains(&name.as_str()) || OF_SERVICES.iter().any(|prefix| name.starts_with(prefix))
    };
    names.filter(|name| name.starts_with("WEFT_") && !is_known(name)).collect()
}

fn variables(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}
