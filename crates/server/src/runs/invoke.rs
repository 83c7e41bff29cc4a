//! The pipeline: resolve, authorise, validate, configure, admit, execute, validate, record.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, value::RawValue};
use weft_model::{AppId, Fault, Principal, RunId, TenantId, manifest::AppKind, run::RunKind, schema::LazySchema};
use weft_workers::{CallError, Job};

use super::{
    admission::Left,
    error::{Cause, Error},
    once::run_once,
    prepared::{Prepared, With, caller},
    recipe::{Given, carry_out},
    record::Record,
};
use crate::{
    apps::{self, Action, App, CallContext, CallRequest, Refusal},
    background::outlive,
    connections::{Chosen, Wish},
    http::trace::TraceId,
    node::Node,
};

/// Of the message of a report, in bytes.
const LONGEST_REPORT: usize = 2048;

/// The handler of jobs.
const ON_JOB: &str = "onJob";

/// A wish to call an action.
#[derive(Debug, Clone)]
pub struct Invocation {
    pub principal: Arc<Principal>,
    /// The integration.
    pub provider: AppId,
    pub action: String,
    pub input: Box<RawValue>,
    /// The app on whose behalf the call is made, when one is named.
    pub calling_app: Option<AppId>,
    pub idempotency_key: Option<String>,
    pub trace: TraceId,
    /// The run that this call is part of.
    pub parent: Option<RunId>,
    pub depth: u8,
    /// The connection that was named, if one was.
    pub connection: Option<Chosen>,
    /// How many reactions to changes led here.
    pub hops: u8,
}

/// A call of a method of an app's own backend.
pub struct RpcCall {
    pub app: Arc<App>,
    pub principal: Arc<Principal>,
    pub method: String,
    pub params: Box<RawValue>,
    pub trace: TraceId,
    pub timeout: Duration,
}

/// A request that arrived at a webhook, on its way to the backend. The start of its run is on disk.
pub struct WebhookCall {
    pub app: Arc<App>,
    pub record: Record,
    pub method: String,
    pub params: Box<RawValue>,
    pub timeout: Duration,
}

/// One attempt at a job.
pub struct JobCall {
    pub app: Arc<App>,
    pub principal: Arc<Principal>,
    pub job: Job,
    pub hops: u8,
    pub payload: Box<RawValue>,
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub run: RunId,
    /// What was left of the vendor's budget, where there is one and the call went out.
    pub left: Option<Left>,
    pub output: Box<RawValue>,
}

/// Calls an action. The call goes on when whoever asked for it goes away.
pub async fn invoke(node: &Arc<Node>, invocation: Invocation) -> Result<Outcome, Error> {
    let shared = Arc::clone(node);
    let watched = node.apps.may_be_developed(&invocation.provider).then(|| Box::new(Watched::of(&invocation)));
    let outcome = outlive(&node.background, async move { run_action(&shared, invocation).await }).await;
    if let (Some(watched), Err(error)) = (watched, &outcome) {
        Box::pin(watched.report(node, &error.cause)).await;
    }
    outcome
}

/// A call of an app that somebody works on.
struct Watched {
    app: AppId,
    action: String,
    by: Arc<Principal>,
}

impl Watched {
    fn of(invocation: &Invocation) -> Self {
        let by = Arc::clone(&invocation.principal);
        Self { app: invocation.provider.clone(), action: invocation.action.clone(), by }
    }

    /// Tells whoever works on the app of what its process does not: that a call was refused, or what it returned.
    async fn report(&self, node: &Node, cause: &Cause) {
        use CallError::{Died, Failed, Timeout};
        let message = match cause {
            // The process has told it, or it is nothing of the app's.
            Cause::Failed(_)
            | Cause::App(apps::Error::Call(Failed(_) | Timeout(_) | Died(_)))
            | Cause::UnknownIntegration(_)
            | Cause::UnknownCallingApp(_) => return,
            Cause::Denied(permission) => format!("the caller lacks the permission {permission}"),
            Cause::InvalidInput(faults) | Cause::InvalidOutput(faults) => {
                let faults: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
                format!("{cause}: {}", faults.join("; "))
            }
            other => other.failed().message,
        };
        let failed = cause.failed();
        let (code, category) = (failed.code.as_str(), failed.category.as_str());
        let (email, action) = (self.by.email.as_str(), self.action.as_str());
        // Of a long list the beginning says enough, and a line of the log has room for that.
        let message = message.get(..message.floor_char_boundary(LONGEST_REPORT)).unwrap_or_default();
        node.apps.report((&self.by.tenant, &self.app), &Refusal { email, action, code, category, message }).await;
    }
}

