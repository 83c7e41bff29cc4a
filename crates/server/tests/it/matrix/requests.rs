//! How each route is called so that it would succeed for whoever may call it. What a request uses up is made anew for each.

use serde_json::{Value, json};
use weft_testkit::server::PASSWORD;

use super::world::World;
use crate::fixtures::{app, with};

/// One request.
pub struct Sample {
    pub path: String,
    pub body: Body,
}

pub enum Body {
    None,
    Json(Value),
    Form(String),
    Archive(Vec<(&'static str, &'static str)>),
    /// A small file of this name in a form.
    File(String),
    /// A small file as it is.
    Raw,
}

/// Routes with a parameter that finds nothing of a tenant: what is named may be absent, or is everybody's.
pub const NAMES_NOTHING: &[&str] = &[
    // Removing what is not there is no mistake.
    "DELETE /api/v1/apps/{app_id}",
    // No app keeps such records.
    "POST /api/v1/federated/{identity_kind}/query",
];

/// Routes that show anybody what is their own, and with this key what is others'. The request is for what is others'.
pub const BEYOND_ONES_OWN: &[(&str, &str)] = &[
    ("GET /api/v1/runs/{run_id}", "admin:runs.read"),
    ("POST /api/v1/integrations/{integration_id}/syncs/{sync_id}/run", "integration:echo:manage"),
    ("POST /api/v1/integrations/{integration_id}/syncs/{sync_id}/pause", "integration:echo:manage"),
    ("POST /api/v1/integrations/{integration_id}/syncs/{sync_id}/resume", "integration:echo:manage"),
    ("POST /api/v1/integrations/{integration_id}/syncs/{sync_id}/reset", "integration:echo:manage"),
    ("GET /api/v1/namespaces/{namespace_id}", "namespaces:manage"),
    ("GET /api/v1/namespaces/{namespace_id}/scope", "namespaces:manage"),
    ("GET /api/v1/namespaces/{namespace_id}/departments", "namespaces:manage"),
];

fn plain(path: impl Into<String>) -> Sample {
    Sample { path: path.into(), body: Body::None }
}

fn json_body(path: impl Into<String>, body: Value) -> Sample {
    Sample { path: path.into(), body: Body::Json(body) }
}

/// The request for a route, or `None` when nobody has said how it is called.
pub async fn sample(world: &World<'_>, route: &str) -> Option<Sample> {
    let (method, path) = route.split_once(' ')?;
    match path {
        path if path.starts_with("/api/v1/service-accounts") => accounts(world, method, path).await,
        path if path.starts_with("/api/v1/namespaces") => namespaces(world, method, path).await,
        path if path.starts_with("/api/v1/tenants") => tenants(world, method, path).await,
        path if path.starts_with("/api/v1/users") => users(world, method, path).await,
        path if path.starts_with("/api/v1/roles") || path.starts_with("/api/v1/permissions") => roles(world, method, path).await,
        path if path.contains("/collections/") => data(world, method, path).await,
        path if path.starts_with("/api/v1/apps") || path.starts_with("/api/v1/integrations") => apps(world, method, path).await,
        path if path.starts_with("/api/v1/platform") => secrets(world, method, path).await,
        path if path.starts_with("/api/v1/auth") || path.starts_with("/oauth") => auth(world, route).await,
        path if path.contains("/storage/buckets") || path.contains("/storage/objects") => buckets(world, method, path).await,
        path if path.starts_with("/api/v1/storage/") => one_time(world, method).await,
        _ => others(world, route),
    }
}

