//! What backends do with data: collections, SQL, transactions and migrations, and what they cannot do.

mod collections;
mod escapes;
mod limits;
mod migrations;
mod sql;

use serde_json::{Value, json};
use weft_testkit::{Api, TestServer};

use crate::fixtures::{app, with};

/// Does as it is told, and returns what came of it.
pub const BACKEND: &str = r"
    const told = async (work) => {
        try { return { ok: await work() }; } catch (error) { return { code: error.code, category: error.category, message: error.message }; }
    };
    const [open, waiting] = [[], []];
    serve({ rpc: {
        op: ([entity, op, data], caller, ctx) => told(() => ctx.collection(entity)[op](data)),
        sql: ([text, params], caller, ctx) => told(() => ctx.sql(text, params)),
        tx: ({ statements, fails }, caller, ctx) => told(() => ctx.transaction(async (tx) => {
            const results = [];
            for (const [text, params] of statements) results.push(await tx.sql(text, params));
            if (fails) throw new ActionError(fails, { category: 'Validation', code: 'stopped' });
            return results;
        })),
        leave: ([text], caller, ctx) => new Promise((resolve) => {
            open.push(ctx.transaction(async (tx) => { await tx.sql(text); resolve('left'); await new Promise(() => {}); }));
        }),
        hold: (params, caller, ctx) => told(() => ctx.transaction(async (tx) => {
            await tx.sql(params?.[0] ?? 'select 1');
            await new Promise((resolve) => waiting.push(resolve));
        })),
        held: () => waiting.length,
        release: () => waiting.splice(0).forEach((resolve) => resolve()),
        twice: (_, caller, ctx) => told(() => ctx.transaction(() => ctx.transaction(() => 1))),
    } });";

/// Contacts that everybody with the right sees, and notes that only their owners see.
pub fn manifest() -> Value {
    with(
        app("crm"),
        json!({ "dataContract": [
            { "entityName": "contacts", "fields": [
                { "name": "name", "type": "text", "required": true },
                { "name": "score", "type": "number" },
                { "name": "tags", "type": "[text]" },
                { "name": "extra", "type": "json" },
                { "name": "born", "type": "date" },
            ] },
            { "entityName": "notes", "access": "owner", "fields": [{ "name": "text", "type": "text" }] },
        ] }),
    )
}

/// A server with the app and its administrator.
pub async fn start() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let admin = server.user("admin").await;
    server.deploy(&admin, &manifest(), BACKEND).await;
    (server, admin)
}

/// A user who may call the backend and has these rights besides.
pub async fn user(server: &TestServer, admin: &Api, name: &str, rights: &[&str]) -> Api {
    let user = server.user(name).await;
    server.grant(admin, &user, &[&["app:crm:invoke"], rights].concat()).await;
    user
}

pub async fn rpc(api: &Api, method: &str, params: Value) -> Value {
    api.post("/api/v1/apps/crm/rpc", json!({ "method": method, "params": params })).await.expect(200).json
}

/// What an operation on a collection answers.
pub async fn op(api: &Api, entity: &str, op: &str, data: Value) -> Value {
    rpc(api, "op", json!([entity, op, data])).await
}

/// What a statement answers.
pub async fn sql(api: &Api, text: &str, params: Value) -> Value {
    rpc(api, "sql", json!([text, params])).await
}

/// The rows of a statement that has to work.
pub async fn rows(api: &Api, text: &str, params: Value) -> Value {
    let answer = sql(api, text, params).await;
    assert!(answer["ok"].is_object(), "{text}: {answer}");
    answer["ok"]["rows"].clone()
}

/// The newest changes of records: entity, way, who.
pub async fn changes(admin: &Api, count: usize) -> Vec<(String, String, Value)> {
    let list = admin.get(&format!("/api/v1/audit?app_id=crm&limit={count}")).await.expect(200).json;
    let text = |change: &Value, member: &str| change[member].as_str().unwrap_or_default().to_owned();
    let change = |change: &Value| (text(change, "table_name"), text(change, "trigger_ref"), change["actor_uid"].clone());
    list.as_array().expect("a list").iter().map(change).collect()
}

pub async fn id_of(api: &Api) -> Value {
    api.get("/api/v1/auth/me").await.expect(200).value("/id")
}