async fn run_action(node: &Arc<Node>, invocation: Invocation) -> Result<Outcome, Error> {
    // Before anything is read that an answer depends on: what changes from here on makes an answer one of before.
    let asked = node.admission.answers.asked();
    let whose = (&invocation.principal.tenant, &invocation.provider);
    let app = resolve(node, whose, invocation.calling_app.as_ref()).await?;
    let Some(action) = app.actions.get(&invocation.action) else {
        let mut known: Vec<_> = app.actions.keys().map(String::as_str).collect();
        known.sort_unstable();
        return Err(Cause::UnknownAction { provider: app.id.clone(), action: invocation.action, known: known.join(", ") }.into());
    };
    if !invocation.principal.permissions.allows(&action.permission) {
        return Err(Cause::Denied(action.permission.clone()).into());
    }
    let mut record = begin(node, &app, &invocation);
    let with = match ready(node, &app, action, &invocation).await {
        Ok(with) => with,
        Err(cause) => return finish(node, record, Err(cause)).await,
    };
    record.connection = with.connection();
    let call = Prepared::new((invocation, asked), with, &record);
    record.announced = action.destructive || call.invocation.idempotency_key.is_some();
    if call.invocation.idempotency_key.is_some() {
        // Boxed, like all that is rare: the future of every call would have room for it.
        return Box::pin(run_once(node, (&app, action), record, call)).await;
    }
    if action.destructive
        && let Err(not_written) = Box::pin(node.runs.record_start(record.clone())).await
    {
        // It may be on disk all the same, when only the word of it was lost: then it gets its end.
        return finish(node, record, Err(not_written.into())).await;
    }
    let result = call.execute(node, &app, action).await;
    told_left(finish(node, record, result).await, call.left())
}

/// Adds to what came of a call what was left of the vendor's budget.
pub(super) fn told_left(result: Result<Outcome, Error>, left: Option<Left>) -> Result<Outcome, Error> {
    match result {
        Ok(outcome) => Ok(Outcome { left, ..outcome }),
        Err(error) => Err(error.with_left(left)),
    }
}

/// What a call has to have before it can be executed: an input that fits, a complete configuration, and whose account is used.
async fn ready(node: &Node, app: &App, action: &Action, invocation: &Invocation) -> Result<With, Cause> {
    check_input(action, &invocation.input)?;
    let wish = Wish {
        principal: &invocation.principal,
        app,
        action: &invocation.action,
        calling_app: invocation.calling_app.as_ref(),
        attested: invocation.parent.is_some(),
        chosen: invocation.connection,
    };
    With::wished(node, &wish).await
}

/// The integration that is called, if the app on whose behalf it is called is there too.
pub(super) async fn resolve(
    node: &Node,
    (tenant, provider): (&TenantId, &AppId),
    calling_app: Option<&AppId>,
) -> Result<Arc<App>, Cause> {
    if let Some(calling) = calling_app {
        node.apps.get(tenant, calling).await.map_err(|error| match error {
            apps::Error::Unknown(id) => Cause::UnknownCallingApp(id),
            other => other.into(),
        })?;
    }
    match node.apps.get(tenant, provider).await {
        Ok(app) if app.manifest.content.kind == AppKind::Integration => Ok(app),
        Ok(_) | Err(apps::Error::Unknown(_)) => Err(Cause::UnknownIntegration(provider.clone())),
        Err(other) => Err(other.into()),
    }
}

fn begin(node: &Node, app: &App, invocation: &Invocation) -> Record {
    let what = (RunKind::Action, invocation.action.as_str());
    Record {
        app: invocation.calling_app.clone(),
        principal: Some(Arc::clone(&invocation.principal)),
        parent: invocation.parent,
        input_bytes: invocation.input.get().len(),
        ..Record::begin(what, (&app.tenant, &app.id), invocation.trace, node.clock.now())
    }
}

fn check_input(action: &Action, input: &RawValue) -> Result<(), Cause> {
    let Some(schema) = &action.input else { return Ok(()) };
    let value: Value = serde_json::from_str(input.get()).map_err(|error| Cause::Internal(error.to_string()))?;
    let faults = schema.faults(&value);
    if faults.is_empty() { Ok(()) } else { Err(Cause::InvalidInput(faults)) }
}

fn context(principal: Option<&Arc<Principal>>, record: &Record, hops: u8) -> Arc<CallContext> {
    let (principal, contacts) = (principal.map(Arc::clone), record.contacts.clone());
    Arc::new(CallContext { principal, hops, contacts, ..CallContext::of_platform(record.id, record.trace) })
}