async fn buckets(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let (buckets, objects) = ("/api/v1/storage/buckets", "/api/v1/storage/objects/papers");
    // Every tenant has `default`: this one is ours alone. It may be there already.
    world.administrator.post(buckets, json!({ "name": "papers" })).await;
    let made = async || world.administrator.post(objects, json!({ "name": world.name("folder") })).await.expect(201).text("/id");
    Some(match (method, path.trim_start_matches("/api/v1/storage")) {
        ("GET", "/buckets") => plain(buckets),
        ("POST", "/buckets") => json_body(buckets, json!({ "name": world.name("bucket") })),
        ("DELETE", "/buckets/{bucket}") => {
            world.administrator.post(buckets, json!({ "name": "drafts" })).await;
            plain(format!("{buckets}/drafts"))
        }
        ("GET", "/objects/{bucket}") => plain(objects),
        ("POST", "/objects/{bucket}") => json_body(objects, json!({ "name": world.name("folder") })),
        ("POST", "/objects/{bucket}/upload") => {
            // One of a name in a folder: each has its own.
            Sample { path: format!("{objects}/upload"), body: Body::File(world.name("file")) }
        }
        ("GET", "/objects/{bucket}/{object_id}") => {
            let request = world.administrator.request(reqwest::Method::POST, &format!("{objects}/upload"));
            let form = super::world::file(&world.name("file"));
            let id = world.administrator.send(request.multipart(form)).await.expect(201).text("/id");
            plain(format!("{objects}/{id}"))
        }
        ("PATCH", "/objects/{bucket}/{object_id}") => {
            json_body(format!("{objects}/{}", made().await), json!({ "name": world.name("folder") }))
        }
        ("DELETE", "/objects/{bucket}/{object_id}") => plain(format!("{objects}/{}", made().await)),
        ("GET", "/objects/{bucket}/{object_id}/ancestors") => plain(format!("{objects}/{}/ancestors", made().await)),
        _ => return None,
    })
}

async fn one_time(world: &World<'_>, method: &str) -> Option<Sample> {
    let app = "/api/v1/apps/crm/storage";
    Some(if method == "POST" {
        let made = world.administrator.post(&format!("{app}/upload-url"), json!({ "name": "a.txt" })).await.expect(201);
        Sample { path: made.text("/url"), body: Body::Raw }
    } else {
        let path = format!("{app}/{}/download-url", world.fresh_file().await);
        plain(world.administrator.post(&path, json!({})).await.expect(201).text("/url"))
    })
}

fn others(world: &World<'_>, route: &str) -> Option<Sample> {
    Some(match route {
        "POST /api/v1/hooks/{token}" => json_body(format!("/api/v1/hooks/{}", world.hook), json!({})),
        "GET /api/v1/runs/{run_id}" => plain(format!("/api/v1/runs/{}", world.run)),
        "POST /api/v1/federated/{identity_kind}/query" => json_body("/api/v1/federated/person/query", json!({})),
        "POST /api/v1/vault/rotate-key" => json_body("/api/v1/vault/rotate-key", json!({})),
        "GET /docs/errors/{code}" => plain("/docs/errors/forbidden"),
        "GET /apps/{app_id}" => plain("/apps/crm"),
        "GET /apps/{app_id}/" => plain("/apps/crm/"),
        "GET /apps/{app_id}/{path}" => plain("/apps/crm/contacts"),
        "GET /docs/{*rest}" => plain("/docs/index.html"),
        "GET /"
        | "GET /docs"
        | "GET /docs/"
        | "GET /api/openapi.json"
        | "GET /health"
        | "GET /health/ready"
        | "GET /metrics"
        | "GET /.well-known/jwks.json"
        | "GET /.well-known/oauth-authorization-server"
        | "GET /api/v1/crons"
        | "GET /api/v1/audit"
        | "GET /api/v1/runs"
        | "GET /api/v1/audit/events"
        | "GET /api/v1/audit/export"
        | "GET /api/v1/status"
        | "GET /api/v1/workers" => plain(route.trim_start_matches("GET ")),
        _ => return None,
    })
}

