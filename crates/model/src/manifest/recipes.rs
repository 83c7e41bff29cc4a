//! The recipes of a manifest: checked and compiled together with what they refer to.

use std::borrow::Cow;

use serde_json::{Value, json};
use weft_recipe::{Context, Elsewhere, Provider, Source};

use super::{Action, AppKind, Content, Effect, NamedWay, user_auth::Way, ways::place};
use crate::Fault;

/// The recipes, or what is wrong with them. An integration without the block `http` has none.
pub fn compile(content: &Content) -> Result<Option<Provider>, Vec<Fault>> {
    let with_recipe = || content.actions.iter().enumerate().filter(|(_, action)| action.recipe.is_some());
    let Some(http) = &content.http else {
        let lacking = |(index, _): (usize, &Action)| {
            Fault::new(format!("$.actions[{index}].recipe"), "needs the block http, which says where the vendor is")
        };
        let homeless = |(index, _): (usize, &NamedWay)| {
            Fault::new(format!("{}.auth", place(index)), "needs the block http: a backend places credentials by itself")
        };
        let faults: Vec<_> = with_recipe().map(lacking).chain(elsewhere(content).map(homeless)).collect();
        return if faults.is_empty() { Ok(None) } else { Err(faults) };
    };
    if content.kind != AppKind::Integration {
        return Err(vec![Fault::new("$.http", "only a manifest of type \"integration\" has recipes")]);
    }
    let paths: Vec<_> = with_recipe().map(|(index, _)| format!("$.actions[{index}].recipe")).collect();
    let sources: Vec<_> = with_recipe().zip(&paths).filter_map(|((_, action), path)| source(action, path)).collect();
    let schemas: Option<Vec<_>> =
        content.user_auth.as_ref().and_then(|auth| auth.ways().map(|way| credentials(&way.way)).collect());
    let schemas: Option<Vec<&Value>> = schemas.as_ref().map(|all| all.iter().map(AsRef::as_ref).collect());
    let own: Vec<_> =
        elsewhere(content).map(|(index, way)| (format!("{}.auth", place(index)), way, credentials(&way.way))).collect();
    let mut ways = Vec::new();
    for (path, way, schema) in &own {
        if let Some(auth) = &way.auth {
            ways.push(Elsewhere { path, way: way.name(), auth, credentials: schema.as_deref() });
        }
    }
    let known = Context { config: content.config_schema.as_ref(), credentials: schemas.as_deref(), ways: &ways };
    let faults =
        |faults: Vec<weft_recipe::Fault>| faults.into_iter().map(|fault| Fault::new(fault.path, fault.message)).collect();
    Provider::compile(http, &sources, &known).map(Some).map_err(faults)
}

fn source<'a>(action: &'a Action, path: &'a str) -> Option<Source<'a>> {
    Some(Source {
        path,
        action: &action.id,
        recipe: action.recipe.as_ref()?,
        input_schema: action.input_schema.as_ref(),
        only_reads: matches!(action.effect, Some(Effect::Read | Effect::Search)),
    })
}

/// The further ways whose credential goes elsewhere.
fn elsewhere(content: &Content) -> impl Iterator<Item = (usize, &NamedWay)> {
    let alternatives = content.user_auth.iter().flat_map(|auth| &auth.alternatives);
    alternatives.enumerate().filter(|(_, way)| way.auth.is_some())
}

/// The schema of what a connection by this way gives to recipes, where it is known.
fn credentials(way: &Way) -> Option<Cow<'_, Value>> {
    match way {
        Way::Credentials { schema } => Some(Cow::Borrowed(schema)),
        Way::Token(token) => Some(Cow::Owned(token.shown())),
        Way::Oauth1(_) => {
            let known = json!({ "properties": { "token": true, "tokenSecret": true, "response": true } });
            Some(Cow::Owned(known))
        }
        Way::Redirect | Way::Oauth2(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::Manifest;

    fn manifest(more: &Value) -> Value {
        let mut manifest = json!({ "appId": "vendor", "name": "Vendor", "type": "integration" });
        manifest.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        manifest
    }

    fn action(recipe: &Value) -> Value {
        json!({ "id": "get", "name": "Get", "inputSchema": { "properties": { "id": { "type": "string" } } }, "recipe": recipe })
    }

    #[test]
    fn an_integration_of_recipes_needs_no_backend() {
        let http =
            json!({ "baseUrl": "https://api.vendor.example", "auth": { "type": "bearer", "token": "{{ config.token }}" } });
        let recipe = json!({ "method": "GET", "path": "/things/{{ input.id }}" });
        let config = json!({ "properties": { "token": { "type": "string", "platformSecret": "VENDOR_TOKEN" } } });
        let whole = manifest(&json!({ "http": http, "actions": [action(&recipe)], "configSchema": config }));
        let parsed = Manifest::parse(whole.clone()).expect("no faults");
        assert!(parsed.recipes.is_some_and(|recipes| recipes.action("get").is_some()) && !parsed.content.needs_backend());
        let mut with_webhook = whole;
        with_webhook["webhooks"] = json!(["message"]);
        assert!(Manifest::parse(with_webhook).expect("no faults").content.needs_backend());
        assert!(Manifest::parse(manifest(&json!({}))).expect("no faults").content.needs_backend());
    }

    #[test]
    fn faults_of_recipes_are_faults_of_the_manifest() {
        let recipe = json!({ "method": "GET", "path": "/things/{{ input.idd }}" });
        let paths = |more: Value| {
            let faults = Manifest::parse(manifest(&more)).expect_err("a fault");
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(json!({ "actions": [action(&recipe)] })), ["$.actions[0].recipe"]);
        let http = json!({ "baseUrl": "https://api.vendor.example" });
        assert_eq!(paths(json!({ "http": http, "actions": [action(&recipe)] })), ["$.actions[0].recipe.path"]);
        let retry = json!({ "baseUrl": "https://api.vendor.example", "retry": { "attempts": 2, "idempotent": true } });
        assert_eq!(paths(json!({ "http": retry })), ["$.http.retry"], "whether repeating does harm is a matter of each action");
        let shape = paths(json!({ "http": { "base": 1 }, "actions": [action(&json!({ "method": "FETCH", "path": "/" }))] }));
        assert!(shape.contains(&"$.actions[0].recipe.method".to_owned()) && shape.contains(&"$.http".to_owned()), "{shape:?}");
    }
}
