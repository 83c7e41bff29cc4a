//! What is no reason to refuse a version, and hardly what was meant.

use weft_model::Manifest;
use weft_workers::Offer;

/// The method of a backend that gets the webhooks of `defineIntegration`.
const WEBHOOK: &str = "__webhook";

/// A sentence for each thing that nothing will come of: in a manifest, and in what the backend has handlers for, where that is known.
pub fn of(manifest: &Manifest, offer: Option<&Offer>) -> Vec<String> {
    let content = &manifest.content;
    let keys =
        manifest.unknown_keys().into_iter().map(|path| format!("manifest: {path} has no meaning, and nothing comes of it"));
    let actions = offer.and_then(|offer| offer.actions.as_deref()).map(|handlers| {
        let all = content.actions.iter().map(|action| action.id.as_str()).collect();
        let needed = content.actions.iter().filter(|action| action.recipe.is_none()).map(|action| action.id.as_str()).collect();
        both_ways("action", (all, needed), handlers)
    });
    let webhooks = offer.and_then(|offer| offer.webhooks.as_deref()).map(|handlers| {
        let all: Vec<_> = content.webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
        let needed = content.webhooks.iter().filter(|webhook| webhook.method == WEBHOOK).map(|webhook| webhook.name.as_str());
        both_ways("webhook", (all, needed.collect()), handlers)
    });
    keys.chain(actions.into_iter().flatten()).chain(webhooks.into_iter().flatten()).collect()
}

/// What is declared without a handler, and what has a handler without being declared.
fn both_ways(kind: &str, (declared, needed): (Vec<&str>, Vec<&str>), handlers: &[String]) -> Vec<String> {
    let missing = needed.into_iter().filter(|name| !handlers.iter().any(|handler| handler == name));
    let missing = missing.map(|name| format!("the manifest declares the {kind} '{name}', and the backend has no handler for it"));
    let hidden = handlers.iter().filter(|handler| !declared.contains(&handler.as_str()));
    let hidden =
        hidden.map(|name| format!("the backend has a handler for the {kind} '{name}', and the manifest does not declare it"));
    missing.chain(hidden).collect()
}
