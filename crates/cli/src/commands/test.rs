//! `weft test`: runs a project's own tests with Bun, without a server and, unless something is to be recorded, without a network.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::process::Command;

use super::Context;
use crate::error::{CliError, Result};
use crate::manifest::Manifest;
use crate::serve;

/// What a test runs under, as it was when this program was built.
const HELPER: [(&str, &str); 11] = [
    ("calls.ts", include_str!("../../../../js/worker/src/calls.ts")),
    ("data.ts", include_str!("../../../../js/worker/src/data.ts")),
    ("dev.ts", include_str!("../../../../js/worker/src/dev.ts")),
    ("errors.ts", include_str!("../../../../js/worker/src/errors.ts")),
    ("integration.ts", include_str!("../../../../js/worker/src/integration.ts")),
    ("intercept.ts", include_str!("../../../../js/worker/src/intercept.ts")),
    ("outgoing.ts", include_str!("../../../../js/worker/src/outgoing.ts")),
    ("recording.ts", include_str!("../../../../js/worker/src/recording.ts")),
    ("secrets.ts", include_str!("../../../../js/worker/src/secrets.ts")),
    ("serve.ts", include_str!("../../../../js/worker/src/serve.ts")),
    ("wire.ts", include_str!("../../../../js/worker/src/wire.ts")),
];
const PRELOAD: (&str, &str) = ("testing.ts", include_str!("../../../../js/worker/src/testing.ts"));

#[derive(Args)]
pub struct Arguments {
    /// Project folder: the one with manifest.json
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Let requests out to the network and write them to test/recordings
    #[arg(long)]
    record: bool,
    /// Folder with Bun, as for `weft serve`
    #[arg(long, env = "WEFT_RUNTIME_DIR", value_name = "FOLDER", hide = true)]
    runtime_dir: Option<PathBuf>,
    /// Arguments for `bun test`, such as a file or `-t name`
    #[arg(last = true, value_name = "ARGUMENTS")]
    passed_on: Vec<OsString>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    Manifest::load(&arguments.folder)?;
    let bun = serve::find_bun(arguments.runtime_dir.as_deref())?;
    let helper = tempfile::Builder::new()
        .prefix("weft-test-")
        .tempdir()
        .map_err(|error| CliError::failed(format!("cannot make a temporary folder: {error}")))?;
    let preload = write_helper(helper.path())?;
    let mut command = Command::new(&bun);
    command.arg("test").arg("--preload").arg(&preload).args(&arguments.passed_on).current_dir(&arguments.folder);
    command.env("WEFT_TEST_RECORD", if arguments.record { "1" } else { "0" }).kill_on_drop(true);
    let status = command.status().await.map_err(|error| CliError::failed(format!("cannot run {}: {error}", bun.display())))?;
    if !status.success() {
        return Err(CliError::failed("the tests failed"));
    }
    if arguments.record {
        context.output.note("Recorded to test/recordings. Secrets were taken out; look the files over before you commit them.");
    }
    Ok(())
}

fn write_helper(folder: &Path) -> Result<PathBuf> {
    for (name, text) in HELPER.iter().chain([&PRELOAD]) {
        fs::write(folder.join(name), text)
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", folder.join(name).display())))?;
    }
    Ok(folder.join(PRELOAD.0))
}
