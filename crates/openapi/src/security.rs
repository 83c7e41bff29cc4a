//! The credential: which of the document's security schemes is used, and what the configuration asks for because of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{document::Document, names};

/// The scheme that actions use.
pub struct Security {
    auth: Option<Value>,
    /// How people connect their accounts, where the scheme is OAuth 2.
    user_auth: Option<Value>,
    required: Vec<String>,
    /// Whether operations need a credential unless they say otherwise.
    by_default: bool,
}

impl Security {
    /// Chooses the scheme that most operations take.
    pub fn of(document: &Document<'_>, id: &str, config: &mut Map<String, Value>, notes: &mut Vec<String>) -> Self {
        let root = document.root;
        let by_default = requires(&root["security"]).unwrap_or(false);
        let none = Self { auth: None, user_auth: None, required: Vec::new(), by_default };
        let Some(schemes) = root["components"]["securitySchemes"].as_object() else { return none };
        let mut counts = BTreeMap::<&str, usize>::new();
        let of_operations =
            root["paths"].as_object().into_iter().flatten().flat_map(|(_, item)| item.as_object().into_iter().flatten());
        let all = of_operations.map(|(_, operation)| &operation["security"]).chain([&root["security"]]);
        for requirement in all.flat_map(|security| security.as_array().into_iter().flatten()) {
            for name in requirement.as_object().into_iter().flatten().map(|(name, _)| name) {
                *counts.entry(name).or_default() += 1;
            }
        }
        let mut order: Vec<_> = schemes.iter().collect();
        order.sort_by_key(|(name, _)| std::cmp::Reverse(counts.get(name.as_str()).copied().unwrap_or_default()));
        for (name, scheme) in order {
            let Some(scheme) = document.resolve(scheme) else { continue };
            if let Some(user_auth) = oauth(scheme) {
                let auth = Some(json!({ "type": "bearer", "token": "{{ credentials.accessToken }}" }));
                let required = declare(vec!["clientId", "clientSecret"], scheme, id, config);
                return Self { auth, user_auth: Some(user_auth), required, by_default };
            }
            if let Some((auth, fields)) = placement(scheme) {
                let required = declare(fields, scheme, id, config);
                return Self { auth: Some(auth), user_auth: None, required, by_default };
            }
            notes.push(format!(
                "the security scheme '{name}' ({}) is not one that recipes place",
                scheme["type"].as_str().unwrap_or("?")
            ));
        }
        none
    }

    pub fn auth(&self) -> Option<Value> {
        self.auth.clone()
    }

    pub fn user_auth(&self) -> Option<Value> {
        self.user_auth.clone()
    }

    pub fn required(&self) -> impl Iterator<Item = &str> {
        self.required.iter().map(String::as_str)
    }

    /// Whether an operation is called without a credential.
    pub fn is_anonymous(&self, operation: &Value) -> bool {
        self.auth.is_some() && !requires(&operation["security"]).unwrap_or(self.by_default || operation.get("security").is_none())
    }
}

/// Whether a list of requirements asks for something; `None` when there is no list.
fn requires(security: &Value) -> Option<bool> {
    let list = security.as_array()?;
    Some(list.iter().any(|requirement| requirement.as_object().is_some_and(|names| !names.is_empty())))
}

/// A flow of OAuth 2 that the platform leads through. One with an address that is not absolute is none.
fn oauth(scheme: &Value) -> Option<Value> {
    let flows = scheme.get("flows").filter(|_| scheme["type"] == "oauth2")?;
    let address = |flow: &Value, name: &str| flow[name].as_str().filter(|url| url.starts_with("https://")).map(str::to_owned);
    let scopes =
        |flow: &Value| flow["scopes"].as_object().map(|scopes| scopes.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    if let Some(flow) = flows.get("authorizationCode") {
        let (authorize, token) = (address(flow, "authorizationUrl")?, address(flow, "tokenUrl")?);
        return Some(json!({ "type": "oauth2", "authorizeUrl": authorize, "tokenUrl": token, "scopes": scopes(flow) }));
    }
    let flow = flows.get("clientCredentials")?;
    let token = address(flow, "tokenUrl")?;
    Some(json!({ "type": "oauth2", "grant": "clientCredentials", "tokenUrl": token, "scopes": scopes(flow) }))
}

/// Where a scheme's credential goes, and the fields that it is made of.
fn placement(scheme: &Value) -> Option<(Value, Vec<&'static str>)> {
    let name = scheme["name"].as_str().unwrap_or_default();
    let bearer = |field: &'static str| (json!({ "type": "bearer", "token": format!("{{{{ config.{field} }}}}") }), vec![field]);
    match (scheme["type"].as_str()?, scheme["in"].as_str(), scheme["scheme"].as_str().map(str::to_ascii_lowercase).as_deref()) {
        ("apiKey", Some(place @ ("header" | "query" | "cookie")), _) if !name.is_empty() => {
            Some((json!({ "type": place, "name": name, "value": "{{ config.api_key }}" }), vec!["api_key"]))
        }
        ("http", _, Some("bearer")) => Some(bearer("token")),
        ("http", _, Some("basic")) => Some((
            json!({ "type": "basic", "username": "{{ config.username }}", "password": "{{ config.password }}" }),
            vec!["username", "password"],
        )),
        ("oauth2" | "openIdConnect", ..) => Some(bearer("access_token")),
        _ => None,
    }
}

fn declare(fields: Vec<&str>, scheme: &Value, id: &str, config: &mut Map<String, Value>) -> Vec<String> {
    let description = names::first_paragraph(scheme["description"].as_str().unwrap_or_default());
    for field in &fields {
        let secret = format!("{id}_{}", names::identifier(field)).to_ascii_uppercase();
        let text = if description.is_empty() { names::title(&names::identifier(field)) } else { description.clone() };
        config.insert((*field).to_owned(), json!({ "type": "string", "platformSecret": secret, "description": text }));
    }
    fields.into_iter().map(str::to_owned).collect()
}
