//! What a deployment changes in an app's tables: shown beforehand, and asked about where data would be lost.

use reqwest::{Method, Url};
use serde::Deserialize;

use super::Context;
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::input::{self, Question};
use crate::manifest::Manifest;
use crate::output::printable;

#[derive(Deserialize)]
struct Planned {
    changes: Vec<Change>,
    #[serde(default)]
    obstacles: Vec<Obstacle>,
}

#[derive(Deserialize)]
struct Change {
    entity: String,
    #[serde(rename = "change_type")]
    kind: String,
    column: String,
    detail: Option<String>,
    loss: Option<String>,
}

#[derive(Deserialize)]
struct Obstacle {
    path: String,
    message: String,
}

/// Whether an app's data may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Refused,
    Accepted,
}

impl Loss {
    /// What `--yes` says.
    pub fn accepted(yes: bool) -> Self {
        if yes { Self::Accepted } else { Self::Refused }
    }
}

/// Shows what would change. Whoever has not accepted a loss beforehand is asked when there is one.
pub async fn review(context: &Context, client: &Client, manifest: &Manifest, loss: Loss) -> Result<Loss> {
    let answer = client.send(Method::POST, client.api(&["apps", "schema", "verify"]), &manifest.document).await?;
    let planned: Planned = decode(&answer)?;
    let output = &context.output;
    if !planned.changes.is_empty() {
        output.note(&format!("Tables of {}:\n{}", manifest.app_id, lines(&planned.changes)));
    }
    if let Some(obstacle) = planned.obstacles.first() {
        let what = format!("{} {}", printable(&obstacle.path), printable(&obstacle.message));
        return Err(CliError::failed(format!("the data contract cannot take effect: {what}")));
    }
    if loss == Loss::Accepted || planned.changes.iter().all(|change| change.loss.is_none()) {
        return Ok(loss);
    }
    let text = format!("This loses data on {}, for good. Type {} to go on", client.base(), manifest.app_id);
    let question = Question { text: &text, subject: "the confirmation", instead: "pass --yes to lose it without being asked" };
    if input::prompt(&question)? == manifest.app_id {
        Ok(Loss::Accepted)
    } else {
        Err(CliError::failed("nothing was deployed: that is not the app's id"))
    }
}

fn lines(changes: &[Change]) -> String {
    let line = |change: &Change| {
        let place = if change.column.is_empty() { change.entity.clone() } else { format!("{}.{}", change.entity, change.column) };
        let detail = change.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
        let loss = change.loss.as_ref().map_or_else(String::new, |loss| format!("\n      LOSES {loss}"));
        printable(&format!("{} {place}{detail}{loss}", change.kind.replace('_', " ")))
    };
    changes.iter().map(|change| format!("  - {}", line(change))).collect::<Vec<_>>().join("\n")
}

/// The address of a route that may lose data.
pub fn losing(mut url: Url, loss: Loss) -> Url {
    if loss == Loss::Accepted {
        url.query_pairs_mut().append_pair("acceptLoss", "true");
    }
    url
}
