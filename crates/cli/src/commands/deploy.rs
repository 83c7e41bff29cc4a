//! `weft deploy`: ships manifest and backend in one request, then the frontend, and says what is left to do.
//!
//! Everything local is checked before the server is asked to change anything.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clap::Args;
use futures::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::frontend::{self, Build};
use super::plan::{Loss, losing, review};
use super::requirements::{Requirements, config_command};
use super::source::Source;
use crate::archive::{BACKEND, Plan};
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::manifest::Manifest;
use crate::output::{Output, Paint, human_bytes, printable};
use crate::progress::Step;

/// The server accepts no larger archive.
const LARGEST_ARCHIVE: u64 = 50 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;

#[derive(Args)]
pub struct Arguments {
    /// Project: its folder, the one with manifest.json, or an archive of that (.tar.gz), or the address of an archive
    #[arg(default_value = ".")]
    project: String,
    /// The archive's digest, 64 hexadecimal digits; needed for an address
    #[arg(long, value_name = "DIGITS")]
    sha256: Option<String>,
    /// Do not ask, even if the app's tables lose data
    #[arg(long, short)]
    yes: bool,
    /// Ship the frontend in dist/ as it is, without running the project's build script; so for every archive
    #[arg(long)]
    no_build: bool,
}

/// What was shipped.
#[derive(Default)]
struct Shipped {
    files: usize,
    bytes: u64,
    /// The number that the server gave to what it serves now.
    number: Option<u64>,
    migrations: Vec<Value>,
    /// What the server found and nobody is likely to have meant.
    warnings: Vec<String>,
    /// Where the frontend is.
    frontend: Option<String>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let source = Source::open(&arguments.project, arguments.sha256.as_deref()).await?;
    let folder = source.folder();
    let manifest = Manifest::load(folder)?;
    let plan = Plan::of(folder, &manifest)?;
    let client = context.authorized()?;
    let output = &context.output;
    let build = if arguments.no_build || source.is_archive() { Build::Skip } else { Build::Run };
    let pages = frontend::prepare(output, folder, &manifest, build).await?;
    let loss = review(context, &client, &manifest, Loss::accepted(arguments.yes)).await?;
    let mut shipped = if let Some(plan) = &plan {
        ship(output, &client, &manifest, (plan, loss)).await?
    } else {
        let warnings = install(output, &client, &manifest, loss).await?;
        if !manifest.is_complete_without_backend() {
            output.note(&format!("There is no {BACKEND} folder: only the manifest was installed."));
        }
        Shipped { warnings, ..Shipped::default() }
    };
    if let Some(pages) = &pages {
        shipped.frontend = Some(frontend::ship(output, &client, &manifest, pages).await?);
    }
    let after = After::of(output, &client, &manifest).await;
    report(output, &client, &manifest, &shipped, &after)
}

async fn install(output: &Output, client: &Client, manifest: &Manifest, loss: Loss) -> Result<Vec<String>> {
    let step = Step::begin(output, "install manifest");
    let answer = client.send(Method::POST, losing(client.api(&["apps"]), loss), &manifest.document).await?;
    step.done(format!("{} {}", manifest.app_id, manifest.version).trim_end());
    Ok(warnings(&answer))
}

/// What the server says of what it took.
pub fn warnings(answer: &Value) -> Vec<String> {
    let texts = answer.get("warnings").and_then(Value::as_array).into_iter().flatten();
    texts.filter_map(Value::as_str).map(printable).collect()
}

async fn ship(output: &Output, client: &Client, manifest: &Manifest, (plan, loss): (&Plan, Loss)) -> Result<Shipped> {
    let step = Step::begin(output, "pack");
    let archive = Bytes::from(plan.pack()?);
    let bytes = u64::try_from(archive.len()).unwrap_or(u64::MAX);
    if bytes > LARGEST_ARCHIVE {
        let (size, limit) = (human_bytes(bytes), human_bytes(LARGEST_ARCHIVE));
        return Err(CliError::failed(format!("the archive has {size}, and the server accepts {limit}"))
            .with_hint(format!("move what is not code out of {BACKEND}/")));
    }
    let noun = if plan.len() == 1 { "file" } else { "files" };
    step.done(&format!("{} {noun}, {}", plan.len(), human_bytes(bytes)));
    let manifest_text = manifest.document.to_string();
    let upload = Upload { output: output.clone(), manifest: manifest_text, archive, total: bytes, step: Arc::default() };
    let url = losing(client.api(&["apps", &manifest.app_id, "deploy"]), loss);
    let answer = client.fetch(|http| Ok(http.post(url.clone()).multipart(upload.form()?))).await?;
    upload.finish();
    let migrations = answer.get("migrationsApplied").and_then(Value::as_array).cloned().unwrap_or_default();
    let number = answer.get("version").and_then(Value::as_u64);
    Ok(Shipped { files: plan.len(), bytes, number, migrations, warnings: warnings(&answer), frontend: None })
}

/// An archive on its way. One request covers two steps: sending it, and waiting while the server unpacks and starts it.
struct Upload {
    output: Output,
    /// Goes along, so that it is installed if the new version starts and only then.
    manifest: String,
    archive: Bytes,
    total: u64,
    step: Arc<Mutex<Option<Step>>>,
}

impl Upload {
    /// The request's body; made again when the request is repeated.
    fn form(&self) -> Result<Form> {
        replace(&self.step, Some(Step::begin_bytes(&self.output, "upload", self.total)));
        let (step, output, total) = (Arc::clone(&self.step), self.output.clone(), self.total);
        let chunks = stream::unfold(self.archive.clone(), move |mut rest| {
            if rest.is_empty() {
                sent(&step, &output, total);
                return std::future::ready(None);
            }
            let chunk = rest.split_to(rest.len().min(CHUNK));
            advance(&step, chunk.len());
            std::future::ready(Some((Ok::<_, std::convert::Infallible>(chunk), rest)))
        });
        release_form(Some(self.manifest.clone()), Part::stream_with_length(Body::wrap_stream(chunks), self.total))
    }

