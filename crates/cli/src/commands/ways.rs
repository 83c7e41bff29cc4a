//! The ways to connect an integration: showing them, and asking which one is meant.

use serde::Deserialize;
use serde_json::Value;

use super::Context;
use crate::client::{Client, decode};
use crate::error::{CliError, Result};
use crate::input::{self, Question};
use crate::output::{printable, table};

/// A way to connect, as the server tells it.
#[derive(Debug, Deserialize)]
struct Way {
    name: String,
    title: Option<String>,
    description: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    missing: Vec<String>,
}

/// What a server says of connecting. One that is older names no ways.
#[derive(Deserialize)]
struct Offer {
    #[serde(default)]
    ways: Vec<Way>,
}

impl Way {
    fn title(&self) -> String {
        printable(self.title.as_deref().unwrap_or(&self.name))
    }

    fn state(&self) -> String {
        if self.missing.is_empty() { "ready".to_owned() } else { format!("not configured: {}", self.missing.join(", ")) }
    }
}

async fn asked(client: &Client, integration: &str) -> Result<Value> {
    client.get(client.api(&["integrations", integration, "auth"])).await
}

/// Shows all ways with what they still lack.
pub async fn list(context: &Context, client: &Client, integration: &str) -> Result<()> {
    let answer = asked(client, integration).await?;
    let Offer { ways } = decode(&answer)?;
    context.output.show(&answer["ways"], || {
        let rows: Vec<_> = ways.iter().map(|way| [way.name.clone(), way.title(), way.kind.clone(), way.state()]).collect();
        table(["NAME", "TITLE", "TYPE", "STATE"], &rows)
    })
}

/// Asks somebody at a terminal which way to take. `None`: there is nothing to choose.
pub async fn choose(context: &Context, client: &Client, integration: &str) -> Result<Option<String>> {
    let Offer { ways } = decode(&asked(client, integration).await?)?;
    if ways.len() < 2 {
        return Ok(None);
    }
    for (index, way) in ways.iter().enumerate() {
        context.output.note(&line(index, way));
    }
    let question = Question { text: "Which way [1]", subject: "the way to connect", instead: "name it with --way" };
    picked(&ways, &input::prompt(&question)?).map(Some)
}

fn line(index: usize, way: &Way) -> String {
    let lacks = if way.missing.is_empty() { String::new() } else { format!(" ({})", way.state()) };
    let more = way.description.as_deref().map(|text| format!("\n     {}", printable(text))).unwrap_or_default();
    format!("  {}. {}{lacks}{more}", index + 1, way.title())
}

/// The way of that number or name; nothing means the first.
fn picked(ways: &[Way], answer: &str) -> Result<String> {
    let number = if answer.is_empty() { Some(1) } else { answer.parse::<usize>().ok() };
    let found = match number {
        Some(number) => number.checked_sub(1).and_then(|index| ways.get(index)),
        None => ways.iter().find(|way| way.name == answer),
    };
    let names = || ways.iter().map(|way| way.name.as_str()).collect::<Vec<_>>().join(", ");
    let way = found.ok_or_else(|| CliError::usage(format!("there is no way {answer:?}; there is: {}", names())))?;
    Ok(way.name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_way_is_picked_by_its_number_or_its_name_and_nothing_means_the_first() {
        let way = |name: &str| json!({ "name": name, "title": null, "description": null, "type": "token", "missing": [] });
        let ways: Vec<Way> = serde_json::from_value(json!([way("default"), way("installation")])).expect("ways");
        for (answer, expected) in [("", "default"), ("1", "default"), ("2", "installation"), ("installation", "installation")] {
            assert_eq!(picked(&ways, answer).ok().as_deref(), Some(expected), "{answer}");
        }
        for answer in ["0", "3", "other"] {
            assert!(picked(&ways, answer).is_err(), "{answer}");
        }
    }
}
