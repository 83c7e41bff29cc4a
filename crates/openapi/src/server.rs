//! The address of the API, out of the document's servers.

use serde_json::{Map, Value, json};

use crate::{Error, Options, document::Document, names};

/// The base address as a recipe's template. Variables become fields of the configuration.
pub fn base_url(document: &Document<'_>, options: &Options, config: &mut Map<String, Value>) -> Result<String, Error> {
    let server = &document.root["servers"][0];
    let url = options.base_url.as_deref().or(server["url"].as_str()).unwrap_or("/");
    let mut template = absolute(url, options)?;
    for (name, variable) in server["variables"].as_object().into_iter().flatten() {
        let placeholder = format!("{{{name}}}");
        if !template.contains(&placeholder) {
            continue;
        }
        let fallback = variable["default"].as_str().unwrap_or_default();
        let is_choice = variable["enum"].as_array().is_some_and(|values| values.len() > 1);
        // A part of the path may hold slashes, which no value may: what has one choice is none.
        if fallback.contains('/') || (!is_choice && !template.split('/').nth(2).is_some_and(|host| host.contains(&placeholder))) {
            template = template.replace(&placeholder, fallback.trim_matches('/'));
            continue;
        }
        let field = names::identifier(name);
        template = template.replace(&placeholder, &format!("{{{{ config.{field} }}}}"));
        let mut property = json!({ "type": "string", "default": fallback });
        for member in ["description", "enum"] {
            if let Some(value) = variable.get(member) {
                property[member] = value.clone();
            }
        }
        config.insert(field, property);
    }
    let template = template.trim_end_matches('/').to_owned();
    if template.contains('{') && !template.contains("{{") {
        return Err(Error::BadServer(template));
    }
    Ok(template)
}

fn absolute(url: &str, options: &Options) -> Result<String, Error> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(url.to_owned());
    }
    if url.starts_with("//") {
        return Ok(format!("https:{url}"));
    }
    let source = options.source.as_ref().filter(|source| matches!(source.scheme(), "http" | "https"));
    let joined = source.ok_or(Error::NoServer)?.join(url).map_err(|_| Error::BadServer(url.to_owned()))?;
    // What the library encodes are the variables.
    Ok(joined.as_str().replace("%7B", "{").replace("%7D", "}"))
}
