//! The frontend of a project: built by its own script and shipped as it comes out of that.
//!
//! `package.json` beside the manifest with a script `build` makes it one; what is in `dist` afterwards is the frontend. The build is told
//! where the app will be in `WEFT_BASE`.

use std::path::{Path, PathBuf};

use reqwest::multipart::{Form, Part};
use serde_json::Value;
use tokio::process::Command;

use crate::archive::Plan;
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::manifest::Manifest;
use crate::output::{Output, human_bytes};
use crate::progress::Step;
use crate::serve;

/// What a build leaves behind.
const DIST: &str = "dist";
const PACKAGE: &str = "package.json";
/// Where the app will be, for the build.
const BASE: &str = "WEFT_BASE";

/// Whether a project's frontend is built before it is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    Run,
    Skip,
}

/// Builds the frontend of a project, if it has one, and says which files it consists of.
pub async fn prepare(output: &Output, folder: &Path, manifest: &Manifest, build: Build) -> Result<Option<Plan>> {
    // The package.json of an integration is its backend's. And what lies in `dist` without a build is not known to be meant for anybody.
    if manifest.is_integration() || !has_build(folder)? {
        return Ok(None);
    }
    if build == Build::Run {
        let step = Step::begin(output, "build frontend");
        let program = package_manager(folder)?;
        if !folder.join("node_modules").is_dir() {
            run(&program, &["install"], folder, &manifest.app_id).await?;
        }
        run(&program, &["run", "build"], folder, &manifest.app_id).await?;
        step.done("");
    }
    Plan::of_folder(&folder.join(DIST))
}

/// Ships the files. Returns the address of the frontend.
pub async fn ship(output: &Output, client: &Client, manifest: &Manifest, plan: &Plan) -> Result<String> {
    let step = Step::begin(output, "upload frontend");
    let archive = plan.pack()?;
    let size = human_bytes(u64::try_from(archive.len()).unwrap_or(u64::MAX));
    let url = client.api(&["apps", &manifest.app_id, "frontend"]);
    let answer = client.fetch(|http| Ok(http.post(url.clone()).multipart(form(archive.clone())?))).await?;
    step.done(&format!("{} files, {size}", plan.len()));
    Ok(client.absolute(answer.get("url").and_then(Value::as_str).unwrap_or_default()))
}

fn form(archive: Vec<u8>) -> Result<Form> {
    let part = Part::bytes(archive).file_name("frontend.tar.gz").mime_str("application/gzip");
    let part = part.map_err(|error| CliError::failed(format!("cannot prepare the upload: {error}")))?;
    Ok(Form::new().part("archive", part))
}

fn has_build(folder: &Path) -> Result<bool> {
    let path = folder.join(PACKAGE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(CliError::failed(format!("cannot read {}: {error}", path.display()))),
    };
    // What is wrong with it the server will say, if it is the backend's.
    let package: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(package.pointer("/scripts/build").is_some())
}

/// npm where the project has its lockfile, else Bun.
fn package_manager(folder: &Path) -> Result<PathBuf> {
    if folder.join("package-lock.json").is_file() { Ok("npm".into()) } else { serve::find_bun(None) }
}

async fn run(program: &Path, arguments: &[&str], folder: &Path, app: &str) -> Result<()> {
    let words = format!("{} {}", program.file_name().unwrap_or_default().to_string_lossy(), arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env(BASE, format!("/apps/{app}/")).kill_on_drop(true);
    let done = command.output().await.map_err(|error| CliError::failed(format!("cannot run `{words}`: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned()).join("\n");
    Err(CliError::failed(format!("`{words}` failed:\n{}", said.trim()))
        .with_hint(format!("mend it, or build {DIST}/ yourself and pass --no-build")))
}