async fn auth(world: &World<'_>, route: &str) -> Option<Sample> {
    let refresh_token = async || {
        let api = world.server.login("without@example.com").await;
        json!({ "refreshToken": api.refresh_token })
    };
    let credentials = |email: &str| json!({ "email": email, "password": PASSWORD });
    let (_, path) = route.split_once(' ')?;
    Some(match route {
        "POST /api/v1/auth/login" => json_body(path, credentials("without@example.com")),
        "POST /api/v1/auth/register" => json_body(path, credentials(&format!("{}@example.com", world.name("new")))),
        "POST /api/v1/auth/refresh" | "POST /api/v1/auth/logout" => json_body(path, refresh_token().await),
        "POST /api/v1/auth/switch" => json_body(path, json!({ "tenant": "default" })),
        // With the right password the sessions of the caller would end.
        "PUT /api/v1/auth/password" => json_body(path, json!({ "currentPassword": "wrong", "newPassword": "N3wPassword!" })),
        "POST /api/v1/auth/signing-keys/rotate" => json_body(path, json!({})),
        "POST /api/v1/auth/token" | "POST /oauth/token" => {
            let account = &world.account;
            let body = format!("grant_type=client_credentials&client_id={}&client_secret={}", account.id, account.key);
            Sample { path: path.to_owned(), body: Body::Form(body) }
        }
        // Whoever may save one gets as far as being told that this one cannot be reached.
        "POST /api/v1/auth/oidc/providers" => {
            let (issuer, client) = ("https://192.0.2.1", "client");
            json_body(path, json!({ "id": "sso", "displayName": "SSO", "issuerUrl": issuer, "clientId": client }))
        }
        "GET /api/v1/auth/oidc/providers/{id}" | "DELETE /api/v1/auth/oidc/providers/{id}" => {
            plain("/api/v1/auth/oidc/providers/unknown")
        }
        "GET /api/v1/auth/oidc/{provider_id}/authorize" => plain("/api/v1/auth/oidc/unknown/authorize"),
        "POST /api/v1/auth/oidc/token-exchange" => json_body(path, json!({ "providerId": "unknown", "idToken": "x" })),
        "POST /api/v1/auth/nonce-exchange" => json_body(path, json!({ "nonce": world.fresh_nonce().await })),
        "POST /api/v1/auth/magic-link/generate" => json_body(path, json!({ "email": "new@example.com" })),
        "GET /api/v1/auth/magic-link/consume" => plain(world.fresh_link(json!({})).await),
        "POST /api/v1/auth/magic-link/consume" => {
            let link = world.fresh_link(json!({})).await;
            json_body(path, json!({ "token": link.rsplit('=').next() }))
        }
        // With a state, known or not, the callback would refuse whoever comes like somebody without a token.
        "GET /api/v1/auth/oidc/providers"
        | "GET /api/v1/auth/oidc/callback"
        | "GET /api/v1/auth/me"
        | "GET /api/v1/auth/mode"
        | "GET /api/v1/auth/signing-keys" => plain(path),
        _ => return None,
    })
}

async fn accounts(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let account = if path.contains("{id}") { world.fresh_account().await } else { String::new() };
    let at = |rest: &str| format!("/api/v1/service-accounts/{account}{rest}");
    let actor = || json!({ "userId": world.administrator_id });
    Some(match (method, path.trim_start_matches("/api/v1/service-accounts")) {
        ("GET", "") => plain(path),
        ("POST", "") => json_body(path, json!({ "slug": world.name("made") })),
        ("DELETE", "/{id}") => plain(at("")),
        ("POST", "/{id}/disable") => json_body(at("/disable"), json!({})),
        ("POST", "/{id}/enable") => json_body(at("/enable"), json!({})),
        ("POST", "/{id}/transfer-ownership") => {
            json_body(at("/transfer-ownership"), json!({ "new_owner": world.administrator_id }))
        }
        ("GET", "/{id}/credentials") => plain(at("/credentials")),
        ("POST", "/{id}/credentials") => json_body(at("/credentials"), json!({ "name": "k" })),
        ("DELETE", "/{id}/credentials/{credential_id}") => {
            let credential = world.fresh_credential(&account).await;
            plain(at(&format!("/credentials/{credential}")))
        }
        ("GET", "/{id}/act-as") => plain(at("/act-as")),
        ("POST" | "DELETE", "/{id}/act-as") => json_body(at("/act-as"), actor()),
        _ => return None,
    })
}

