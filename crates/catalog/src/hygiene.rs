//! Secrets that stand where they should not: in files, and in settings that are not kept in the vault.

use serde_json::Value;
use weft_model::manifest::{Content, UserAuth};

use crate::{Folder, grade::Findings};

/// How the credentials of well-known vendors begin, and how much of the same kind follows.
const BEGINNINGS: [(&str, usize); 14] = [
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("whsec_", 24),
    ("ghp_", 36),
    ("gho_", 36),
    ("github_pat_", 40),
    ("glpat-", 20),
    ("AKIA", 16),
    ("AIza", 35),
    ("ya29.", 40),
    ("sk-ant-", 40),
    ("SG.", 40),
];
/// Parts of names that speak of something secret.
const SECRET_NAMES: [&str; 7] = ["token", "secret", "password", "apikey", "api_key", "privatekey", "accesskey"];
/// Names that speak of it without holding it.
const HARMLESS: [&str; 4] = ["url", "name", "id", "field"];

/// Where the keys of servers are that tests start on this machine: nothing else trusts them.
const TEST_KEYS: &str = "test/tls/";

/// Looks through every file for what looks like a real credential.
pub fn files(folder: &Folder, findings: &mut Findings) {
    for (path, content) in &folder.0 {
        let text = String::from_utf8_lossy(content);
        if text.contains("PRIVATE KEY-----") && !path.starts_with(TEST_KEYS) {
            findings.error(path, "holds a private key");
        }
        for (beginning, length) in BEGINNINGS {
            let is_real = |(at, _): (usize, &str)| {
                let rest = text.get(at + beginning.len()..).unwrap_or_default();
                let run = rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'));
                run.collect::<String>().len() >= length
            };
            if text.match_indices(beginning).any(is_real) {
                findings.error(
                    path,
                    format!("holds what looks like a real credential ({beginning}…): use a made-up one that is shorter"),
                );
            }
        }
    }
}

/// Settings that sound secret and are not kept in the vault.
pub fn settings(schema: Option<&Value>, findings: &mut Findings) {
    for (name, property) in schema.and_then(|schema| schema["properties"].as_object()).into_iter().flatten() {
        let plain = name.to_ascii_lowercase();
        let sounds_secret =
            SECRET_NAMES.iter().any(|part| plain.contains(part)) && !HARMLESS.iter().any(|end| plain.ends_with(end));
        if sounds_secret && property.get("platformSecret").is_none() {
            findings.error(
                format!("configSchema.{name}"),
                "sounds secret and has no platformSecret, so it would not be kept in the vault",
            );
        }
        if property["description"].as_str().unwrap_or_default().is_empty() {
            findings.warning(format!("configSchema.{name}"), "has no description: say where an administrator finds it");
        }
    }
}

/// Credentials that are written into the recipe instead of coming from the configuration.
pub fn placements(content: &Content, findings: &mut Findings) {
    let common = content.http.as_ref().and_then(|http| http.get("auth")).map(|auth| ("http.auth".to_owned(), auth));
    let ways = content.user_auth.iter().flat_map(UserAuth::ways);
    let ways = ways.filter_map(|way| Some((format!("userAuth.{}.auth", way.name()), way.auth.as_ref()?)));
    common.into_iter().chain(ways).for_each(|(place, auth)| placement(&place, auth, findings));
}

fn placement(place: &str, auth: &Value, findings: &mut Findings) {
    let placements = auth.as_array().map_or_else(|| vec![auth], |list| list.iter().collect());
    for placement in placements {
        let fixed = |member: &str| placement[member].as_str().is_some_and(|text| !text.contains("{{"));
        let is_header = placement["type"] == "header";
        if ["token", "tokenSecret", "consumerSecret"].iter().any(|member| fixed(member))
            || (fixed("value") && !is_header)
            || (fixed("password") && placement["password"] != "" && fixed("username"))
        {
            findings.error(place, "holds a fixed credential: take it from config or credentials");
        }
    }
}
