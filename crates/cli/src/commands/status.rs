//! `weft status`: is the server there, is it well, and who am I to it.

use serde_json::{Value, json};

use super::Context;
use super::login::email;
use crate::error::Result;
use crate::output::printable;

pub async fn run(context: &Context) -> Result<()> {
    let client = context.client()?;
    let health = client.get(client.url(&["health"])).await?;
    let (user, status) = if context.is_logged_in()? {
        (client.get(client.api(&["auth", "me"])).await?, client.get(client.api(&["status"])).await?)
    } else {
        (Value::Null, Value::Null)
    };
    let version = env!("CARGO_PKG_VERSION");
    let result =
        json!({ "url": client.base(), "health": health, "user": user, "status": status, "client": { "version": version } });
    context.output.show(&result, || {
        let mut lines = vec![format!("server    {}  {}", client.base(), text(&health, "/status"))];
        if !status.is_null() {
            lines.push(format!("version   {}  {}", text(&status, "/runtime/version"), text(&status, "/runtime/state")));
            lines.push(format!("database  {}", text(&status, "/postgres/state")));
            lines.extend(confinement(&status));
            lines.push(format!("user      {}", email(&user)));
        }
        lines.push(format!("client    {version}"));
        lines.join("\n")
    })?;
    if user.is_null() {
        context.output.note(&format!("Not logged in. Next: weft login {}", client.base()));
    }
    Ok(())
}

fn text(value: &Value, pointer: &str) -> String {
    printable(value.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown"))
}

/// What keeps backends to themselves, and what is missing.
fn confinement(status: &Value) -> Vec<String> {
    let Some(found) = status.pointer("/workers/confinement").and_then(Value::as_object) else { return Vec::new() };
    let names = [
        ("files", "files"),
        ("network", "network"),
        ("system_calls", "system calls"),
        ("resource_limits", "limits"),
        ("namespaces", "namespaces"),
        ("separate_account", "accounts"),
    ];
    let on: Vec<_> = names.iter().filter(|(key, _)| found.get(*key) == Some(&Value::Bool(true))).map(|(_, name)| *name).collect();
    let on = if on.is_empty() { "nothing".to_owned() } else { on.join(", ") };
    let missing = found.get("missing").and_then(Value::as_array).into_iter().flatten();
    let missing = missing.map(|part| format!("missing   {}: {}", text(part, "/part"), text(part, "/reason")));
    [format!("confined  {on}")].into_iter().chain(missing).collect()
}
