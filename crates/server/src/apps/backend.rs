//! What a backend may ask of the platform while it works on a call, and as whom.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use weft_model::{AppId, Principal, RunId};
use weft_workers::{CallError, Category, Failure, LogLine, Platform};

use super::{dev, service::Error};
use crate::{
    data::{self, Asker, Transactions},
    http::trace::TraceId,
    node::{Node, NodeHandle},
    runs::{self, Contacts, Invocation},
};

/// How deep calls may nest: an action that calls an action that calls an action.
const MAX_DEPTH: u8 = 8;

/// Who a call in flight belongs to. The host keeps it; the backend only ever holds the call's id.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Absent for calls of the platform itself, such as webhooks.
    pub principal: Option<Arc<Principal>>,
    pub run: RunId,
    pub trace: TraceId,
    pub depth: u8,
    pub contacts: Contacts,
    /// Whether the app acts as itself: in `onStart`, which nobody calls.
    pub itself: bool,
    /// What the call has open in the database.
    pub transactions: Arc<Transactions>,
}

/// The platform as backends reach it.
#[derive(Default)]
pub struct Backend {
    pub node: NodeHandle,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntegrationRequest<'a> {
    integration_id: String,
    action: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnActionRequest<'a> {
    action_name: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

impl Platform for Backend {
    type Context = CallContext;

    async fn self_action(
        &self,
        app: Arc<str>,
        context: Arc<CallContext>,
        action: String,
        params: Box<RawValue>,
    ) -> Result<Box<RawValue>, CallError> {
        let (provider, action, input) = requested(&app, &action, &params)?;
        let Some(node) = self.node.get() else { return Err(refused("stopping", "the server is shutting down")) };
        let Some(principal) = context.principal.clone() else {
            return Err(refused("no_caller", "this call has no user behind it, so it cannot call actions"));
        };
        if context.depth >= MAX_DEPTH {
            return Err(refused("too_deep", "actions call each other too deeply: is there a loop?"));
        }
        let invocation = Invocation {
            principal,
            provider: provider.parse().map_err(|error| refused("unknown_integration", &format!("{error}")))?,
            action,
            input,
            calling_app: Some(app.to_string().parse::<AppId>().map_err(|error| refused("unknown_app", &error.to_string()))?),
            idempotency_key: None,
            trace: context.trace,
            parent: Some(context.run),
            depth: context.depth + 1,
        };
        runs::invoke(&node, invocation).await.map(|outcome| outcome.output).map_err(|error| error.into_failure().into())
    }

    async fn data(
        &self,
        app: Arc<str>,
        context: Arc<CallContext>,
        kind: &'static str,
        message: Box<RawValue>,
    ) -> Result<Box<RawValue>, CallError> {
        let Some(node) = self.node.get() else { return Err(refused("stopping", "the server is shutting down")) };
        let answered = async {
            let asker = asker(&node, &app, &context).await?;
            data::answer(&node, &asker, kind, &message).await
        };
        answered.await.map_err(|error| error.into_failure().into())
    }

    fn start_context(&self, _app: &str) -> Option<Arc<CallContext>> {
        let now = self.node.get()?.clock.now();
        Some(Arc::new(CallContext {
            principal: None,
            run: RunId::generate(now),
            trace: TraceId::generate(),
            depth: MAX_DEPTH,
            contacts: Contacts::default(),
            itself: true,
            transactions: Arc::default(),
        }))
    }

    fn contacted(&self, _app: &str, context: &Arc<CallContext>, host: &str, port: u16) {
        context.contacts.add(host, port);
    }

    fn log(&self, app: &str, context: Option<&Arc<CallContext>>, line: &LogLine) {
        if dev::is_report(line) {
            return;
        }
        let (run, trace) = match context {
            Some(context) => (context.run.to_string(), context.trace.to_string()),
            None => (String::new(), String::new()),
        };
        // Never what it says: that may be a secret, and the log of an app is for those who follow it.
        let bytes = line.message.len();
        tracing::debug!(app.id = app, run.id = run, trace.id = trace, level = %line.level, bytes, "worker.log");
    }
}

/// As whom a backend uses the data of its app.
async fn asker(node: &Node, app: &str, context: &CallContext) -> Result<Asker, data::BackendError> {
    let id: AppId = app.parse().map_err(|error| data::BackendError::Invalid(format!("{error}")))?;
    let app = node.apps.load(&id).await.map_err(|error| data::Error::App(Box::new(error)))?;
    let caller = match &context.principal {
        Some(principal) => Arc::clone(principal),
        None if context.itself => Arc::new(data::app_itself(&app.tenant, &id)),
        None => return Err(data::BackendError::NoCaller),
    };
    if caller.tenant != app.tenant {
        return Err(data::Error::App(Box::new(Error::Unknown(id))).into());
    }
    Ok(Asker { app: id, caller, trace: context.trace, transactions: Arc::clone(&context.transactions) })
}

/// Which integration, action and input a request of a backend is about.
fn requested(app: &str, action: &str, params: &RawValue) -> Result<(String, String, Box<RawValue>), CallError> {
    let invalid = |error: serde_json::Error| refused("invalid_params", &format!("{action}: {error}"));
    let owned = |input: Option<&RawValue>| {
        input.map_or_else(|| serde_json::from_str("{}").map_err(invalid), |input| Ok(input.to_owned()))
    };
    match action {
        "call_integration" => {
            let request: IntegrationRequest<'_> = serde_json::from_str(params.get()).map_err(invalid)?;
            Ok((request.integration_id, request.action, owned(request.input)?))
        }
        "triggerAction" => {
            let request: OwnActionRequest<'_> = serde_json::from_str(params.get()).map_err(invalid)?;
            Ok((app.to_owned(), request.action_name, owned(request.input)?))
        }
        other => Err(refused("unknown_self_action", &format!("unknown self_action: {other}"))),
    }
}

fn refused(code: &str, message: &str) -> CallError {
    Failure::new(message).with_code(code).with_category(Category::Validation).into()
}
