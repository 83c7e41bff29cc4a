//! What a backend may ask of the platform while it works on a call, and as whom.

use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use weft_model::{AppId, ConnectionId, Principal, RunId};
use weft_workers::{CallError, Category, Death, DeathKind, Failure, LogLine, Platform};

use super::{dev, service::Error};
use crate::{
    connections::{self, Chosen, Told},
    data::{self, Asker, Transactions},
    files::{self, WorkerUpload},
    http::trace::TraceId,
    node::{Node, NodeHandle},
    runs::{self, Contacts, Invocation},
};

/// How deep calls may nest: an action that calls an action that calls an action.
const MAX_DEPTH: u8 = 8;

/// Asked for by a message of its own.
const STORAGE_UPLOAD: &str = "storage_upload";

/// Who a call in flight belongs to. The host keeps it; the backend only ever holds the call's id.
#[derive(Debug)]
pub struct CallContext {
    /// Absent for calls of the platform itself, such as webhooks.
    pub principal: Option<Arc<Principal>>,
    pub run: RunId,
    pub trace: TraceId,
    pub depth: u8,
    /// How many reactions to changes of records led here. What changes a record on behalf of this call passes it on.
    pub hops: u8,
    pub contacts: Contacts,
    /// The connection that the call is made with. Calls of the same integration within it use the same.
    pub connection: Option<Pinned>,
    /// What the backend was told of that connection meanwhile.
    pub told: Told,
    /// Whether the app acts as itself: in `onStart`, which nobody calls.
    pub itself: bool,
    /// What the call has open in the database; made when it first asks for data.
    pub transactions: OnceLock<Arc<Transactions>>,
}

/// A connection of an integration.
#[derive(Debug, Clone)]
pub struct Pinned {
    pub integration: AppId,
    pub connection: ConnectionId,
}

impl CallContext {
    /// A call that nobody's rights stand behind.
    pub fn of_platform(run: RunId, trace: TraceId) -> Self {
        Self {
            principal: None,
            run,
            trace,
            depth: 0,
            hops: 0,
            contacts: Contacts::default(),
            connection: None,
            told: Told::default(),
            itself: false,
            transactions: OnceLock::new(),
        }
    }
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

#[derive(Deserialize)]
struct UpdateRequest {
    credentials: Map<String, Value>,
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
        let Some(node) = self.node.get() else { return Err(refused("stopping", "the server is shutting down")) };
        if let Some(pinned) = context.connection.as_ref().filter(|_| CREDENTIALS.contains(&action.as_str())) {
            return of_connection(&node, &context, pinned, &action, &params).await;
        }
        let (provider, action, input) = requested(&app, &action, &params)?;
        let Some(principal) = context.principal.clone() else {
            return Err(refused("no_caller", "this call has no user behind it, so it cannot call actions"));
        };
        if context.depth >= MAX_DEPTH {
            return Err(refused("too_deep", "actions call each other too deeply: is there a loop?"));
        }
        let provider: AppId = provider.parse().map_err(|error| refused("unknown_integration", &format!("{error}")))?;
        let invocation = Invocation {
            principal,
            connection: context.connection.as_ref().filter(|pinned| pinned.integration == provider).map(Pinned::inherited),
            provider,
            action,
            input,
            calling_app: Some(app.to_string().parse::<AppId>().map_err(|error| refused("unknown_app", &error.to_string()))?),
            idempotency_key: None,
            trace: context.trace,
            parent: Some(context.run),
            depth: context.depth + 1,
            hops: context.hops,
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
        if kind == STORAGE_UPLOAD {
            return upload_address(&node, &app, &context, &message).await;
        }
        let answered = async {
            let asker = asker(&node, &app, &context).await?;
            data::answer(&node, &asker, kind, &message).await
        };
        answered.await.map_err(|error| error.into_failure().into())
    }

