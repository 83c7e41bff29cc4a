//! Everybody who might call a route, and what there is to call it for.

use std::sync::atomic::{AtomicU32, Ordering};

use chrono::Duration;
use serde_json::{Value, json};
use weft_testkit::{Api, TestServer, server::PASSWORD};

use crate::{
    fixtures::{app, integration, with},
    oauth::{Account, token},
};

/// The role that holds exactly what a route asks for.
const ROLE: &str = "exact";

/// Callers, and the things of the tenant `default` that they ask for.
pub struct World<'a> {
    pub server: &'a TestServer,
    /// May do everything; prepares what requests need.
    pub administrator: Api,
    /// Without a token.
    pub nobody: Api,
    /// With a token whose time is over.
    pub expired: Api,
    /// With the token of somebody who was switched off.
    pub disabled: Api,
    /// With a token and no permission at all.
    pub without: Api,
    /// May do everything in another tenant.
    pub elsewhere: Api,
    /// A service account, and a person, that hold exactly the right that is asked for.
    pub machine: Api,
    pub exact: Api,
    pub account: Account,
    pub hook: String,
    pub run: String,
    pub administrator_id: String,
    counter: AtomicU32,
}

impl<'a> World<'a> {
    pub async fn create(server: &'a TestServer) -> Self {
        let expired = server.user("administrator").await;
        server.advance(Duration::minutes(16));
        let administrator = server.login("administrator@example.com").await;
        let id = async |api: &Api| api.get("/api/v1/auth/me").await.expect(200).text("/id");
        let administrator_id = id(&administrator).await;
        let disabled = server.user("disabled").await;
        let disabled_id = id(&disabled).await;
        administrator.post(&format!("/api/v1/users/{disabled_id}/disable"), json!({})).await.expect(200);
        let (without, exact) = (server.user("without").await, server.user("exact").await);
        let elsewhere = server.tenant(&administrator, "elsewhere", "elsewhere").await;

        administrator.post("/api/v1/roles", json!({ "name": ROLE })).await.expect(200);
        let account = Account::create(&administrator, "machine", &[]).await;
        for holder in [&account.id, &id(&exact).await] {
            administrator.post("/api/v1/roles/assign", json!({ "userId": holder, "role": ROLE })).await.expect(200);
        }
        let token = token(server, &account.id, &account.key).await.expect(200).text("/access_token");
        let things = json!([{ "entityName": "things", "fields": [{ "name": "name", "type": "text", "unique": true }] }]);
        let backend = "serve({ rpc: { ping: () => 'pong', __webhook: () => 'seen' }, onJob: () => {} })";
        server.deploy(&administrator, &with(app("crm"), json!({ "webhooks": ["news"], "dataContract": things })), backend).await;
        let backend = "defineIntegration({ actions: { echo: (input) => input } })";
        let schema = json!({ "properties": { "token": { "type": "string" } } });
        let auth = json!({
            "userAuth": { "type": "credentials", "required": false, "schema": schema },
            "configSchema": { "properties": { "client": { "type": "string" } } },
            "triggers": [{ "name": "watched", "action": "echo", "every": "1 day", "perConnection": false, "autoStart": false }],
        });
        server.deploy(&administrator, &with(integration("echo", &["echo"]), auth), backend).await;
        administrator.call("echo", "echo", json!({})).await.expect(200);
        let run = administrator.runs("echo", 1).await[0]["id"].as_str().unwrap_or_default().to_owned();
        let hook = administrator.get("/api/v1/apps/crm/webhooks").await.expect(200).text("/0/token");
        administrator.post("/api/v1/namespaces", json!({ "id": "sales" })).await.expect(201);
        let (nobody, machine) = (server.anonymous(), server.anonymous().with_token(token));
        let counter = AtomicU32::new(0);
        Self {
            server,
            administrator,
            nobody,
            expired,
            disabled,
            without,
            elsewhere,
            machine,
            exact,
            account,
            hook,
            run,
            administrator_id,
            counter,
        }
    }

    /// Lets the machine and the exact person hold these permissions and no others.
    pub async fn hold(&self, permissions: &[String]) {
        let role = format!("/api/v1/roles/{ROLE}");
        self.administrator.patch(&role, json!({ "permissions": permissions })).await.expect(200);
    }

