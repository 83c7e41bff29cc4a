//! `/api/v1/apps/{app_id}/hooks`.

use std::sync::Arc;

use axum::{Json as Body, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use weft_model::{AppId, HookId, UserId};

use super::{
    service::{ActionType, Error, NewHook, Terms},
    store::{Asked, Hook as Stored},
};
use crate::{
    apps::{App, TAKES_NO_JOBS},
    events::Operation,
    http::{
        Problems,
        extract::{Authorized, Json, Path, Query, denied, rights},
        page,
        problem::{Code, Problem},
    },
    jobs::OnBehalf,
    node::Node,
};

const MAX_LIMIT: i64 = 1000;
const NOT_YET: &str = "Kept, and nothing happens yet: agents and workflows are not there.";

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, change, remove))
}

/// What is done when a record changes.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = HookAction)]
#[expect(dead_code, reason = "for the document: the words come from the service")]
enum Action {
    /// A job of the same app: its `onJob` gets the change.
    Job,
    /// Kept until there are agents.
    Agent,
    /// Kept until there are workflows.
    Workflow,
}

/// What is to be done when a record of an app changes.
#[derive(Serialize, ToSchema)]
struct Hook {
    id: Uuid,
    app_id: String,
    entity: String,
    #[schema(value_type = Operation)]
    operation: String,
    #[schema(value_type = Action)]
    action_type: String,
    /// Goes with every job.
    #[schema(value_type = Object)]
    action_config: Value,
    /// Of an update: only when one of these fields changed. Null: whatever changed.
    changed_fields: Option<Vec<String>>,
    /// Only records that meet it. Null: every one.
    #[schema(value_type = Option<Object>)]
    r#where: Option<Value>,
    active: bool,
    /// As whom its jobs are done.
    created_by: Uuid,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Why nothing happens, when that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl Hook {
    fn new(node: &Node, app: &App, hook: Stored) -> Self {
        let is_job = hook.action_type == ActionType::Job.as_str();
        let why = if is_job { node.apps.takes_no_jobs(app).then_some(TAKES_NO_JOBS) } else { Some(NOT_YET) };
        Self {
            id: hook.id,
            app_id: hook.app_id,
            entity: hook.entity,
            operation: hook.operation,
            action_type: hook.action_type,
            action_config: hook.action_config,
            changed_fields: hook.changed_fields,
            r#where: hook.condition,
            active: hook.active,
            created_by: hook.created_by,
            created_at: hook.created_at,
            updated_at: hook.updated_at,
            note: why,
        }
    }
}

#[derive(Deserialize, ToSchema)]
struct CreateHookRequest {
    /// An entity of the app.
    entity: String,
    /// `INSERT`, `UPDATE` or `DELETE`, in whatever case.
    operation: String,
    /// `job`; `agent` and `workflow` are kept, and nothing happens yet.
    action_type: String,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    action_config: Option<Value>,
    #[serde(default, alias = "changedFields")]
    changed_fields: Option<Vec<String>>,
    /// Conditions, as in queries.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    r#where: Option<Value>,
    #[serde(default, alias = "enabled")]
    active: Option<bool>,
    /// As whom its jobs are done: somebody whom the caller may act as. The caller when absent.
    #[serde(default, rename = "runAs", alias = "run_as")]
    run_as: Option<UserId>,
}

/// What is absent stays.
#[derive(Deserialize, ToSchema)]
#[expect(clippy::option_option, reason = "absent and null are two things here")]
struct ChangeHookRequest {
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    action_config: Option<Value>,
    /// Null: whatever changed.
    #[serde(default, alias = "changedFields", deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    changed_fields: Option<Option<Vec<String>>>,
    /// Null: every record.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    r#where: Option<Option<Value>>,
    #[serde(default, alias = "enabled")]
    active: Option<bool>,
}

/// Tells null, which is a value, from what is absent.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Serialize, ToSchema)]
struct HookDeleted {
    ok: bool,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListFilter {
    entity: Option<String>,
    /// In whatever case.
    operation: Option<String>,
    /// How many, 1 to 1000; 1000 when absent.
    limit: Option<i64>,
    /// Only older ones: the id of the last one of the page before.
    before: Option<HookId>,
}

/// List the hooks of an app
///
/// Newest first: one's own, and with the permission `app:{app_id}:hook.manage_others` everybody's.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/hooks", tag = "hooks", params(("app_id" = AppId, Path), ListFilter),
    responses((status = 200, body = Vec<Hook>), Problems))]