async fn tenants(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let tenant = if path.contains("{tenant_id}") { world.fresh_tenant().await } else { String::new() };
    let at = |rest: &str| format!("/api/v1/tenants/{tenant}{rest}");
    Some(match (method, path.trim_start_matches("/api/v1/tenants")) {
        ("GET", "") => plain(path),
        ("POST", "") => {
            let administrator = json!({ "email": "elsewhere@example.com" });
            json_body(path, json!({ "id": world.name("made"), "administrator": administrator }))
        }
        ("GET", "/{tenant_id}") => plain(at("")),
        ("DELETE", "/{tenant_id}") => plain(at(&format!("?confirm={tenant}"))),
        ("POST", "/{tenant_id}/disable") => json_body(at("/disable"), json!({})),
        ("POST", "/{tenant_id}/enable") => json_body(at("/enable"), json!({})),
        _ => return None,
    })
}

async fn namespaces(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let at = |rest: &str| format!("/api/v1/namespaces/sales{rest}");
    let department = if path.contains("{department_id}") { world.fresh_department().await } else { String::new() };
    let in_department = |rest: &str| at(&format!("/departments/{department}{rest}"));
    Some(match (method, path.trim_start_matches("/api/v1/namespaces")) {
        ("GET", "") => plain(path),
        ("POST", "") => json_body(path, json!({ "id": world.name("made") })),
        ("GET", "/{namespace_id}") => plain(at("")),
        ("PATCH", "/{namespace_id}") => json_body(at(""), json!({ "name": "Sales" })),
        ("DELETE", "/{namespace_id}") => {
            // Always the same one: its id is a part of the key.
            let _ = world.administrator.post("/api/v1/namespaces", json!({ "id": "gone" })).await;
            plain("/api/v1/namespaces/gone")
        }
        ("GET", "/{namespace_id}/scope") => plain(at("/scope")),
        ("GET", "/{namespace_id}/departments") => plain(at("/departments")),
        ("POST", "/{namespace_id}/departments") => json_body(at("/departments"), json!({ "name": world.name("made") })),
        ("PATCH", "/{namespace_id}/departments/{department_id}") => json_body(in_department(""), json!({ "parentId": null })),
        ("DELETE", "/{namespace_id}/departments/{department_id}") => plain(in_department("")),
        ("GET", "/{namespace_id}/departments/{department_id}/members") => plain(in_department("/members")),
        ("PUT" | "DELETE", "/{namespace_id}/departments/{department_id}/members/{user_id}") => {
            plain(in_department(&format!("/members/{}", world.administrator_id)))
        }
        _ => return None,
    })
}

async fn users(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let user = if path.contains("{id}") { world.fresh_user().await } else { String::new() };
    let at = |rest: &str| format!("/api/v1/users/{user}{rest}");
    Some(match (method, path.trim_start_matches("/api/v1/users")) {
        ("GET", "") => plain(path),
        ("POST", "") => json_body(path, json!({ "email": format!("{}@example.com", world.name("added")), "password": PASSWORD })),
        ("GET" | "DELETE", "/{id}") => plain(at("")),
        ("POST", "/{id}/disable") => json_body(at("/disable"), json!({})),
        ("POST", "/{id}/enable") => json_body(at("/enable"), json!({})),
        _ => return None,
    })
}

async fn roles(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let assignment = async || {
        let (user, role) = (world.fresh_user().await, world.fresh_role().await);
        json!({ "userId": user, "role": role })
    };
    Some(match (method, path.trim_start_matches("/api/v1")) {
        ("GET", "/roles" | "/roles/assignments" | "/permissions" | "/permissions/available") => plain(path),
        ("POST", "/roles") => json_body(path, json!({ "name": world.name("made") })),
        ("PATCH", "/roles/{role_name}") => {
            json_body(format!("/api/v1/roles/{}", world.fresh_role().await), json!({ "description": "new" }))
        }
        ("DELETE", "/roles/{role_name}") => plain(format!("/api/v1/roles/{}", world.fresh_role().await)),
        ("POST", "/roles/assign") => json_body(path, assignment().await),
        ("POST", "/roles/revoke") => {
            let body = assignment().await;
            world.administrator.post("/api/v1/roles/assign", body.clone()).await.expect(200);
            json_body(path, body)
        }
        ("GET", "/permissions/explain") => {
            plain(format!("{path}?permission=app:crm:invoke&principal={}", world.administrator_id))
        }
        ("GET", "/permissions/{user_id}") => plain(format!("/api/v1/permissions/{}", world.administrator_id)),
        _ => return None,
    })
}