    /// A name that was not used before.
    pub fn name(&self, kind: &str) -> String {
        format!("{kind}{}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub async fn fresh_app(&self) -> String {
        let name = self.name("app");
        self.administrator.post("/api/v1/apps", app(&name)).await.expect(200);
        name
    }

    pub async fn fresh_user(&self) -> String {
        let body = json!({ "email": format!("{}@example.com", self.name("user")), "password": PASSWORD });
        self.administrator.post("/api/v1/users", body).await.expect(201).text("/user/id")
    }

    pub async fn fresh_account(&self) -> String {
        self.administrator.post("/api/v1/service-accounts", json!({ "slug": self.name("sa") })).await.expect(201).text("/id")
    }

    pub async fn fresh_credential(&self, account: &str) -> String {
        let path = format!("/api/v1/service-accounts/{account}/credentials");
        self.administrator.post(&path, json!({ "name": "k" })).await.expect(201).text("/id")
    }

    pub async fn fresh_tenant(&self) -> String {
        let name = self.name("tenant");
        let body = json!({ "id": name, "administrator": { "email": "elsewhere@example.com" } });
        self.administrator.post("/api/v1/tenants", body).await.expect(201);
        name
    }

    pub async fn fresh_department(&self) -> String {
        let body = json!({ "name": self.name("department") });
        self.administrator.post("/api/v1/namespaces/sales/departments", body).await.expect(201).text("/id")
    }

    /// The address of a link that nobody has opened.
    pub async fn fresh_link(&self, more: Value) -> String {
        let body = with(json!({ "email": "invited@example.com" }), more);
        self.administrator.post("/api/v1/auth/magic-link/generate", body).await.expect(201).text("/magicLinkUrl")
    }

    /// A nonce that nobody has exchanged.
    pub async fn fresh_nonce(&self) -> String {
        let link = self.fresh_link(json!({ "redirectUri": "http://localhost/", "tokenDelivery": "nonce" })).await;
        let opened = self.nobody.clone().staying().get(&link).await.expect(307);
        opened.header("location").and_then(|address| address.rsplit('=').next()).expect("a nonce").to_owned()
    }

    /// A connection of the tenant.
    pub async fn fresh_connection(&self) -> String {
        let body = json!({ "credentials": { "token": "a token" }, "label": self.name("shared"), "shared": true });
        self.administrator.post("/api/v1/integrations/echo/auth/credentials", body).await.expect(200).text("/connectionId")
    }

    /// A configuration that no connection uses.
    pub async fn fresh_configuration(&self) -> String {
        let body = json!({ "label": self.name("client"), "credentials": { "client": "a client" } });
        self.administrator.post("/api/v1/integrations/echo/configs", body).await.expect(200).text("/id")
    }

    /// A trigger of the administrator.
    pub async fn sync(&self) -> String {
        self.administrator.get("/api/v1/integrations/echo/syncs").await.expect(200).text("/0/id")
    }

    /// A cron of the administrator.
    pub async fn fresh_cron(&self) -> String {
        let body = json!({ "name": self.name("cron"), "schedule": "0 9 * * *" });
        self.administrator.post("/api/v1/apps/crm/crons", body).await.expect(201).text("/id")
    }

    /// A job of the administrator that waits.
    pub async fn fresh_job(&self) -> i64 {
        let body = json!({ "delay_seconds": 3600 });
        let answer = self.administrator.post("/api/v1/apps/crm/jobs", body).await.expect(201);
        answer.value("/msg_id").as_i64().expect("a number")
    }

    pub async fn fresh_file(&self) -> String {
        let request = self.administrator.request(reqwest::Method::POST, "/api/v1/apps/crm/storage/upload");
        self.administrator.send(request.multipart(file("a.txt"))).await.expect(201).text("/file_id")
    }

    pub async fn fresh_thing(&self) -> String {
        let body = json!({ "name": self.name("thing") });
        self.administrator.post("/api/v1/apps/crm/collections/things", body).await.expect(201).text("/id")
    }

    pub async fn fresh_role(&self) -> String {
        let name = self.name("role");
        self.administrator.post("/api/v1/roles", json!({ "name": name })).await.expect(200);
        name
    }

    pub async fn fresh_secret(&self, path: &str) -> String {
        let key = self.name("KEY");
        self.administrator.post(path, json!({ "key": key, "value": "v" })).await.expect(200);
        key
    }
}

/// A form with a small file.
pub fn file(name: &str) -> reqwest::multipart::Form {
    let part = reqwest::multipart::Part::bytes(b"a".as_slice()).file_name(name.to_owned());
    reqwest::multipart::Form::new().part("file", part)
}

/// Keys as the route declares them: with the names of path parameters in place of what they stood for.
pub fn pattern(path: &str, keys: &str) -> String {
    let filled = |key: &str| {
        let mut key = key.to_owned();
        let parameters = [
            ("{app_id}", "crm"),
            ("{entity}", "things"),
            ("{integration_id}", "echo"),
            ("{action_id}", "echo"),
            ("{namespace_id}", "sales"),
            ("{namespace_id}", "gone"),
            ("{bucket}", "papers"),
            ("{bucket}", "drafts"),
        ];
        for (name, value) in parameters {
            if path.contains(name) {
                key = key.replacen(&format!(":{value}"), &format!(":{name}"), 1);
            }
        }
        key
    };
    keys.split(" | ").map(filled).collect::<Vec<_>>().join(" | ")
}
