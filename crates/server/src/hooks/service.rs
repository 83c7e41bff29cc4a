//! Making, changing and looking at hooks.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use weft_data::Condition;
use weft_model::{AppId, Fault, HookId, Principal, TenantId, UserId, manifest::EntityTrigger};

use super::{
    relay::CONSUMER,
    store::{self, Asked, Hook},
};
use crate::{
    apps::App,
    audit,
    clock::Clock,
    events::{self, Operation},
    jobs::{OnBehalf, Standing, answered_by},
};

/// The longest `action_config`, in bytes of JSON.
const LONGEST_CONFIG: usize = 64 * 1024;

/// Hooks that one entity may have: each change is copied into a job for each of them.
const MOST_HOOKS: i64 = 50;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("'{entity}' has {MOST_HOOKS} hooks, and may not have more: delete one, or do more in one job")]
    TooMany { entity: String },
    #[error("the hook breaks its rules")]
    Invalid(Vec<Fault>),
    #[error("hook '{0}'")]
    Unknown(HookId),
    /// Whoever a hook acts for sees what its records hold.
    #[error("the permission to read the records that the hook is about is missing")]
    Unreadable { key: String },
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionType {
    Job,
    Agent,
    Workflow,
}

impl ActionType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Agent => "agent",
            Self::Workflow => "workflow",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Job, Self::Agent, Self::Workflow].into_iter().find(|known| known.as_str() == text)
    }
}

/// A hook that somebody wants.
#[derive(Debug)]
pub struct NewHook {
    pub entity: String,
    pub operation: String,
    pub action_type: String,
    pub terms: Terms,
}

/// What may change of a hook; absent stays.
#[derive(Debug, Default)]
#[expect(clippy::option_option, reason = "absent and null are two things here")]
pub struct Terms {
    pub action_config: Option<Value>,
    /// None in it: whatever changed.
    pub changed_fields: Option<Option<Vec<String>>>,
    /// None in it: every record.
    pub condition: Option<Option<Value>>,
    pub active: Option<bool>,
}

/// The hooks of all apps.
pub struct Hooks {
    pool: PgPool,
    clock: Clock,
    /// Rung when there are events.
    pub(super) bell: Notify,
}

impl Hooks {
    pub fn new(pool: PgPool, clock: Clock) -> Self {
        Self { pool, clock, bell: Notify::new() }
    }

    /// There may be events.
    pub fn wake(&self) {
        self.bell.notify_one();
    }

    pub async fn create(&self, app: &App, who: &OnBehalf, new: NewHook) -> Result<Hook, Error> {
        let now = self.clock.now();
        let (operation, action_type) = checked(app, &new)?;
        let (caller, owner) = (&who.caller, &who.acting_as);
        let Standing { user, by, only } = Standing::of(caller, owner);
        let mut hook = Hook {
            id: HookId::generate(now).as_uuid(),
            tenant_id: app.tenant.to_string(),
            app_id: app.id.to_string(),
            entity: new.entity,
            operation: operation.as_str().to_owned(),
            action_type: action_type.as_str().to_owned(),
            action_config: Value::Object(serde_json::Map::new()),
            changed_fields: None,
            condition: None,
            active: true,
            created_by: user.as_uuid(),
            set_up_by: by.map(UserId::as_uuid),
            only_permissions: only,
            since: 0,
            created_at: now,
            updated_at: now,
        };
        apply(app, &mut hook, new.terms)?;
        let key = format!("app:{}:{}.read", app.id, hook.entity);
        if !owner.permissions.allows(&key) {
            return Err(Error::Unreadable { key });
        }
        let mut transaction = self.pool.begin().await?;
        store::lock_app(&mut transaction, &app.id).await?;
        if store::count(&mut transaction, &app.id, &hook.entity).await? >= MOST_HOOKS {
            return Err(Error::TooMany { entity: hook.entity });
        }
        hook.since = events::last_number(&mut transaction).await?;
        let hook = store::insert(&mut transaction, &hook).await?;
        self.end(transaction, app, (caller, audit::Action::HookCreated, &hook)).await?;
        Ok(hook)
    }

