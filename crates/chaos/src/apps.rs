//! What is installed on the servers under test: two integrations that call each other, an app, and who may do what.

use anyhow::Context;
use flate2::{Compression, write::GzEncoder};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::{
    client::{Client, Login},
    later,
};

pub const INTEGRATIONS: [&str; 2] = ["alpha", "beta"];
pub const APP: &str = "gamma";
/// Whose worker writes effects.
pub const WITH_EFFECTS: [&str; 2] = INTEGRATIONS;

const BACKEND: &str = include_str!("backend.ts");
const APP_BACKEND: &str = "serve({ rpc: { echo: async ({ nonce, ms }, caller) => {
    if (ms) await Bun.sleep(ms);
    return { nonce, userId: caller.userId };
} } })";
const ROLE: &str = "callers";

/// Users that call, their number and how they log in.
pub struct Installed {
    pub callers: Vec<Login>,
    /// Where senders post: the path of a webhook of each integration.
    pub webhooks: Vec<String>,
}

/// Registers the administrator and the callers, installs everything and deploys it.
pub async fn install(client: &Client, url: &str, callers: usize) -> anyhow::Result<Installed> {
    let administrator = client.register(url, "administrator").await?;
    let token = administrator.access.as_str();
    for id in INTEGRATIONS {
        client.post(url, "/api/v1/apps", Some(token), &integration(id)).await?;
        client.deploy(url, token, id, archive(BACKEND)?).await?;
    }
    client.post(url, "/api/v1/apps", Some(token), &json!({ "appId": APP, "name": APP, "version": "1.0.0" })).await?;
    client.deploy(url, token, APP, archive(APP_BACKEND)?).await?;
    later::install(client, url, token).await?;

    let may = ["echo", "nested", "once", "destroy"];
    let mut permissions: Vec<_> =
        INTEGRATIONS.iter().flat_map(|id| may.map(|action| format!("integration:{id}:{action}"))).collect();
    permissions.push(format!("app:{APP}:invoke"));
    permissions.extend(later::permissions());
    client.post(url, "/api/v1/roles", Some(token), &json!({ "name": ROLE, "permissions": permissions })).await?;
    let logins = (0..callers).map(|number| async move {
        let login = client.register(url, &format!("caller{number}")).await?;
        let assignment = json!({ "userId": login.user, "role": ROLE });
        client.post(url, "/api/v1/roles/assign", Some(token), &assignment).await?;
        Ok::<_, anyhow::Error>(login)
    });
    let callers = try_join_all(logins).await?;
    Ok(Installed { callers, webhooks: webhooks(client, url, token).await? })
}

async fn webhooks(client: &Client, url: &str, token: &str) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    for id in INTEGRATIONS {
        let list = client.get(url, &format!("/api/v1/apps/{id}/webhooks"), token).await?;
        let hook = list.pointer("/0/token").and_then(Value::as_str).context("a webhook has a token")?;
        paths.push(format!("/api/v1/hooks/{hook}"));
    }
    Ok(paths)
}

fn integration(id: &str) -> Value {
    let properties = json!({ "nonce": { "type": "string" }, "ms": { "type": "integer" } });
    let schema = json!({ "type": "object", "properties": properties, "required": ["nonce"] });
    let action = |name: &str| json!({ "id": name, "name": name, "inputSchema": schema });
    let mut actions: Vec<_> = ["echo", "secret", "nested", "once"].into_iter().map(action).collect();
    actions.push(json!({ "id": "destroy", "name": "destroy", "effect": "destructive", "inputSchema": schema }));
    json!({ "appId": id, "name": id, "version": "1.0.0", "type": "integration", "actions": actions, "webhooks": ["push"] })
}

/// An archive of a backend that is one file.
pub fn archive(backend: &str) -> anyhow::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(backend.len())?);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, "index.ts", backend.as_bytes())?;
    Ok(builder.into_inner()?.finish()?)
}