    fn start_context(&self, _app: &str) -> Option<Arc<CallContext>> {
        let now = self.node.get()?.clock.now();
        let platform = CallContext::of_platform(RunId::generate(now), TraceId::generate());
        Some(Arc::new(CallContext { depth: MAX_DEPTH, itself: true, ..platform }))
    }

    fn contacted(&self, _app: &str, context: &Arc<CallContext>, host: &str, port: u16) {
        context.contacts.add(host, port);
    }

    fn died(&self, app: &str, death: &Death) {
        metrics::counter!("weft_worker_deaths_total", "kind" => death.kind.to_string()).increment(1);
        // What a backend said before it was ready may be a secret, and the log of an app is for those who follow it.
        let reason = death.reason.lines().next().filter(|_| death.kind != DeathKind::StartFailed);
        tracing::warn!(app, kind = %death.kind, reason, "a worker died");
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

impl Pinned {
    fn inherited(&self) -> Chosen {
        Chosen::Inherited(self.connection)
    }
}

/// What a backend may ask about the connection that its call is made with: what it holds now, and to keep something else in it.
const CREDENTIALS: [&str; 2] = ["user_credentials", "update_credentials"];

async fn of_connection(
    node: &Arc<Node>,
    context: &CallContext,
    pinned: &Pinned,
    action: &str,
    params: &RawValue,
) -> Result<Box<RawValue>, CallError> {
    let failed = |error: connections::Error| CallError::from(runs::Error::from(runs::Cause::from(error)).into_failure());
    let Some(principal) = &context.principal else { return Err(refused("no_caller", "this call has no user behind it")) };
    let app = node.integrations.get(&principal.tenant, &pinned.integration).await.map_err(|error| failed(error.into()))?;
    let credential = if action == "update_credentials" {
        let request: UpdateRequest =
            serde_json::from_str(params.get()).map_err(|_| refused("invalid_params", "credentials must be an object"))?;
        node.connections.update(&app, pinned.connection, request.credentials).await.map_err(failed)?
    } else {
        node.connections.current(&app, pinned.connection).await.map_err(failed)?
    };
    context.told.add(&credential);
    Ok(credential.json().to_owned())
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
    let transactions = Arc::clone(context.transactions.get_or_init(Arc::default));
    Ok(Asker { app: id, caller, trace: context.trace, hops: context.hops, transactions })
}

/// Where a backend may upload a file, once. A file is the app's, so whoever may have the app do something may have it store one; so may a
/// webhook, behind which there is nobody.
async fn upload_address(node: &Node, app: &str, context: &CallContext, params: &RawValue) -> Result<Box<RawValue>, CallError> {
    let wanted: WorkerUpload =
        serde_json::from_str(params.get()).map_err(|error| refused("invalid_params", &format!("{STORAGE_UPLOAD}: {error}")))?;
    let id: AppId = app.parse().map_err(|error| refused("unknown_app", &format!("{error}")))?;
    let issued = async {
        let app = node.apps.load(&id).await.map_err(|_| files::Error::UnknownApp(id.clone()))?;
        let to = context.principal.as_ref().map(|principal| principal.id);
        node.files.allow_upload((&app.tenant, &id), wanted, to).await
    };
    let issued = issued.await.map_err(|error| match error {
        files::Error::TooLarge(_) => refused("too_large", &error.to_string()),
        error => {
            tracing::warn!(%error, app.id = %id, "a backend gets no address to upload to");
            Failure::new("the server cannot take the file now").with_code("unavailable").with_category(Category::Transient).into()
        }
    })?;
    let url = node.files.door_url(&issued);
    serde_json::value::to_raw_value(&url).map_err(|error| refused("internal", &error.to_string()))
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
        name if CREDENTIALS.contains(&name) => Err(refused("no_connection", "this call is made with no connection")),
        other => Err(refused("unknown_self_action", &format!("unknown self_action: {other}"))),
    }
}

fn refused(code: &str, message: &str) -> CallError {
    Failure::new(message).with_code(code).with_category(Category::Validation).into()
}