async fn apps(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let crm = |rest: &str| format!("/api/v1/apps/crm{rest}");
    Some(match (method, path.trim_start_matches("/api/v1")) {
        ("GET", "/apps" | "/integrations") => plain(path),
        ("POST", "/apps" | "/apps/schema/verify") => json_body(path, app(&world.name("made"))),
        ("GET", "/apps/{app_id}") => plain(crm("")),
        ("DELETE", "/apps/{app_id}") => plain(format!("/api/v1/apps/{}", world.fresh_app().await)),
        ("POST", "/apps/{app_id}/deploy") => {
            let path = format!("/api/v1/apps/{}/deploy", world.fresh_app().await);
            Sample { path, body: Body::Archive(vec![("index.ts", "serve({ rpc: {} })")]) }
        }
        ("POST", "/apps/{app_id}/frontend") => {
            let path = format!("/api/v1/apps/{}/frontend", world.fresh_app().await);
            Sample { path, body: Body::Archive(vec![("index.html", "<!doctype html>")]) }
        }
        ("GET", "/apps/{app_id}/versions") => plain(crm("/versions")),
        ("POST", "/apps/{app_id}/rollback") => json_body(crm("/rollback"), json!({ "version": 1 })),
        ("GET", "/apps/{app_id}/logs") => plain(crm("/logs")),
        ("POST", "/apps/{app_id}/rpc") => json_body(crm("/rpc"), json!({ "method": "ping", "params": {} })),
        ("POST", "/apps/{app_id}/jobs") => json_body(crm("/jobs"), json!({})),
        ("GET", "/apps/{app_id}/jobs") => plain(crm("/jobs")),
        ("GET", "/apps/{app_id}/jobs/{msg_id}") => plain(crm(&format!("/jobs/{}", world.fresh_job().await))),
        ("POST", "/apps/{app_id}/jobs/{msg_id}/cancel") => {
            json_body(crm(&format!("/jobs/{}/cancel", world.fresh_job().await)), json!({}))
        }
        ("POST", "/apps/{app_id}/jobs/{msg_id}/retry") => {
            json_body(crm(&format!("/jobs/{}/retry", world.fresh_job().await)), json!({}))
        }
        ("GET", "/apps/{app_id}/crons") => plain(crm("/crons")),
        ("POST", "/apps/{app_id}/crons") => {
            json_body(crm("/crons"), json!({ "name": world.name("cron"), "schedule": "0 9 * * *" }))
        }
        ("PATCH", "/apps/{app_id}/crons/{cron_id}") => {
            json_body(crm(&format!("/crons/{}", world.fresh_cron().await)), json!({ "enabled": false }))
        }
        ("DELETE", "/apps/{app_id}/crons/{cron_id}") => plain(crm(&format!("/crons/{}", world.fresh_cron().await))),
        ("GET", "/apps/{app_id}/crons/{cron_id}/runs") => plain(crm(&format!("/crons/{}/runs", world.fresh_cron().await))),
        ("POST", "/apps/{app_id}/crons/{cron_id}/trigger") => {
            json_body(crm(&format!("/crons/{}/trigger", world.fresh_cron().await)), json!({}))
        }
        (_, path) if path.starts_with("/apps/{app_id}/hooks") => hooks(world, method, path).await?,
        (_, path) if path.starts_with("/apps/{app_id}/storage") || path == "/apps/{app_id}/upload" => {
            files(world, method, path).await?
        }
        ("GET", "/apps/{app_id}/webhooks") => plain(crm("/webhooks")),
        ("GET", "/apps/{app_id}/worker/status") => plain(crm("/worker/status")),
        ("POST", "/apps/{app_id}/worker/start") => json_body(crm("/worker/start"), json!({})),
        ("POST", "/apps/{app_id}/worker/stop") => json_body("/api/v1/apps/echo/worker/stop", json!({})),
        ("POST", "/integrations/{integration_id}/actions/{action_id}") => {
            world.administrator.post("/api/v1/apps/echo/worker/start", json!({})).await.expect(200);
            json_body("/api/v1/integrations/echo/actions/echo", json!({}))
        }
        ("GET", "/integrations/{integration_id}/syncs") => plain("/api/v1/integrations/echo/syncs"),
        ("POST" | "PUT", path) if path.starts_with("/integrations/{integration_id}/syncs/{sync_id}/") => {
            let what = path.rsplit('/').next().unwrap_or_default();
            json_body(format!("/api/v1/integrations/echo/syncs/{}/{what}", world.sync().await), json!({}))
        }
        (_, path) if path.contains("/auth") || path.contains("/connect") || path.ends_with("/integrations") => {
            connections(world, method, path).await?
        }
        ("DELETE", "/apps/{app_id}/integrations/{integration_id}") => plain(crm("/integrations/echo")),
        // It has no recipes: whoever may is told so.
        (_, "/integrations/{integration_id}/proxy/{path}") => plain("/api/v1/integrations/echo/proxy/x"),
        ("GET", "/integrations/catalog" | "/integrations/catalog-indexes") => plain(path),
        ("POST" | "DELETE", "/integrations/catalog/{id}/deploy" | "/integrations/catalog/{id}") => {
            plain(path.replace("{id}", "unknown"))
        }
        ("GET", "/integrations/{integration_id}/configs") => plain("/api/v1/integrations/echo/configs"),
        ("POST", "/integrations/{integration_id}/configs") => {
            let body = json!({ "label": world.name("client"), "credentials": { "client": "a client" } });
            json_body("/api/v1/integrations/echo/configs", body)
        }
        ("DELETE", "/integrations/{integration_id}/configs/{configuration_id}") => {
            plain(format!("/api/v1/integrations/echo/configs/{}", world.fresh_configuration().await))
        }
        ("PUT", "/integrations/{integration_id}/config") => json_body("/api/v1/integrations/echo/config", json!({})),
        (_, "/apps/{app_id}/secrets" | "/apps/{app_id}/secrets/{key}") => {
            secrets(world, method, &path.replace("{app_id}", "crm")).await?
        }
        _ => return None,
    })
}

