//! The data of apps: tables from contracts, records, and who changed what.

mod audit;
mod bulk;
mod find;
mod records;
mod schema;

use serde_json::{Value, json};
use weft_testkit::{Api, TestServer};

use crate::fixtures::{app, with};

/// Where the records of an entity are.
pub fn at(entity: &str) -> String {
    format!("/api/v1/apps/crm/collections/{entity}")
}

/// An app with these entities.
#[expect(clippy::needless_pass_by_value, reason = "callers make it on the spot")]
pub fn crm(entities: Value) -> Value {
    with(app("crm"), json!({ "dataContract": entities }))
}

/// Contacts of companies, with a field of every type.
pub fn contract() -> Value {
    json!([
        { "entityName": "companies", "fields": [{ "name": "name", "type": "text", "required": true }] },
        {
            "entityName": "contacts",
            "search": ["first_name", "notes"],
            "fields": [
                { "name": "first_name", "type": "text", "required": true },
                { "name": "email", "type": "text", "unique": true },
                { "name": "notes", "type": "text" },
                { "name": "stage", "type": "text", "enum_values": ["lead", "customer"], "default_value": "lead" },
                { "name": "score", "type": "number" },
                { "name": "active", "type": "boolean", "defaultValue": true },
                { "name": "born", "type": "date" },
                { "name": "seen", "type": "timestamp" },
                { "name": "extra", "type": "json" },
                { "name": "tags", "type": "[text]" },
                { "name": "figures", "type": "[number]" },
                { "name": "company", "type": "entity_link", "references": { "entity": "companies" }, "onDelete": "cascade" },
                { "name": "keeper", "type": "entity_link", "references": { "entity": "core:users" } },
            ],
            "checks": [{ "name": "score_is_positive", "expr": "score >= 0" }],
        },
    ])
}

/// A server with the app and its administrator.
pub async fn start() -> (TestServer, Api) {
    let server = TestServer::start().await;
    let administrator = server.user("administrator").await;
    administrator.post("/api/v1/apps", crm(contract())).await.expect(200);
    (server, administrator)
}

/// A new contact.
pub async fn contact(api: &Api, body: Value) -> Value {
    api.post(&at("contacts"), with(json!({ "first_name": "Alice" }), body)).await.expect(201).json
}
