//! Memory of an idle server, with nothing installed and with thousands of integrations.

use std::{fmt::Write, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::subject::{Launch, Subject};

const INTEGRATIONS: usize = 2000;
/// What a server gets to put its start behind it: the allocator gives back what is free when the periodic work comes round, every 30 s.
const SETTLE: Duration = Duration::from_secs(35);

pub async fn report() -> anyhow::Result<String> {
    let mut subject = Subject::with_integration(Launch::default(), "noop").await?;
    subject.call("noop").await?;
    let worker = subject.worker_memory()?;
    subject.restart().await?;
    let idle = settled(&subject).await?;
    let installs = (0..INTEGRATIONS).map(|number| {
        let subject = &subject;
        async move { subject.install(&manifest(number)).await }
    });
    stream::iter(installs).buffer_unordered(8).try_collect::<()>().await?;
    let installed = settled(&subject).await?;
    subject.restart().await?;
    let restarted = settled(&subject).await?;
    subject.get("/api/v1/integrations").await?;
    let listed = settled(&subject).await?;
    subject.stop().await?;

    let mut text = String::from("| resident memory | MiB | more than idle | aim |\n|---|---:|---:|---|\n");
    writeln!(text, "| server, idle | {idle:.1} | | ≤ 40 MiB |")?;
    for (name, size) in [
        ("after installing 2,000 integrations", installed),
        ("started again with them", restarted),
        ("after one list of them all", listed),
    ] {
        writeln!(text, "| server, {name} | {size:.1} | {:.1} | ≤ 40 MiB more |", size - idle)?;
    }
    writeln!(text, "| worker of the no-op integration | {worker:.1} | | |")?;
    Ok(text)
}

async fn settled(subject: &Subject) -> anyhow::Result<f64> {
    tokio::time::sleep(SETTLE).await;
    subject.memory()
}

/// An integration of common size: five actions with schemas both ways, four fields of configuration.
fn manifest(number: usize) -> Value {
    let text = json!({ "type": "string", "description": "What it is about, in a sentence of common length for such a thing." });
    let properties =
        json!({ "channel": text, "text": text, "thread": text, "limit": { "type": "integer", "minimum": 1, "maximum": 100 } });
    let schema = json!({ "type": "object", "properties": properties, "required": ["channel", "text"] });
    let action = |name: &str| {
        let description = "Does one of the things that the vendor offers, and says so in a sentence.";
        json!({ "id": name, "name": name, "description": description, "inputSchema": schema, "outputSchema": schema })
    };
    let actions: Vec<_> = ["list", "get", "create", "update", "remove"].into_iter().map(action).collect();
    let secret = json!({ "type": "string", "platformSecret": format!("TOKEN_{number}") });
    let config = json!({ "type": "object", "properties": { "token": secret, "url": text, "region": text, "team": text }, "required": ["token"] });
    json!({ "appId": format!("vendor_{number}"), "name": format!("Vendor {number}"), "version": "1.0.0", "type": "integration",
            "actions": actions, "configSchema": config })
}