/// Executes on the app's worker and checks what comes back. What a warm call does not need is boxed, here and further down: the future
/// of every call would have room for it, and is moved.
pub(super) async fn execute(
    node: &Node,
    app: &Arc<App>,
    action: Option<&Action>,
    request: CallRequest,
) -> Result<Box<RawValue>, Cause> {
    let answer = node.apps.call(app, &request).await;
    // With the call ends what it has open in the database.
    drop(request);
    let output = match answer.map_err(told) {
        Ok(output) => output,
        Err(cause) => return Err(cause.masked(&Box::pin(node.integrations.masks(app)).await)),
    };
    if let Some(schema) = action.and_then(|action| action.output.as_ref()) {
        let value = serde_json::from_str(output.get()).map_err(|error| Cause::InvalidOutput(vec![unreadable(&error)]))?;
        check_output(schema, &value)?;
    }
    Ok(output)
}

/// The same by an action's recipe.
pub(super) async fn execute_recipe(
    node: &Node,
    app: &App,
    (action, recipe): (&Action, &weft_recipe::Action),
    given: Given<'_>,
) -> Result<Box<RawValue>, Cause> {
    let output = match carry_out(node, app, recipe, given).await {
        Ok(output) => output,
        Err(cause) => return Err(cause.masked(&node.integrations.masks(app).await)),
    };
    if let Some(schema) = &action.output {
        check_output(schema, &output)?;
    }
    serde_json::value::to_raw_value(&output).map_err(|error| Cause::Internal(error.to_string()))
}

fn unreadable(error: &serde_json::Error) -> Fault {
    Fault::new("$", format!("cannot be read as JSON: {error}"))
}

fn check_output(schema: &LazySchema, output: &Value) -> Result<(), Cause> {
    let faults = schema.faults(output);
    if faults.is_empty() { Ok(()) } else { Err(Cause::InvalidOutput(faults)) }
}

fn told(error: apps::Error) -> Cause {
    match error {
        apps::Error::Call(CallError::Failed(failure)) => Cause::Failed(failure),
        other => Cause::App(other),
    }
}

/// Records how a run ended. That is handed over now, not when this is awaited; then the result is passed on.
pub fn finish(
    node: &Node,
    record: Record,
    result: Result<Box<RawValue>, Cause>,
) -> impl Future<Output = Result<Outcome, Error>> + Send {
    let (run, now) = (record.id, node.clock.now());
    let end = result.as_ref().map(|output| output.get().len()).map_err(Cause::failed);
    let recorded = node.runs.record(record.finished(now, end));
    async move {
        recorded.await;
        match result {
            Ok(output) => Ok(Outcome { run, left: None, output }),
            Err(cause) => Err(Error { run: Some(run), cause, left: None }),
        }
    }
}

/// Calls a method of an app's backend and records the run. The call goes on when whoever asked for it goes away.
pub async fn call_rpc(node: &Arc<Node>, call: RpcCall) -> Result<Outcome, Error> {
    let shared = Arc::clone(node);
    let work = async move {
        let what = (RunKind::Rpc, call.method.as_str());
        let record = Record {
            principal: Some(Arc::clone(&call.principal)),
            input_bytes: call.params.get().len(),
            ..Record::begin(what, (&call.app.tenant, &call.app.id), call.trace, shared.clock.now())
        };
        let request = CallRequest {
            method: call.method.into(),
            job: None,
            params: call.params,
            caller: Some(caller(&call.principal, None, None)?),
            context: context(Some(&call.principal), &record, 0),
            timeout: call.timeout,
        };
        let result = execute(&shared, &call.app, None, request).await;
        finish(&shared, record, result).await
    };
    outlive(&node.background, work).await
}

/// Hands a webhook request to the backend and records how its run ended.
pub async fn call_webhook(node: &Node, call: WebhookCall) -> Result<Outcome, Error> {
    let context = context(None, &call.record, 0);
    let (method, params) = (call.method, call.params);
    let request = CallRequest { method: method.into(), job: None, params, caller: None, context, timeout: call.timeout };
    let result = execute(node, &call.app, None, request).await;
    finish(node, call.record, result).await
}

/// Hands a job to the backend, as whoever it acts for, and records the attempt.
pub async fn call_job(node: &Node, call: JobCall) -> Result<Outcome, Error> {
    let whose = (&call.app.tenant, &call.app.id);
    let record = Record {
        principal: Some(Arc::clone(&call.principal)),
        input_bytes: call.payload.get().len(),
        attempts: call.job.attempt,
        ..Record::begin((RunKind::Job, ON_JOB), whose, TraceId::generate(), node.clock.now())
    };
    let request = CallRequest {
        method: ON_JOB.into(),
        job: Some(call.job),
        params: call.payload,
        caller: Some(caller(&call.principal, None, None)?),
        context: context(Some(&call.principal), &record, call.hops),
        timeout: call.timeout,
    };
    let result = execute(node, &call.app, None, request).await;
    finish(node, record, result).await
}
