//! Carrying out an action by its recipe, in place of a backend: it gets the same values, and its failures are told alike.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::Response;
use serde_json::{Value, json, value::RawValue};
use weft_model::manifest::HostPattern;
use weft_recipe::{Call, Failure, Interrupted, Outgoing, Transport};
use weft_workers::Category;

use super::{error::Cause, record::Contacts};
use crate::{
    apps::{App, CallContext},
    http::outbound::{Ask, Limits},
    node::Node,
};

/// What a call gives to a recipe.
pub struct Given<'a> {
    pub input: &'a RawValue,
    pub config: &'a RawValue,
    pub credentials: Option<&'a RawValue>,
    /// By which way the connection was made that they are from.
    pub way: Option<&'a str>,
    pub context: &'a CallContext,
    pub timeout: Duration,
}

/// The world of one call.
struct World<'a> {
    node: &'a Node,
    app: &'a App,
    contacts: &'a Contacts,
    deadline: Instant,
}

/// Carries a recipe out. Failures hold no credential of the call; the caller masks what else is secret.
pub async fn carry_out(node: &Node, app: &App, recipe: &weft_recipe::Action, given: Given<'_>) -> Result<Value, Cause> {
    let parsed = |text: &RawValue| serde_json::from_str::<Value>(text.get()).map_err(|error| Cause::Internal(error.to_string()));
    let (input, config) = (parsed(given.input)?, parsed(given.config)?);
    let credentials = given.credentials.map(parsed).transpose()?;
    let key = given.context.run.to_string();
    let call = Call { input: &input, config: &config, credentials: credentials.as_ref(), way: given.way, key: Some(&key) };
    let world = World { node, app, contacts: &given.context.contacts, deadline: Instant::now() + given.timeout };
    let carried = tokio::time::timeout(given.timeout, weft_recipe::execute(recipe, &call, &world)).await;
    carried.unwrap_or_else(|_| Err(late(given.timeout))).map_err(told)
}

fn late(limit: Duration) -> Failure {
    Failure {
        category: weft_recipe::Category::Unavailable,
        code: "timeout".to_owned(),
        message: format!("the vendor did not answer within {} s", limit.as_secs_f32()),
        retry_after: None,
        status: None,
        may_have_happened: true,
    }
}

/// A failure in the words of the platform. Its details name the vendor's status, so that a 401 can be told from other refusals.
pub fn told(failure: Failure) -> Cause {
    use weft_recipe::Category::{Auth, Failed, NotFound, RateLimited, Unavailable, Validation};
    let category = match failure.category {
        Auth => Category::Auth,
        RateLimited => Category::RateLimited,
        Unavailable => Category::Transient,
        NotFound | Validation => Category::Validation,
        Failed => Category::Poison,
    };
    let mut told = weft_workers::Failure::new(failure.message).with_code(failure.code).with_category(category);
    told.retry_after = failure.retry_after;
    told.details = failure.status.map(|status| json!({ "status": status }));
    Cause::Failed(Box::new(told))
}

/// Whether a manifest lets its recipes contact a host: one of its addresses names it, or `egress` does. Without either, an address
/// that the configuration gives decides.
pub fn may_contact(app: &App, host: &str, port: u16) -> bool {
    let named = |patterns: &Vec<HostPattern>| patterns.iter().any(|pattern| pattern.matches(host, Some(port)));
    let is_base = || {
        let mut bases = app.manifest.recipes.iter().flat_map(|recipes| recipes.bases());
        bases.any(|base| base.host() == host && base.port() == port)
    };
    app.manifest.content.egress.as_ref().is_none_or(named) || is_base()
}

impl Transport for World<'_> {
    async fn send(&self, request: Outgoing, limit: usize) -> Result<Response<Bytes>, Interrupted> {
        let host = request.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = request.url.port_or_known_default().unwrap_or_default();
        if !may_contact(self.app, host, port) {
            let message = format!("the manifest's egress does not name {host}:{port}");
            return Err(Interrupted { message, unsent: true, passing: false });
        }
        self.contacts.add(host, port);
        let limits = Limits { timeout: self.left(), body: limit, redirects: 0 };
        let Outgoing { method, url, headers, body } = request;
        let sent = self.node.outbound.fetch(Ask { method, url, headers }, body, limits).await;
        sent.map_err(|error| Interrupted { unsent: error.is_unsent(), passing: error.is_passing(), message: error.to_string() })
    }

    async fn pause(&self, delay: Duration) {
        tokio::time::sleep(delay).await;
    }

    fn now(&self) -> DateTime<Utc> {
        self.node.clock.now()
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn random(&self) -> u64 {
        rand::random()
    }

    fn permits(&self, host: &str, port: u16) -> bool {
        let egress = self.app.manifest.content.egress.as_deref().unwrap_or_default();
        egress.iter().any(|pattern| pattern.matches(host, Some(port)))
    }
}