    /// The hooks of an app that `caller` sees, newest first.
    pub async fn list(&self, caller: &Principal, app: &AppId, asked: Asked, limit: i64) -> Result<Vec<Hook>, Error> {
        let of = (!sees_all(caller, app)).then_some(caller.id);
        let asked = Asked { of, ..asked };
        Ok(store::list(&mut *self.pool.acquire().await?, (&caller.tenant, app), &asked, limit).await?)
    }

    pub async fn get(&self, caller: &Principal, app: &AppId, id: HookId) -> Result<Hook, Error> {
        let hook = store::find(&mut *self.pool.acquire().await?, (&caller.tenant, app), id).await?;
        seen(hook, caller, app).ok_or(Error::Unknown(id))
    }

    pub async fn change(&self, caller: &Arc<Principal>, app: &App, id: HookId, terms: Terms) -> Result<Hook, Error> {
        let mut transaction = self.pool.begin().await?;
        store::lock_app(&mut transaction, &app.id).await?;
        let mut hook = own(&mut transaction, caller, &app.id, id).await?;
        let was_active = hook.active;
        if terms.action_config.is_some() {
            let (by, only) = answered_by(caller, Some(hook.created_by.into()), hook.only_permissions.take());
            (hook.set_up_by, hook.only_permissions) = (by.map(UserId::as_uuid), only);
        }
        apply(app, &mut hook, terms)?;
        if hook.active && !was_active {
            // What happened while it was switched off is nothing to it.
            hook.since = events::last_number(&mut transaction).await?;
        }
        hook.updated_at = self.clock.now();
        let hook = store::update(&mut transaction, &hook).await?;
        self.end(transaction, app, (caller, audit::Action::HookChanged, &hook)).await?;
        Ok(hook)
    }

    pub async fn delete(&self, caller: &Arc<Principal>, app: &App, id: HookId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        store::lock_app(&mut transaction, &app.id).await?;
        let hook = own(&mut transaction, caller, &app.id, id).await?;
        store::delete(&mut transaction, hook.id).await?;
        self.end(transaction, app, (caller, audit::Action::HookDeleted, &hook)).await
    }

    /// Says what hooks want to hear of from now on, records who did it, and commits.
    async fn end(
        &self,
        mut transaction: sqlx::Transaction<'_, sqlx::Postgres>,
        app: &App,
        (caller, action, hook): (&Principal, audit::Action, &Hook),
    ) -> Result<(), Error> {
        let interests = store::list_interests(&mut transaction, &app.id).await?;
        events::want(&mut transaction, CONSUMER, (&app.tenant, &app.id), &interests).await?;
        let event = audit::Event::by(caller, action)
            .on("hook", hook.id)
            .with("app", hook.app_id.clone())
            .with("entity", hook.entity.clone())
            .with("operation", hook.operation.clone())
            .with("active", hook.active);
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        Ok(transaction.commit().await?)
    }
}

/// What a new hook is about.
fn checked(app: &App, new: &NewHook) -> Result<(Operation, ActionType), Error> {
    let (operation, action_type) = (Operation::parse(&new.operation), ActionType::parse(&new.action_type));
    let mut faults = Vec::new();
    if !app.entities.contains_key(&new.entity) {
        faults.push(Fault::new("$.entity", format!("'{}' is no entity of the app '{}'", new.entity, app.id)));
    }
    if operation.is_none() {
        faults.push(Fault::new("$.operation", "must be INSERT, UPDATE or DELETE"));
    }
    if action_type.is_none() {
        faults.push(Fault::new("$.action_type", "must be job, agent or workflow"));
    }
    operation.zip(action_type).filter(|_| faults.is_empty()).ok_or(Error::Invalid(faults))
}

