//! The manifest of an app or integration: what it is called, which actions, webhooks, settings and data it declares.
//!
//! [`Manifest::parse`] reports every fault at once. The shape is checked by `manifest.schema.json` (which editors may use too),
//! what a schema cannot say by [`rules`]. Unknown keys are kept in the stored document and otherwise ignored;
//! [`Manifest::unknown_keys`] names them.

mod egress;
pub mod fields;
pub mod oauth1;
mod polls;
mod recipes;
mod rules;
pub mod token_auth;
mod unknown;
pub mod user_auth;
mod ways;

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AppId, Fault, PermissionKey, contract::Entity, schema::Schema};

pub use egress::HostPattern;
pub use polls::{Cursor, Deletions, EntityTrigger, Flag, Interval, OnDisconnect, Page, Poll, Sync, SyncMode, Trigger};
pub use user_auth::UserAuth;
pub use ways::NamedWay;

/// The JSON Schema of a manifest, as text.
pub const SCHEMA: &str = include_str!("manifest.schema.json");

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(SCHEMA).expect("the compiled-in manifest schema is JSON"));

static COMPILED: LazyLock<Schema> =
    LazyLock::new(|| Schema::compile(&DOCUMENT).expect("the compiled-in manifest schema is a JSON Schema"));

/// What an app is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppKind {
    #[default]
    App,
    Integration,
    Agent,
}

impl AppKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Integration => "integration",
            Self::Agent => "agent",
        }
    }
}

/// A manifest without faults. `document` is what was sent, unchanged.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub content: Content,
    pub document: Value,
    /// What its actions' recipes say, ready to be carried out; `None` without a block `http`.
    pub recipes: Option<Arc<weft_recipe::Provider>>,
}

/// The parts of a manifest that the platform acts on.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    pub app_id: AppId,
    pub name: String,
    #[serde(default = "default_version")]
    pub version: String,
    #[serde(default, rename = "type")]
    pub kind: AppKind,
    #[serde(default)]
    pub description: String,
    pub instructions: Option<String>,
    pub icon: Option<String>,
    #[serde(default)]
    pub permissions: CustomPermissions,
    pub config_schema: Option<Value>,
    /// How people connect it with their own accounts; absent: it knows the configuration only.
    pub user_auth: Option<UserAuth>,
    /// What the recipes of its actions have in common.
    pub http: Option<Value>,
    #[serde(default)]
    pub actions: Vec<Action>,
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    #[serde(default)]
    pub data_contract: Vec<Entity>,
    #[serde(default)]
    pub crons: Vec<Cron>,
    /// What is kept as the vendor has it.
    #[serde(default)]
    pub syncs: Vec<Sync>,
    /// What is told of when it is new at the vendor.
    #[serde(default)]
    pub triggers: Vec<Trigger>,
    /// Records of another app whose changes this one, an agent, is told of.
    pub trigger: Option<EntityTrigger>,
    /// Whom the backend may contact; `None`: the public internet.
    pub egress: Option<Vec<HostPattern>>,
    #[serde(default)]
    pub limits: WorkerLimits,
    /// How often the vendor may be called.
    pub rate_limit: Option<RateLimit>,
    keep_running: Option<bool>,
}

/// What the backend's process makes do with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerLimits {
    /// Memory in MiB; counts where it is less than the operator grants.
    pub memory_mib: Option<u64>,
}

/// So many calls in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct RateLimit {
    pub requests: u32,
    pub seconds: u32,
    #[serde(default)]
    pub per: RateScope,
}

/// Whose calls are counted together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateScope {
    /// Each account at the vendor by itself.
    #[default]
    Connection,
    /// All calls of the tenant.
    Integration,
}

impl Content {
    /// What a stored manifest says. It was checked before it was stored; to check it again costs far more than to read it.
    pub fn from_stored(document: Value) -> serde_json::Result<Self> {
        serde_json::from_value(document)
    }

    /// The fields of `configSchema` with what is known of each.
    pub fn config_fields(&self) -> Vec<ConfigField> {
        let properties = self.config_schema.as_ref().and_then(|schema| schema.get("properties")?.as_object());
        let field = |(name, property): (&String, &Value)| ConfigField {
            name: name.clone(),
            platform_secret: property.get("platformSecret").and_then(Value::as_str).map(str::to_owned),
            default: property.get("default").cloned(),
        };
        properties.into_iter().flatten().map(field).collect()
    }

