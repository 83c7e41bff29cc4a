//! `weft logs`: the live log of an app, line by line, until the server or the person ends it.

use clap::Args;
use futures::StreamExt;
use serde::Deserialize;

use super::Context;
use crate::error::Result;
use crate::input;
use crate::output::{Output, Paint, print_line, printable};
use crate::sse::EventReader;

#[derive(Args)]
pub struct Arguments {
    /// App or integration
    #[arg(value_parser = input::identifier)]
    app: String,
    /// Keep following: always so, because the server sends live lines only
    #[arg(long, short)]
    follow: bool,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    message: String,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let client = context.authorized()?;
    let url = client.api(&["apps", &arguments.app, "logs"]);
    let response = client.execute(|http| Ok(http.get(url.clone()).header("accept", "text/event-stream"))).await?;
    context.output.note(&format!("Following the log of {}; stop with Ctrl-C", arguments.app));
    let mut stream = response.bytes_stream();
    let mut reader = EventReader::default();
    while let Some(bytes) = stream.next().await {
        for data in reader.push(&bytes.map_err(|error| client.transport(&error))?) {
            print(&context.output, &data)?;
        }
    }
    context.output.note("The server ended the log stream");
    Ok(())
}

fn print(output: &Output, data: &str) -> Result<()> {
    let Ok(line) = serde_json::from_str::<Line>(data) else { return print_line(&printable(data)) };
    if output.is_json() {
        return print_line(data);
    }
    let level = format!("{:<6}", printable(&line.level));
    let level = paint(&line.level).map_or_else(|| level.clone(), |paint| output.paint(paint, &level));
    print_line(&format!("{level} {}", printable(&line.message)))
}

fn paint(level: &str) -> Option<Paint> {
    match level {
        "error" => Some(Paint::Bad),
        "warn" | "stderr" => Some(Paint::Warn),
        "info" => Some(Paint::Good),
        "system" | "event" => Some(Paint::Bold),
        "debug" => Some(Paint::Dim),
        _ => None,
    }
}
