//! Actions by recipe and the proxy, against the same request sent to the vendor directly and through a bare axum and reqwest proxy.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{
    load::{self, Measured, Method, Plan},
    peers,
    subject::{INPUT, Launch, Subject},
    throughput::{Effort, median, plan},
};

const CALLERS: [usize; 2] = [1, 32];
const APP: &str = "vendor";

pub async fn report(effort: Effort) -> anyhow::Result<String> {
    let (_vendor, vendor) = peers::start(&["echo"]).await?;
    let (_bare, bare) = peers::start(&["forward", &vendor]).await?;
    let settings = "egress_allow = [\"127.0.0.1\"]\n".to_owned();
    let mut subject = Subject::start(Launch { settings, ..Launch::default() }).await?;
    subject.install(&manifest(&vendor)).await?;
    subject.put(&format!("/api/v1/integrations/{APP}/config"), &json!({ "token": "a-token-of-the-vendor" })).await?;
    let mut text = String::from(
        "| what | callers | calls/s | p50 µs | p99 µs | p50 added to direct, µs | calls/s ÷ bare proxy |\n|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for callers in CALLERS {
        let call = Plan { callers, time: effort.time, ..plan(&subject, APP, "echo") };
        let to =
            |address: &str| Plan { address: address.to_owned(), path: "/echo".to_owned(), token: String::new(), ..call.clone() };
        let proxied = Plan { path: format!("/api/v1/integrations/{APP}/proxy/echo"), method: Method::Post, ..call.clone() };
        let ways = [
            ("the vendor, directly", to(&vendor)),
            ("bare proxy", to(&bare)),
            ("action by recipe", call.clone()),
            ("proxy", proxied),
        ];
        let mut rounds = ways.each_ref().map(|_| Vec::new());
        for _ in 0..effort.rounds {
            for ((_, plan), measured) in ways.iter().zip(&mut rounds) {
                measured.push(load::run(plan).await?);
            }
        }
        let medians: [Measured; 4] = rounds.map(|measured| median(&measured));
        let [direct, bare, ..] = medians;
        for ((name, _), own) in ways.iter().zip(&medians) {
            let (added, ratio) = (own.p50 - direct.p50, own.per_second / bare.per_second);
            writeln!(
                text,
                "| {name} | {callers} | {:.0} | {:.0} | {:.0} | {added:.0} | {ratio:.2} |",
                own.per_second, own.p50, own.p99
            )?;
        }
    }
    subject.stop().await?;
    Ok(text)
}

fn manifest(vendor: &str) -> Value {
    let input: Value = serde_json::from_str(INPUT).unwrap_or_default();
    let names: Vec<&String> = input.as_object().into_iter().flat_map(|input| input.keys()).collect();
    let members =
        |value: fn(&str) -> Value| names.iter().map(|name| ((*name).clone(), value(name))).collect::<serde_json::Map<_, _>>();
    let schema = json!({ "type": "object", "properties": members(|_| json!({ "type": "string" })), "required": names });
    let body = members(|name| json!(format!("{{{{ input.{name} }}}}")));
    json!({
        "appId": APP, "name": "Vendor", "type": "integration",
        "configSchema": { "properties": { "token": { "type": "string", "platformSecret": "VENDOR_TOKEN" } }, "required": ["token"] },
        "http": { "baseUrl": format!("http://{vendor}"), "auth": { "type": "bearer", "token": "{{ config.token }}" } },
        "actions": [{
            "id": "echo", "name": "Echo", "effect": "write", "inputSchema": schema, "outputSchema": schema,
            "recipe": { "method": "POST", "path": "/echo", "body": { "json": body } },
        }],
    })
}
