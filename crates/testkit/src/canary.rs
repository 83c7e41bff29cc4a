//! A secret put wherever a secret can go, and the search for it where it must not be.

use std::path::Path;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Answer, Api, server::PASSWORD};

/// What every planted value begins with.
pub const CANARY: &str = "canary4u7Jq2ZtW9xKp";

const CRM: &str = "
    const secret = () => process.env.APP_SECRET ?? 'none';
    serve({ rpc: {
        show: (_params, _caller, ctx) => ctx.credentials,
        print: () => {
            console.log('printed', secret());
            process.stdout.write(`raw ${secret()}\\n`);
            process.stderr.write(`stderr ${secret()}\\n`);
            emit('said', { secret: secret() });
            Promise.reject(new Error(`unhandled ${secret()}`));
        },
        query: async (_params, _caller, ctx) => {
            const failed = (text) => ctx.sql(text, [secret()]).then(() => false, () => true);
            return [await failed('select $1::int'), await failed('select complain($1)')];
        },
        fail: () => { throw new ActionError(`failed with ${secret()}`, { code: secret(), details: { secret: secret() } }); },
        crash: async () => { process.stderr.write(`dying with ${secret()}\\n`); await Bun.sleep(50); process.exit(3); },
    } });";
/// What a backend's SQL can say aloud.
const COMPLAIN: &str = "create function complain(what text) returns void language plpgsql as $$
    begin raise log 'log %', what; raise warning 'warning %', what; raise exception 'exception %', what; end $$";
/// Stands for a version that does not come up.
const BROKEN: &str =
    "process.stderr.write(`stderr ${process.env.APP_SECRET}\\n`); throw new Error(`at start ${process.env.APP_SECRET}`);";
const ECHO: &str = "
    defineIntegration({
        actions: {
            echo: (_input, ctx) => ctx.config,
            fail: (_input, ctx) => {
                const { token, bound } = ctx.config;
                throw new Error(`GET https://example.com/?token=${encodeURIComponent(token)} with ${token} and ${bound}`);
            },
            nested: (_input, ctx) => ctx.action('fail'),
        },
        webhooks: { news: ({ body, config }) => { if (body === 'fail') throw new Error(`no ${config.token}`); return 'seen'; } },
        bind: ({ config }) => {
            if (config.url === 'refuse') throw new Error(`bind refuses ${config.token}`);
            return { mergeConfig: config.url === 'odd' ? config.token : { bound: config.token.replace('+/=config', 'bound') } };
        },
    });";

/// Puts the canary wherever a secret can go and has it used. Returns what to look for, other secrets that came into being on the way
/// included, and every answer that must hold none of it.
pub async fn plant(api: Api) -> (Vec<String>, Vec<Answer>) {
    let account = json!({ "email": "alice@example.com", "password": PASSWORD });
    api.post("/api/v1/auth/register", account.clone()).await.expect(201);
    let tokens = api.post("/api/v1/auth/login", account).await.expect(200);
    let alice = api.clone().with_token(tokens.text("/accessToken"));
    let mut answers = vec![
        api.post("/api/v1/auth/login", json!({ "email": "alice@example.com", "password": value("wrong") })).await.expect(401),
        api.clone().with_token(value("token")).get("/api/v1/auth/me").await.expect(401),
        api.get(&format!("/{0}?token={0}", value("path"))).await.expect(404),
    ];
    app(&alice, &mut answers).await;
    let hook_token = integration(&alice, &mut answers).await;
    for path in
        ["/api/v1/runs?limit=200", "/api/v1/status", "/api/v1/workers", "/api/v1/apps", "/api/v1/integrations", "/metrics"]
    {
        answers.push(alice.get(path).await.expect(200));
    }
    let known = [hook_token, PASSWORD.to_owned(), tokens.text("/accessToken"), tokens.text("/refreshToken")];
    (std::iter::once(CANARY.to_owned()).chain(known).collect(), answers)
}

fn value(place: &str) -> String {
    format!("{CANARY}-{place}")
}

async fn set(api: &Api, path: &str, key: &str, value: &str) -> Answer {
    api.post(path, json!({ "key": key, "value": value })).await
}

/// An app whose secrets are in its environment: printed, thrown, left behind by its death.
async fn app(api: &Api, answers: &mut Vec<Answer>) {
    api.post("/api/v1/apps", json!({ "appId": "crm", "name": "crm", "version": "1.0.0" })).await.expect(200);
    set(api, "/api/v1/apps/crm/secrets", "APP_SECRET", &value("app")).await.expect(200);
    api.deploy("crm", &[("index.ts", CRM), ("migrations/001.sql", COMPLAIN)]).await.expect(200);
    let rpc = async |method: &str| api.post("/api/v1/apps/crm/rpc", json!({ "method": method, "params": {} })).await;
    assert_eq!(rpc("show").await.expect(200).value("/APP_SECRET"), json!(value("app")), "the canary is in use");
    rpc("print").await.expect(200);
    assert_eq!(rpc("query").await.expect(200).json, json!([true, true]));
    for (method, status) in [("fail", 502), ("crash", 502)] {
        answers.push(rpc(method).await.expect(status));
    }
    answers.push(api.deploy("crm", &[("index.ts", BROKEN)]).await.expect(422));
    answers.push(set(api, "/api/v1/apps/crm/secrets", "not a name", &value("odd")).await.expect(400));
}

