//! `weft import`: an integration out of a document that describes an API.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Url;
use serde_json::{Value, json};
use weft_model::Manifest;
use weft_openapi::{Change, Import, Options, Refresh, import, parse, refresh};

use super::Context;
use crate::download::{address, download};
use crate::error::{CliError, Result};
use crate::input;
use crate::manifest::FILE;
use crate::output::printable;

/// Bytes of a document that are read.
const LARGEST: usize = 64 * 1024 * 1024;
/// Lines of a list that people are shown.
const MOST_LINES: usize = 20;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an integration of an OpenAPI 3.0 or 3.1 document, one action per operation
    Openapi(OpenApi),
}

#[derive(Args)]
struct OpenApi {
    /// File or address of the document, JSON or YAML
    document: String,
    /// Where the integration goes; a folder named after its id when absent
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Id of the integration; made of the document's title when absent
    #[arg(long, value_parser = input::identifier)]
    id: Option<String>,
    /// Address of the API, where the document does not say it or says another one
    #[arg(long, value_name = "ADDRESS")]
    base_url: Option<String>,
    /// Bring an integration that was imported before up to date, and say what that breaks
    #[arg(long)]
    refresh: bool,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let Command::Openapi(arguments) = arguments.command;
    let (text, source) = read(&arguments.document).await?;
    let refused = |error: weft_openapi::Error| CliError::failed(format!("{}: {error}", arguments.document));
    let document = parse(&text).map_err(refused)?;
    let id = arguments.id.clone().unwrap_or_else(|| weft_openapi::id(&document));
    let folder = arguments.folder.clone().unwrap_or_else(|| PathBuf::from(&id));
    let earlier = earlier(&folder, arguments.refresh)?;
    // Secrets are named after the integration, and keep their names as it does.
    let id = earlier.as_ref().and_then(|earlier| earlier["appId"].as_str()).map_or(id, str::to_owned);
    let options = Options { id: Some(id), base_url: arguments.base_url.clone(), source };
    let Import { manifest, mut notes } = import(&document, &options).map_err(refused)?;
    let manifest = sound(manifest, &mut notes)?;
    let refreshed = match earlier {
        Some(earlier) => refresh(&earlier, &manifest),
        None => Refresh { manifest, changes: Vec::new(), kept: Vec::new() },
    };
    write(&folder, &refreshed.manifest)?;
    report(context, &folder, &refreshed, &notes, arguments.refresh)
}

async fn read(document: &str) -> Result<(String, Option<Url>)> {
    let Some(url) = address(document) else {
        let unreadable = |error| CliError::usage(format!("cannot read {document}: {error}"));
        return Ok((fs::read_to_string(document).map_err(unreadable)?, None));
    };
    // Relative addresses of servers are relative to where it came from in the end.
    let (bytes, source) = download(&url, LARGEST).await?;
    let text = String::from_utf8(bytes).map_err(|_| CliError::failed(format!("{document} is not UTF-8")))?;
    Ok((text, Some(source)))
}

/// The manifest that is there already, when it is to be refreshed.
fn earlier(folder: &Path, wanted: bool) -> Result<Option<Value>> {
    let path = folder.join(FILE);
    let shown = path.display().to_string();
    match (fs::read_to_string(&path), wanted) {
        (Ok(text), true) => input::parse_json(&text, &shown).map(Some),
        (Ok(_), false) => {
            Err(CliError::usage(format!("{shown} is there already")).with_hint("bring it up to date with --refresh"))
        }
        (Err(_), true) => {
            Err(CliError::usage(format!("there is no {shown} to refresh")).with_hint("name its folder with --folder"))
        }
        (Err(_), false) => Ok(None),
    }
}

/// Without the actions that the platform would refuse; each is told.
fn sound(mut manifest: Value, notes: &mut Vec<String>) -> Result<Value> {
    let Err(faults) = Manifest::parse(manifest.clone()) else { return Ok(manifest) };
    let index = |path: &str| path.strip_prefix("$.actions[")?.split(']').next()?.parse::<usize>().ok();
    let mut left_out: Vec<_> = faults.iter().filter_map(|fault| Some((index(&fault.path)?, fault.message.clone()))).collect();
    left_out.sort();
    left_out.dedup_by_key(|(index, _)| *index);
    for (index, message) in left_out.into_iter().rev() {
        if let Some(actions) = manifest["actions"].as_array_mut().filter(|actions| index < actions.len()) {
            let action = actions.remove(index);
            notes.push(format!("{} is left out: {message}", action["id"].as_str().unwrap_or_default()));
        }
    }
    Manifest::parse(manifest.clone()).map(|_| manifest).map_err(|faults| {
        let first = faults.first().map(|fault| format!("{}: {}", fault.path, fault.message)).unwrap_or_default();
        CliError::failed(format!("the document does not make a manifest: {first}"))
    })
}

fn write(folder: &Path, manifest: &Value) -> Result<()> {
    let failed = |error: std::io::Error| CliError::failed(format!("cannot write {}: {error}", folder.join(FILE).display()));
    fs::create_dir_all(folder).map_err(failed)?;
    let text = serde_json::to_string_pretty(manifest).map_err(|error| CliError::failed(error.to_string()))?;
    fs::write(folder.join(FILE), text + "\n").map_err(failed)
}

fn report(context: &Context, folder: &Path, made: &Refresh, notes: &[String], refreshed: bool) -> Result<()> {
    let Refresh { manifest, changes, kept } = made;
    let actions = manifest["actions"].as_array().map_or(0, Vec::len);
    let change = |change: &Change| json!({ "breaking": change.breaking, "place": change.place, "what": change.what });
    let result = json!({
        "appId": manifest["appId"], "version": manifest["version"], "folder": folder, "actions": actions, "leftOut": notes,
        "kept": kept, "changes": changes.iter().map(change).collect::<Vec<_>>(),
    });
    context.output.show(&result, || {
        let mut lines = vec![format!("{}: {actions} actions", folder.join(FILE).display())];
        if refreshed {
            let breaking = changes.iter().filter(|change| change.breaking).count();
            lines.push(format!("{} changes, {breaking} of them breaking", changes.len()));
        }
        let word = |change: &Change| if change.breaking { "breaking" } else { "change" };
        lines.extend(cut(changes
            .iter()
            .map(|change| format!("  {}: {} {}", word(change), printable(&change.place), printable(&change.what)))));
        lines.join("\n")
    })?;
    for list in [kept.as_slice(), notes] {
        for note in cut(list.iter().map(|note| printable(note))) {
            context.output.note(&format!("Note: {note}"));
        }
    }
    context.output.note(&format!("Next: look over {}, then weft deploy {}", folder.join(FILE).display(), folder.display()));
    Ok(())
}

fn cut(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_LINES);
    let rest = (more > 0).then(|| format!("  … and {more} more, see --json"));
    lines.take(MOST_LINES).chain(rest).collect()
}