async fn list(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadHooks>,
    Path(app): Path<AppId>,
    Query(filter): Query<ListFilter>,
) -> Result<Body<Vec<Hook>>, Problem> {
    let of = node.apps.get(&caller.tenant, &app).await?;
    let limit = page::limit_within(filter.limit, MAX_LIMIT, MAX_LIMIT)?;
    let operation = filter.operation.as_deref().map(|text| Operation::parse(text).ok_or_else(no_operation)).transpose()?;
    let asked = Asked { entity: filter.entity, operation, before: filter.before, of: None };
    let hooks = node.hooks.list(&caller, &app, asked, limit).await?;
    Ok(Body(hooks.into_iter().map(|hook| Hook::new(&node, &of, hook)).collect()))
}

fn no_operation() -> Problem {
    Problem::new(Code::InvalidRequest, "operation must be INSERT, UPDATE or DELETE.")
}

/// Create a hook
///
/// From now on every committed change that it is about gives a job, in the order of the changes of each record, done as the caller or as
/// `runAs` by what holds then. Whoever it is has to be allowed to read the records.
#[utoipa::path(post, path = "/api/v1/apps/{app_id}/hooks", tag = "hooks", params(("app_id" = AppId, Path)),
    request_body = CreateHookRequest, responses((status = 200, body = Hook), Problems))]
async fn create(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteHooks>,
    Path(app): Path<AppId>,
    Json(request): Json<CreateHookRequest>,
) -> Result<Body<Hook>, Problem> {
    let app = node.apps.get(&caller.tenant, &app).await?;
    let caller = Arc::clone(caller.principal());
    let acting_as = match request.run_as {
        Some(target) => node.identity.act_as(&caller, target).await?,
        None => Arc::clone(&caller),
    };
    let CreateHookRequest { entity, operation, action_type, action_config, changed_fields, r#where, active, .. } = request;
    let terms = Terms { action_config, changed_fields: changed_fields.map(Some), condition: r#where.map(Some), active };
    let new = NewHook { entity, operation, action_type, terms };
    let made = node.hooks.create(&app, &OnBehalf { caller, acting_as }, new).await?;
    Ok(Body(Hook::new(&node, &app, made)))
}

/// Get a hook
///
/// One's own, or anybody's with the permission `app:{app_id}:hook.manage_others`.
#[utoipa::path(get, path = "/api/v1/apps/{app_id}/hooks/{hook_id}", tag = "hooks",
    params(("app_id" = AppId, Path), ("hook_id" = HookId, Path)), responses((status = 200, body = Hook), Problems))]
async fn get(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::ReadHooks>,
    Path((app, id)): Path<(AppId, HookId)>,
) -> Result<Body<Hook>, Problem> {
    let of = node.apps.get(&caller.tenant, &app).await?;
    Ok(Body(Hook::new(&node, &of, node.hooks.get(&caller, &app, id).await?)))
}

/// Change a hook
///
/// One's own, or anybody's with the permission `app:{app_id}:hook.manage_others`. What happens while it is not active is nothing to it.
#[utoipa::path(patch, path = "/api/v1/apps/{app_id}/hooks/{hook_id}", tag = "hooks",
    params(("app_id" = AppId, Path), ("hook_id" = HookId, Path)), request_body = ChangeHookRequest,
    responses((status = 200, body = Hook), Problems))]
async fn change(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteHooks>,
    Path((app, id)): Path<(AppId, HookId)>,
    Json(request): Json<ChangeHookRequest>,
) -> Result<Body<Hook>, Problem> {
    let app = node.apps.get(&caller.tenant, &app).await?;
    let ChangeHookRequest { action_config, changed_fields, r#where, active } = request;
    let terms = Terms { action_config, changed_fields, condition: r#where, active };
    let changed = node.hooks.change(caller.principal(), &app, id, terms).await?;
    Ok(Body(Hook::new(&node, &app, changed)))
}

/// Delete a hook
///
/// Jobs that it has enqueued stay. One's own, or anybody's with the permission `app:{app_id}:hook.manage_others`.
#[utoipa::path(delete, path = "/api/v1/apps/{app_id}/hooks/{hook_id}", tag = "hooks",
    params(("app_id" = AppId, Path), ("hook_id" = HookId, Path)), responses((status = 200, body = HookDeleted), Problems))]
async fn remove(
    State(node): State<Arc<Node>>,
    caller: Authorized<rights::WriteHooks>,
    Path((app, id)): Path<(AppId, HookId)>,
) -> Result<Body<HookDeleted>, Problem> {
    let app = node.apps.get(&caller.tenant, &app).await?;
    node.hooks.delete(caller.principal(), &app, id).await?;
    Ok(Body(HookDeleted { ok: true }))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(faults) => Self::invalid(&message, faults),
            Error::TooMany { .. } => Self::new(Code::Conflict, message),
            Error::Unreadable { key } => denied(&key),
            Error::Unknown(_) => Self::not_found(message),
            Error::Database(cause) => cause.into(),
        }
    }
}
