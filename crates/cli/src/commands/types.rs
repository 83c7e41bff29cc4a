//! `weft types`: writes the manifest's types beside the backend, where `defineIntegration` finds them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::Context;
use crate::archive::BACKEND;
use crate::error::{CliError, Result};
use crate::manifest::Manifest;
use crate::types;

/// The generated file, below the project's folder.
pub const FILE: &str = "backend/manifest.d.ts";

#[derive(Args)]
pub struct Arguments {
    /// Project folder: the one with manifest.json
    #[arg(default_value = ".")]
    folder: PathBuf,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let manifest = Manifest::load(&arguments.folder)?;
    let path = arguments.folder.join(FILE);
    if !arguments.folder.join(BACKEND).is_dir() || !manifest.is_integration() {
        return Err(CliError::usage("only an integration with a backend has types")
            .with_hint("give the manifest \"type\": \"integration\" and put an index.ts into backend/"));
    }
    let written = write(&arguments.folder, &manifest.document)?;
    let state = if written { "Wrote" } else { "Up to date:" };
    context.output.show(&json!({ "file": path, "written": written }), || format!("{state} {}", path.display()))
}

/// Writes the types of an integration with a backend; true when that changed the file.
pub fn write(folder: &Path, manifest: &Value) -> Result<bool> {
    let Some(text) = types::declarations(manifest).filter(|_| folder.join(BACKEND).is_dir()) else { return Ok(false) };
    let path = folder.join(FILE);
    if fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return Ok(false);
    }
    fs::write(&path, text).map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?;
    Ok(true)
}