    /// Whether the platform can do all of it by itself, so that there is nothing to deploy.
    pub fn needs_backend(&self) -> bool {
        let only_recipes = self.kind == AppKind::Integration
            && self.http.is_some()
            && self.actions.iter().all(|action| action.recipe.is_some())
            && self.webhooks.is_empty()
            && self.crons.is_empty();
        !only_recipes
    }

    /// Whether the backend works by itself (timers, connections, `onStart`), so that it has to run even when nobody calls it.
    pub fn keeps_running(&self) -> bool {
        self.keep_running.unwrap_or(self.kind != AppKind::Integration)
    }
}

fn default_version() -> String {
    "0.0.1".to_owned()
}

/// Permission keys that an app adds to those every app has.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct CustomPermissions {
    #[serde(default)]
    pub permissions: Vec<CustomPermission>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct CustomPermission {
    pub key: PermissionKey,
    #[serde(default)]
    pub description: String,
}

/// An operation that others may call.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Part of the URL and of the permission key `integration:{appId}:{id}`.
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// How long one call may take, in seconds; 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    /// How long an answer may be given again to the same question of the same account, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_seconds: Option<u32>,
    /// JSON Schema of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub input_schema: Option<Value>,
    /// JSON Schema of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Value>,
    /// How it is carried out without a backend.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub recipe: Option<Value>,
}

/// What calling an action does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Read,
    Search,
    Write,
    Destructive,
}

/// An inbound webhook. Written as a name, it goes to the backend's `__webhook` handler.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WebhookForm")]
pub struct Webhook {
    pub name: String,
    /// The method of the backend that receives the request.
    pub method: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WebhookForm {
    Name(String),
    Full { name: String, method: Option<String> },
}

impl From<WebhookForm> for Webhook {
    fn from(form: WebhookForm) -> Self {
        let (name, method) = match form {
            WebhookForm::Name(name) => (name, None),
            WebhookForm::Full { name, method } => (name, method),
        };
        Self { name, method: method.unwrap_or_else(|| "__webhook".to_owned()) }
    }
}

/// Bytes that the payload of a job has at most.
pub const PAYLOAD_LIMIT: usize = 1024 * 1024;

/// Something that is done again and again, by the clock.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cron {
    pub name: String,
    pub schedule: String,
    /// A name of the IANA database; UTC when absent.
    pub timezone: Option<String>,
    /// Part of the payload, under this name.
    pub method: Option<String>,
    pub payload: Option<Value>,
    #[serde(default)]
    pub overlap_policy: OverlapPolicy,
}

impl Cron {
    /// The payload of its jobs.
    pub fn merged_payload(&self) -> serde_json::Map<String, Value> {
        let mut payload = self.payload.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(method) = &self.method {
            payload.insert("method".to_owned(), Value::String(method.clone()));
        }
        payload
    }
}

/// What a tick does while a job of an earlier one is not done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverlapPolicy {
    /// Nothing.
    #[default]
    Skip,
    /// The same as ever.
    Queue,
}

impl OverlapPolicy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
        }
    }
}

impl Manifest {
    /// Reads a manifest, or says everything that is wrong with it.
    pub fn parse(document: Value) -> Result<Self, Vec<Fault>> {
        let faults = COMPILED.faults(&document);
        if !faults.is_empty() {
            return Err(faults);
        }
        let content: Content = serde_path_to_error::deserialize(&document)
            .map_err(|error| vec![Fault::new(format!("$.{}", error.path()), error.inner().to_string())])?;
        let mut faults = rules::faults(&content);
        match recipes::compile(&content) {
            Ok(recipes) if faults.is_empty() => return Ok(Self { content, document, recipes: recipes.map(Arc::new) }),
            Ok(_) => {}
            Err(more) => faults.extend(more),
        }
        Err(faults)
    }

    /// The paths of keys that have no meaning, such as `$.actions[0].timeout`.
    pub fn unknown_keys(&self) -> Vec<String> {
        unknown::keys(&self.document, &DOCUMENT)
    }
}

/// One field of an integration's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigField {
    pub name: String,
    /// The platform secret that holds the value; `None` for a field that is no secret.
    pub platform_secret: Option<String>,
    pub default: Option<Value>,
}