    fn finish(&self) {
        if let Some(step) = replace(&self.step, None) {
            step.done("");
        }
    }
}

/// The body of a deployment. The manifest comes first: the server looks at it before it takes the archive.
pub fn release_form(manifest: Option<String>, archive: Part) -> Result<Form> {
    let unprepared = |error: reqwest::Error| CliError::failed(format!("cannot prepare the upload: {error}"));
    let mut form = Form::new();
    if let Some(manifest) = manifest {
        form = form.part("manifest", Part::text(manifest).mime_str("application/json").map_err(unprepared)?);
    }
    let archive = archive.file_name("backend.tar.gz").mime_str("application/gzip").map_err(unprepared)?;
    Ok(form.part("archive", archive))
}

fn sent(slot: &Mutex<Option<Step>>, output: &Output, total: u64) {
    if let Some(step) = replace(slot, None) {
        step.done(&human_bytes(total));
    }
    replace(slot, Some(Step::begin(output, "install dependencies and start")));
}

fn advance(slot: &Mutex<Option<Step>>, bytes: usize) {
    if let Some(step) = slot.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        step.advance(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

fn replace(slot: &Mutex<Option<Step>>, step: Option<Step>) -> Option<Step> {
    std::mem::replace(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner), step)
}

/// What an integration offers and lacks once it is deployed; empty for other apps.
#[derive(Default)]
pub struct After {
    webhooks: Vec<Webhook>,
    requirements: Option<Requirements>,
}

#[derive(Deserialize)]
struct Webhook {
    name: String,
    url: String,
}

impl After {
    /// Asks for both; a refusal is only told, because the deployment itself has succeeded.
    pub async fn of(output: &Output, client: &Client, manifest: &Manifest) -> Self {
        if !manifest.is_integration() {
            return Self::default();
        }
        let webhooks = webhooks(client, &manifest.app_id).await;
        let requirements = Requirements::of(client, &manifest.app_id).await;
        for error in [webhooks.as_ref().err(), requirements.as_ref().err()].into_iter().flatten() {
            output.note(&format!("Deployed, but the server did not say what is next: {}", printable(&error.to_string())));
        }
        Self { webhooks: webhooks.unwrap_or_default(), requirements: requirements.unwrap_or_default() }
    }

    pub fn missing(&self) -> &[String] {
        self.requirements.as_ref().map_or(&[], |requirements| &requirements.missing)
    }

    pub fn configured(&self) -> bool {
        self.requirements.as_ref().is_none_or(|requirements| requirements.configured)
    }

    /// Names of webhooks with their full addresses.
    pub fn addresses(&self, client: &Client) -> Vec<(String, String)> {
        self.webhooks.iter().map(|webhook| (printable(&webhook.name), client.absolute(&printable(&webhook.url)))).collect()
    }
}

async fn webhooks(client: &Client, app: &str) -> Result<Vec<Webhook>> {
    decode(&client.get(client.api(&["apps", app, "webhooks"])).await?)
}

fn report(output: &Output, client: &Client, manifest: &Manifest, shipped: &Shipped, after: &After) -> Result<()> {
    let webhooks = after.addresses(client);
    let result = json!({
        "appId": manifest.app_id,
        "version": manifest.version,
        "url": client.base(),
        "backend": shipped.files > 0,
        "files": shipped.files,
        "bytes": shipped.bytes,
        "number": shipped.number,
        "migrationsApplied": shipped.migrations,
        "warnings": shipped.warnings,
        "frontend": shipped.frontend,
        "webhooks": webhooks.iter().map(|(name, url)| json!({ "name": name, "url": url })).collect::<Vec<_>>(),
        "configured": after.configured(),
        "missing": after.missing(),
    });
    output.show(&result, || {
        let state = if shipped.files > 0 { "deployed to" } else { "installed on" };
        let number = shipped.number.map_or_else(String::new, |number| format!(" as version {number}"));
        let head = format!("{} is {state} {}{number}", manifest.app_id, client.base());
        let hooks = webhooks.iter().map(|(name, url)| format!("webhook {name}: {url}"));
        let files: Vec<_> = shipped.migrations.iter().filter_map(Value::as_str).map(printable).collect();
        let migrations = (!files.is_empty()).then(|| format!("migrations: {}", files.join(", ")));
        let pages = shipped.frontend.iter().map(|url| format!("frontend: {url}"));
        std::iter::once(head).chain(migrations).chain(pages).chain(hooks).collect::<Vec<_>>().join("\n")
    })?;
    for warning in &shipped.warnings {
        output.note(&format!("{} {warning}", output.paint_err(Paint::Warn, "!")));
    }
    output.note(&next_step(manifest, shipped, after));
    Ok(())
}

fn next_step(manifest: &Manifest, shipped: &Shipped, after: &After) -> String {
    let id = &manifest.app_id;
    if !after.configured() {
        let missing = after.missing();
        return format!("Configuration is missing: {}\nNext: {}", missing.join(", "), config_command(id, missing));
    }
    match manifest.actions.first() {
        Some(action) if manifest.is_integration() => format!("Next: weft call {id} {} '{{…}}'", action.id),
        _ if shipped.files > 0 => format!("Next: weft logs {id}"),
        _ => "Next: weft apps".to_owned(),
    }
}