/// An integration whose secrets are in its configuration. Returns the token of its webhook.
async fn integration(api: &Api, answers: &mut Vec<Answer>) -> String {
    let fields = json!({ "token": { "type": "string", "platformSecret": "ECHO_TOKEN" }, "url": { "type": "string" } });
    let actions: Vec<Value> = ["echo", "fail", "nested"].iter().map(|id| json!({ "id": id, "name": id })).collect();
    let schema = json!({ "type": "object", "properties": fields });
    let manifest = json!({ "appId": "echo", "name": "echo", "version": "1.0.0", "type": "integration", "actions": actions,
                           "configSchema": schema, "webhooks": ["news"] });
    api.post("/api/v1/apps", manifest).await.expect(200);
    api.deploy("echo", &[("index.ts", ECHO)]).await.expect(200);
    for value in [&value("platform"), "replaced"] {
        set(api, "/api/v1/platform/secrets", "PLATFORM_SECRET", value).await.expect(200);
    }
    let path = "/api/v1/integrations/echo/config";
    let config = |url: &str| json!({ "token": value("+/=config"), "url": url });
    answers.push(api.put(path, json!({ "url": "plain", "typo": value("typo") })).await.expect(400));
    answers.push(api.put(path, config("refuse")).await.expect(502));
    answers.push(api.put(path, config("odd")).await.expect(502));
    answers.push(api.put(path, config("plain")).await.expect(200));

    let call = api.request(Method::POST, "/api/v1/integrations/echo/actions/echo").header("idempotency-key", value("key"));
    let expected = json!({ "token": value("+/=config"), "url": "plain", "bound": value("bound") });
    assert_eq!(api.send(call.json(&json!({ "note": "x" }))).await.expect(200).json, expected, "the canary is in use");
    for action in ["fail", "nested"] {
        let call = api.request(Method::POST, &format!("/api/v1/integrations/echo/actions/{action}"));
        answers.push(api.send(call.header("idempotency-key", value(action)).json(&json!({}))).await.expect(502));
    }
    let hook = api.get("/api/v1/apps/echo/webhooks").await.expect(200).text("/0/url");
    let sender = Api::new(String::new());
    for (body, status) in [(value("body"), 200), ("fail".to_owned(), 502)] {
        let request =
            sender.request(Method::POST, &hook).header("authorization", value("sender")).header("x-secret", value("header"));
        answers.push(sender.send(request.body(body)).await.expect(status));
    }
    hook.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The forms in which a secret may lie around: as it is, in hexadecimal, and in base64 wherever it begins within its group.
fn forms(secret: &str) -> Vec<String> {
    let shifted = (0..3).flat_map(|shift| {
        let text = format!("{}{secret}", "x".repeat(shift));
        // Its outermost characters also depend on what stands beside it.
        [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)].map(|encoded| encoded[4..encoded.len() - 3].to_owned())
    });
    [secret.to_owned(), hex::encode(secret), hex::encode_upper(secret)].into_iter().chain(shifted).collect()
}

/// Fails when one of the secrets is in a text, in whatever form.
#[track_caller]
pub fn assert_without(secrets: &[String], text: &str, place: &str) {
    for secret in secrets {
        for form in forms(secret) {
            if let Some(position) = text.find(&form) {
                let around: String = text[..position].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                let after: String = text[position..].chars().take(80).collect();
                panic!("{place} holds {secret} as {form} after: {around}>>>{after}");
            }
        }
    }
}

/// The same for every file below a folder. Returns how many there were.
#[track_caller]
pub fn assert_files_without(secrets: &[String], folder: &Path) -> usize {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            seen += assert_files_without(secrets, &path);
        } else if kind.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).expect("a file")).into_owned();
            assert_without(secrets, &text, &path.display().to_string());
            seen += 1;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_that_the_searches_look_for() {
        let secrets = [CANARY.to_owned()];
        let around = |before: &str| format!("{before}{CANARY}!?");
        for before in ["", "a", "ab", "abc"] {
            let text = around(before);
            let written =
                [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text), hex::encode(&text), hex::encode_upper(&text)];
            for form in written.into_iter().chain([text]) {
                assert!(std::panic::catch_unwind(|| assert_without(&secrets, &form, "a text")).is_err(), "{form}");
            }
        }
        assert_without(&secrets, &around("")[1..], "a text");
    }
}