/// Changes a hook, if what it becomes is one.
fn apply(app: &App, hook: &mut Hook, terms: Terms) -> Result<(), Error> {
    let Terms { action_config, changed_fields, condition, active } = terms;
    hook.action_config = action_config.unwrap_or_else(|| hook.action_config.clone());
    hook.changed_fields = changed_fields.unwrap_or_else(|| hook.changed_fields.clone());
    hook.condition = condition.unwrap_or_else(|| hook.condition.clone());
    hook.active = active.unwrap_or(hook.active);
    let mut faults = Vec::new();
    if !hook.action_config.is_object() {
        faults.push(Fault::new("$.action_config", "must be an object"));
    } else if hook.action_config.to_string().len() > LONGEST_CONFIG {
        faults.push(Fault::new("$.action_config", "has more than 64 KiB"));
    }
    if let Some(names) = &hook.changed_fields {
        if hook.operation != Operation::Update.as_str() || names.is_empty() {
            faults.push(Fault::new("$.changed_fields", "is a list of fields, for hooks on UPDATE"));
        }
        let is_field = |name: &String| app.entities.get(&hook.entity).is_none_or(|entity| entity.kind(name).is_some());
        for name in names.iter().filter(|name| !is_field(name)) {
            faults.push(Fault::new("$.changed_fields", format!("'{name}' is no field of '{}'", hook.entity)));
        }
    }
    if let (Some(clause), Some(entity)) = (&hook.condition, app.entities.get(&hook.entity)) {
        faults.extend(Condition::parse(entity, clause, "$.where").err().unwrap_or_default());
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// A hook that `caller` may change, for as long as the transaction lasts.
async fn own(connection: &mut PgConnection, caller: &Principal, app: &AppId, id: HookId) -> Result<Hook, Error> {
    let hook = store::lock(connection, (&caller.tenant, app), id).await?;
    seen(hook, caller, app).ok_or(Error::Unknown(id))
}

/// The hook, if it is the caller's own, or somebody's whose hooks the caller may see and change.
fn seen(hook: Option<Hook>, caller: &Principal, app: &AppId) -> Option<Hook> {
    let me = caller.id.as_uuid();
    hook.filter(|hook| hook.created_by == me || hook.set_up_by == Some(me) || sees_all(caller, app))
}

fn sees_all(caller: &Principal, app: &AppId) -> bool {
    caller.permissions.allows(&format!("app:{app}:hook.manage_others"))
}

/// Makes the declared hooks of an app, an agent, those of its manifest: each is there once, and acts for whoever installs the app. Whoever calls
/// has looked whether the records are there and may be read.
pub async fn declare(
    connection: &mut PgConnection,
    by: &Principal,
    app: &AppId,
    trigger: Option<&EntityTrigger>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let wanted: Vec<Operation> = trigger.iter().flat_map(|trigger| &trigger.on).filter_map(|on| Operation::parse(on)).collect();
    let about = trigger.map(|trigger| (&trigger.app_id, trigger.entity.as_str()));
    let mut changed = store::delete_undeclared(connection, (&by.tenant, app), about, &wanted).await?;
    if let Some((target, entity)) = about {
        store::lock_app(connection, target).await?;
        let since = events::last_number(connection).await?;
        let owner = Standing::of(by, by);
        for operation in wanted {
            let hook = Hook {
                id: HookId::generate(now).as_uuid(),
                tenant_id: by.tenant.to_string(),
                app_id: target.to_string(),
                entity: entity.to_owned(),
                operation: operation.as_str().to_owned(),
                action_type: ActionType::Agent.as_str().to_owned(),
                action_config: serde_json::json!({ "app_id": app }),
                changed_fields: None,
                condition: None,
                active: true,
                created_by: owner.user.as_uuid(),
                set_up_by: None,
                only_permissions: owner.only.clone(),
                since,
                created_at: now,
                updated_at: now,
            };
            store::upsert_declared(connection, app, &hook).await?;
        }
        changed.push(target.clone());
    }
    want(connection, &by.tenant, &changed).await
}

/// Removes the hooks that an app declares, which is about to go.
pub async fn undeclare(connection: &mut PgConnection, tenant: &TenantId, app: &AppId) -> sqlx::Result<()> {
    let changed = store::delete_undeclared(connection, (tenant, app), None, &[]).await?;
    want(connection, tenant, &changed).await
}

/// Says anew what the hooks of these apps want to hear of.
async fn want(connection: &mut PgConnection, tenant: &TenantId, apps: &[AppId]) -> sqlx::Result<()> {
    for app in apps {
        let interests = store::list_interests(connection, app).await?;
        events::want(connection, CONSUMER, (tenant, app), &interests).await?;
    }
    Ok(())
}
