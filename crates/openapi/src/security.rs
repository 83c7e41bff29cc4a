//! The credential: which of the document's security requirements is met, and what the configuration asks for because of it.
//!
//! A requirement names schemes that are placed together. The one that most operations take is chosen; operations that do not
//! take it cannot be called.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{document::Document, names, operation};

/// Schemes that are placed together, by their names.
type Requirement = BTreeSet<String>;

/// The requirement that actions meet.
#[derive(Default)]
pub struct Security {
    requirement: Requirement,
    placements: Vec<Value>,
    /// How people connect their accounts, where a scheme is OAuth 2.
    user_auth: Option<Value>,
    /// The fields of the configuration that the credential is made of.
    fields: Map<String, Value>,
    /// What operations take that say nothing themselves.
    by_default: Option<Vec<Requirement>>,
}

/// How an operation is called.
#[derive(Debug, PartialEq, Eq)]
pub enum Access {
    WithCredential,
    Anonymous,
    /// It takes other credentials only; these.
    Otherwise(String),
}

impl Security {
    /// Chooses the requirement that most operations take and that recipes can meet.
    pub fn of(document: &Document<'_>, id: &str, config: &mut Map<String, Value>, notes: &mut Vec<String>) -> Self {
        let by_default = alternatives(&document.root["security"]);
        for requirement in by_use(document, by_default.as_deref()) {
            match Self::meeting(document, &requirement, id, config) {
                Ok(security) => {
                    config.extend(security.fields.clone());
                    return Self { requirement, by_default, ..security };
                }
                Err(why) => notes.push(why),
            }
        }
        Self::default()
    }

    /// Places every scheme of a requirement.
    fn meeting(
        document: &Document<'_>,
        requirement: &Requirement,
        id: &str,
        config: &Map<String, Value>,
    ) -> Result<Self, String> {
        let mut made = Self::default();
        for name in requirement {
            let scheme = document.resolve(&document.root["components"]["securitySchemes"][name]).unwrap_or(&Value::Null);
            if let Some(user_auth) = oauth(scheme) {
                if made.user_auth.replace(user_auth).is_some() {
                    return Err(format!("people cannot connect their accounts in several ways at once: {}", said(requirement)));
                }
                made.placements.push(json!({ "type": "bearer", "token": "{{ credentials.accessToken }}" }));
                for field in ["clientId", "clientSecret"] {
                    made.declare(field, scheme, id);
                }
                continue;
            }
            let (kind, fields) = placement(scheme).ok_or_else(|| {
                let kind = scheme["type"].as_str().unwrap_or("not described");
                format!("the security scheme '{name}' ({kind}) is not one that recipes place")
            })?;
            let mut placement = kind;
            for (member, field) in fields {
                let is_taken = |field: &str| config.contains_key(field) || made.fields.contains_key(field);
                let field = if is_taken(field) { free(&format!("{name}_{field}"), is_taken) } else { field.to_owned() };
                placement[member] = json!(format!("{{{{ config.{field} }}}}"));
                made.declare(&field, scheme, id);
            }
            made.placements.push(placement);
        }
        let in_one_header = made.placements.iter().filter(|placement| is_authorization(placement)).count();
        if in_one_header > 1 { Err(format!("no request has two Authorization headers: {}", said(requirement))) } else { Ok(made) }
    }

    fn declare(&mut self, field: &str, scheme: &Value, id: &str) {
        let name = names::identifier(field);
        let description = names::first_paragraph(scheme["description"].as_str().unwrap_or_default());
        let text = if description.is_empty() { names::title(&name) } else { description };
        let secret = format!("{id}_{name}").to_ascii_uppercase();
        self.fields.insert(field.to_owned(), json!({ "type": "string", "platformSecret": secret, "description": text }));
    }