async fn connections(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let echo = |rest: &str| format!("/api/v1/integrations/echo{rest}");
    let credentials = || json!({ "credentials": { "token": "a token" }, "label": world.name("account") });
    let connection = async |rest: &str| echo(&format!("/connections/{}{rest}", world.fresh_connection().await));
    Some(match (method, path) {
        ("GET", "/apps/{app_id}/integrations") => plain("/api/v1/apps/crm/integrations"),
        ("POST", "/apps/{app_id}/integrations") => json_body("/api/v1/apps/crm/integrations", json!({ "integrationId": "echo" })),
        ("GET" | "POST", "/integrations/auth/callback") => plain("/api/v1/integrations/auth/callback"),
        ("GET" | "DELETE", "/integrations/{integration_id}/auth") => plain(echo("/auth")),
        ("POST", "/integrations/{integration_id}/auth/start") => json_body(echo("/auth/start"), json!({})),
        ("POST", "/integrations/{integration_id}/auth/credentials") => json_body(echo("/auth/credentials"), credentials()),
        ("POST", "/integrations/{integration_id}/auth/delegate") => {
            let body = json!({ "agent_app_id": "crm", "connection_id": world.fresh_connection().await });
            json_body(echo("/auth/delegate"), body)
        }
        ("GET", "/integrations/{integration_id}/connections") => plain(echo("/connections")),
        ("PATCH", "/integrations/{integration_id}/connections/{connection_id}") => {
            json_body(connection("").await, json!({ "label": world.name("renamed") }))
        }
        ("DELETE", "/integrations/{integration_id}/connections/{connection_id}") => plain(connection("").await),
        ("POST", "/integrations/{integration_id}/connections/{connection_id}/check") => {
            json_body(connection("/check").await, json!({}))
        }
        ("GET", "/integrations/{integration_id}/connected-users") => plain(echo("/connected-users")),
        _ => return None,
    })
}

async fn hooks(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let body = json!({ "entity": "things", "operation": "INSERT", "action_type": "agent" });
    let one = async || {
        let made = world.administrator.post("/api/v1/apps/crm/hooks", body.clone()).await.expect(200);
        format!("/api/v1/apps/crm/hooks/{}", made.text("/id"))
    };
    Some(match (method, path) {
        ("GET", "/apps/{app_id}/hooks") => plain("/api/v1/apps/crm/hooks"),
        // Whoever may make one gets as far as being told that there is no such entity; for one that is there it takes the right to read it.
        ("POST", "/apps/{app_id}/hooks") => json_body("/api/v1/apps/crm/hooks", with(body, json!({ "entity": "nothing" }))),
        ("PATCH", _) => json_body(one().await, json!({ "active": false })),
        ("GET" | "DELETE", _) => plain(one().await),
        _ => return None,
    })
}

async fn files(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let crm = |rest: &str| format!("/api/v1/apps/crm{rest}");
    Some(match (method, path.trim_start_matches("/apps/{app_id}")) {
        ("POST", rest @ ("/upload" | "/storage/upload")) => Sample { path: crm(rest), body: Body::File("a.txt".to_owned()) },
        ("GET", "/storage") => plain(crm("/storage")),
        ("POST", "/storage/upload-url") => json_body(crm("/storage/upload-url"), json!({ "name": "a.txt" })),
        ("GET" | "DELETE", "/storage/{file_id}") => plain(crm(&format!("/storage/{}", world.fresh_file().await))),
        ("POST", "/storage/{file_id}/download-url") => {
            json_body(crm(&format!("/storage/{}/download-url", world.fresh_file().await)), json!({}))
        }
        _ => return None,
    })
}

async fn data(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    let at = |rest: &str| format!("/api/v1/apps/crm/collections/things{rest}");
    let thing = || json!({ "name": world.name("thing") });
    Some(match (method, path.split_once("/{entity}")?.1) {
        ("GET", "" | "/export") => plain(at(path.split_once("/{entity}")?.1)),
        ("POST", "") => json_body(at(""), thing()),
        ("GET" | "DELETE", "/{id}") => plain(at(&format!("/{}", world.fresh_thing().await))),
        ("PATCH", "/{id}") => json_body(at(&format!("/{}", world.fresh_thing().await)), thing()),
        ("POST", "/bulk") => json_body(at("/bulk"), json!([thing()])),
        ("POST", "/bulk/update") => json_body(at("/bulk/update"), json!({ "where": { "name": "none" }, "set": thing() })),
        ("POST", "/bulk/delete") => json_body(at("/bulk/delete"), json!({ "where": { "name": "none" } })),
        ("POST", "/upsert") => json_body(at("/upsert"), json!({ "on": ["name"], "records": [thing()] })),
        ("POST", "/import") => json_body(at("/import"), thing()),
        ("POST", "/query") => json_body(at("/query"), json!({})),
        ("POST", "/aggregate") => json_body(at("/aggregate"), json!({ "aggregates": { "n": { "count": "*" } } })),
        _ => return None,
    })
}

async fn secrets(world: &World<'_>, method: &str, path: &str) -> Option<Sample> {
    Some(match (method, path.strip_suffix("/{key}")) {
        ("GET", None) => plain(path),
        ("POST", None) => json_body(path, json!({ "key": "KEY", "value": "v" })),
        ("DELETE", Some(list)) => plain(format!("{list}/{}", world.fresh_secret(list).await)),
        _ => return None,
    })
}