    /// Where the credential goes, in all places.
    pub fn auth(&self) -> Option<Value> {
        match self.placements.as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            all => Some(json!(all)),
        }
    }

    pub fn user_auth(&self) -> Option<Value> {
        self.user_auth.clone()
    }

    pub fn required(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// How an operation is called. Documents that say nothing often forgot it.
    pub fn access(&self, operation: &Value) -> Access {
        let own = alternatives(&operation["security"]);
        let Some(taken) = own.as_ref().or(self.by_default.as_ref()).filter(|_| !self.placements.is_empty()) else {
            return Access::WithCredential;
        };
        // More than what is asked for does no harm: it is the same vendor.
        if taken.iter().any(|one| !one.is_empty() && one.is_subset(&self.requirement)) {
            return Access::WithCredential;
        }
        if taken.iter().any(Requirement::is_empty) {
            return Access::Anonymous;
        }
        Access::Otherwise(taken.iter().map(said).collect::<Vec<_>>().join(" or "))
    }
}

/// The requirements of a list, any of which is enough; `None` when there is no list. An empty list asks for nothing.
fn alternatives(security: &Value) -> Option<Vec<Requirement>> {
    let list = security.as_array()?;
    let all: Vec<_> = list.iter().filter_map(Value::as_object).map(|names| names.keys().cloned().collect()).collect();
    Some(if all.is_empty() { vec![Requirement::new()] } else { all })
}

/// The requirements of the document, those of most operations first. Where none is stated, each scheme is one.
fn by_use(document: &Document<'_>, by_default: Option<&[Requirement]>) -> Vec<Requirement> {
    let mut order: Vec<Requirement> = by_default.unwrap_or_default().to_vec();
    let mut counts = BTreeMap::<Requirement, usize>::new();
    for (.., operation) in operation::all(document) {
        let own = alternatives(&operation["security"]);
        for requirement in own.as_deref().or(by_default).unwrap_or_default() {
            *counts.entry(requirement.clone()).or_default() += 1;
            order.push(requirement.clone());
        }
    }
    order.retain(|requirement| !requirement.is_empty());
    if order.is_empty() && by_default.is_none() {
        let schemes = document.root["components"]["securitySchemes"].as_object().into_iter().flatten();
        return schemes.map(|(name, _)| Requirement::from([name.clone()])).collect();
    }
    let mut seen = BTreeSet::new();
    order.retain(|requirement| seen.insert(requirement.clone()));
    order.sort_by_key(|requirement| std::cmp::Reverse(counts.get(requirement).copied().unwrap_or_default()));
    order
}

fn said(requirement: &Requirement) -> String {
    requirement.iter().map(String::as_str).collect::<Vec<_>>().join(" and ")
}

/// A name that is not taken.
fn free(wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let wanted = names::identifier(wanted);
    let numbered = (2..).map(|number| format!("{wanted}_{number}"));
    std::iter::once(wanted.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
}

fn is_authorization(placement: &Value) -> bool {
    match placement["type"].as_str() {
        Some("bearer" | "basic") => true,
        Some("header") => placement["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("authorization")),
        _ => false,
    }
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

/// Where a scheme's credential goes, and which of its members are which fields.
fn placement(scheme: &Value) -> Option<(Value, Vec<(&'static str, &'static str)>)> {
    let name = scheme["name"].as_str().unwrap_or_default();
    let bearer = |field: &'static str| (json!({ "type": "bearer" }), vec![("token", field)]);
    match (scheme["type"].as_str()?, scheme["in"].as_str(), scheme["scheme"].as_str().map(str::to_ascii_lowercase).as_deref()) {
        ("apiKey", Some(place @ ("header" | "query" | "cookie")), _) if !name.is_empty() => {
            Some((json!({ "type": place, "name": name }), vec![("value", "api_key")]))
        }
        ("http", _, Some("bearer")) => Some(bearer("token")),
        ("http", _, Some("basic")) => {
            Some((json!({ "type": "basic" }), vec![("username", "username"), ("password", "password")]))
        }
        ("oauth2" | "openIdConnect", ..) => Some(bearer("access_token")),
        _ => None,
    }
}
