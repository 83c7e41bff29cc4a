//! Reading and saving configurations.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use sqlx::{PgConnection, PgPool};
use weft_model::{
    AppId, ConfigurationId, Fault, Manifest, Principal, RunId, Secret, TenantId,
    manifest::{AppKind, ConfigField, Content, NamedWay},
    schema::Schema,
};
use weft_workers::CallError;

use super::{
    catalog::UnreadIndex,
    store,
    ways::{self, OfferedWay},
};
use crate::{
    apps::{self, App, Apps, CallContext, CallRequest},
    audit::{self, Action, Event},
    clock::Clock,
    db::{
        cache::Cache,
        notify::{self, Change},
    },
    http::trace,
    polls,
    secrets::{self, Masks, Scope, Vault},
};

/// How long a backend may take over a changed configuration.
const BIND_TIMEOUT: Duration = Duration::from_secs(30);
/// How the scopes of what `__bind` handlers added begin.
const INTEGRATION_SCOPES: &str = "integration:";
/// Configurations that a node remembers.
const REMEMBERED: u64 = 5_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("integration '{0}'")]
    Unknown(AppId),
    #[error("the catalog's integration '{0}'")]
    NotInCatalog(AppId),
    #[error("the archive of integration '{integration}', or whether there is one, is not known: {cause}")]
    Unread { integration: AppId, cause: Box<UnreadIndex> },
    #[error("the configuration has faults")]
    Invalid(Vec<Fault>),
    #[error("configuration '{0}'")]
    UnknownConfiguration(ConfigurationId),
    #[error("another configuration of this integration has the label '{0}'")]
    LabelTaken(String),
    #[error("{0} connection(s) still use this config: delete them first")]
    ConfigurationInUse(i64),
    #[error("the configuration was saved, but the backend's __bind handler failed: {0}")]
    Bind(String),
    #[error(transparent)]
    App(#[from] apps::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// An integration's configuration as its backend gets it. It holds secrets: it shows nothing of itself.
pub struct Config {
    json: Box<RawValue>,
    /// Required fields without a value.
    pub missing: Vec<String>,
    /// What the backend knows and nobody else may.
    masks: Masks,
}

impl Config {
    /// The fields and their values, one JSON object.
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// The fields without a value that a way to connect needs.
    pub fn lacks(&self, content: &Content, way: &NamedWay) -> Vec<String> {
        let values: Map<String, Value> = serde_json::from_str(self.json.get()).unwrap_or_default();
        lacking(content, way, &values)
    }

    /// What has to be kept out of everything that a backend says that was given it.
    pub const fn masks(&self) -> &Masks {
        &self.masks
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Config").field("missing", &self.missing).finish_non_exhaustive()
    }
}

/// What there is of a configuration: the platform secrets of the tenant, what `__bind` added, and the plain settings.
struct Stored {
    platform: BTreeMap<String, Secret<String>>,
    merged: BTreeMap<String, Secret<String>>,
    settings: Map<String, Value>,
    /// What a named configuration says otherwise.
    named: Map<String, Value>,
    /// The secrets of the app itself, which are no part of the configuration.
    own: BTreeMap<String, Secret<String>>,
}

/// One line of the list of integrations.
pub struct Listed {
    pub content: Content,
    /// Whether there is something to call: a backend was deployed, or the recipes make do without.
    pub deployed: bool,
    /// Required fields of the configuration without a value.
    pub missing: Vec<String>,
    /// The ways to connect it.
    pub ways: Vec<OfferedWay>,
}

/// Tenant, integration, the fingerprint of its manifest, named configuration. By the manifest, so that a call that began before it was
/// replaced leaves nothing behind for those that begin after.
type Key = (TenantId, AppId, [u8; 32], Option<ConfigurationId>);

/// The configurations of all integrations.
pub struct Integrations {
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    pub(super) vault: Arc<Vault>,
    apps: Arc<Apps>,
    remembered: Cache<Key, Arc<Config>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindAnswer {
    merge_config: Option<BTreeMap<String, Value>>,
}

impl Integrations {
    pub fn new((pool, clock): (PgPool, Clock), vault: Arc<Vault>, apps: Arc<Apps>) -> Self {
        Self { pool, clock, vault, apps, remembered: Cache::new(REMEMBERED) }
    }

    /// The apps among which the integrations are.
    pub fn apps(&self) -> &Apps {
        &self.apps
    }

    pub fn forget(&self) {
        self.remembered.clear();
    }

    /// The integration of that id, if the tenant has it installed.
    pub async fn get(&self, tenant: &TenantId, id: &AppId) -> Result<Arc<App>, Error> {
        match self.apps.get(tenant, id).await {
            Ok(app) if app.manifest.content.kind == AppKind::Integration => Ok(app),
            Ok(_) | Err(apps::Error::Unknown(_)) => Err(Error::Unknown(id.clone())),
            Err(other) => Err(other.into()),
        }
    }

    /// What `show` makes of each integration of a tenant. Nothing else is kept: thousands may be installed that nobody calls.
    pub async fn list<T: Send>(&self, tenant: &TenantId, show: impl Fn(Listed) -> T + Send + Sync) -> Result<Vec<T>, Error> {
        let mut connection = self.pool.acquire().await?;
        let platform: HashSet<_> = self.vault.names(&mut connection, tenant, &Scope::Platform).await?.into_iter().collect();
        let mut added = HashMap::<_, HashSet<_>>::new();
        for (scope, name) in self.vault.scoped_names(&mut connection, tenant, INTEGRATION_SCOPES).await? {
            added.entry(scope).or_default().insert(name);
        }
        let settings: HashMap<_, _> = store::list_settings(&mut connection, tenant).await?.into_iter().collect();
        drop(connection);
        let listed = |app: apps::Listed| {
            let content = Content::from_stored(app.manifest).map_err(|error| sqlx::Error::Decode(error.into()))?;
            // Whether there is a secret is enough here; its value stays sealed.
            let added = added.get(&format!("{INTEGRATION_SCOPES}{}", app.id)).into_iter().flatten();
            let added = added.map(|name| (name.clone(), Value::Null));
            let secret = |key: &str| platform.contains(key).then_some(Value::Null);
            let values = values(&content, added, secret, settings.get(&app.id));
            let (missing, ways) = (missing(&content, &values), ways::offered(&content, |way| lacking(&content, way, &values)));
            let ready = app.deployed || !content.needs_backend();
            Ok(show(Listed { content, deployed: ready, missing, ways }))
        };
        self.apps.list(tenant, Some(AppKind::Integration), listed).await?.into_iter().collect()
    }

    /// The configuration of an integration.
    pub async fn config(&self, app: &App) -> Result<Arc<Config>, Error> {
        self.config_by(app, None).await
    }

    /// The same with what a named one says otherwise.
    pub async fn config_by(&self, app: &App, named: Option<ConfigurationId>) -> Result<Arc<Config>, Error> {
        self.remembered
            .get_or_load(&(app.tenant.clone(), app.id.clone(), app.fingerprint, named), || async {
                let mut connection = self.pool.acquire().await?;
                let mut stored = self.stored(&mut connection, app).await?;
                if let Some(named) = named {
                    stored.named = self.named_values(&mut connection, (&app.tenant, &app.id), named).await?;
                }
                assemble(&app.manifest, &stored).map(Arc::new)
            })
            .await
    }

    async fn stored(&self, connection: &mut PgConnection, app: &App) -> Result<Stored, Error> {
        let platform = self.vault.read(connection, &app.tenant, &Scope::Platform).await?;
        let merged = self.vault.read(connection, &app.tenant, &Scope::Integration(app.id.clone())).await?;
        let own = self.vault.read(connection, &app.tenant, &Scope::App(app.id.clone())).await?;
        let settings = match store::find_settings(connection, &app.tenant, &app.id).await? {
            Some(Value::Object(settings)) => settings,
            _ => Map::new(),
        };
        Ok(Stored { platform, merged, settings, named: Map::new(), own })
    }

    /// What has to be kept out of everything that the app's backend says.
    pub async fn masks(&self, app: &App) -> Masks {
        self.config(app).await.map_or_else(|_| Masks::blind(), |config| config.masks.clone())
    }

    /// Saves fields of a configuration and lets the backend react to it. Fields that are not given stay; null and "" remove.
    pub async fn save(&self, by: &Principal, id: &AppId, given: Map<String, Value>) -> Result<Arc<Config>, Error> {
        let app = self.get(&by.tenant, id).await?;
        let given = typed(&app.manifest, given);
        let faults = faults(&app.manifest, &given);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        self.store(by, &app, given).await?;
        let bound = self.bind(&app).await;
        let Some(merge) = bound? else { return self.config(&app).await };
        self.store(by, &app, merge).await?;
        self.config(&app).await
    }

    async fn store(&self, by: &Principal, app: &App, given: Map<String, Value>) -> Result<(), Error> {
        let fields = app.manifest.content.config_fields();
        let names: Vec<_> = given.keys().cloned().collect();
        let mut transaction = self.pool.begin().await?;
        let mut settings = match store::lock_settings(&mut transaction, &app.tenant, &app.id).await? {
            Some(Value::Object(settings)) => settings,
            _ => Map::new(),
        };
        for (name, value) in given {
            match fields.iter().find(|field| field.name == name) {
                Some(ConfigField { platform_secret: Some(key), .. }) => {
                    self.store_secret(&mut transaction, by, &Scope::Platform, key, &value).await?;
                }
                Some(_) if is_empty(&value) => {
                    settings.remove(&name);
                }
                Some(_) => {
                    settings.insert(name, value);
                }
                // Only `__bind` gets here, with a field that the schema does not name: it may be a secret, so it is kept as one.
                None => self.store_secret(&mut transaction, by, &Scope::Integration(app.id.clone()), &name, &value).await?,
            }
        }
        store::upsert_settings(&mut transaction, &app.tenant, &app.id, &Value::Object(settings), self.clock.now()).await?;
        let event = Event::by(by, Action::ConfigurationSaved).on("integration", &app.id).with("fields", names);
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        notify::announce(&mut transaction, &Change::Secrets).await?;
        // After the word of the configuration, so that nobody asks with the one before.
        polls::configured(&mut transaction, &app.tenant, &app.manifest.content, self.clock.now()).await?;
        transaction.commit().await?;
        self.forget();
        Ok(())
    }

    async fn store_secret(
        &self,
        connection: &mut PgConnection,
        by: &Principal,
        scope: &Scope,
        key: &str,
        value: &Value,
    ) -> Result<(), Error> {
        if is_empty(value) {
            self.vault.delete(connection, &by.tenant, scope, key).await?;
            return Ok(());
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(self.vault.set(connection, (&by.tenant, scope), key, &Secret::new(text), Some(by.id)).await?)
    }

    /// Tells the backend, if it is deployed and listens, and returns what it wants added.
    async fn bind(&self, app: &Arc<App>) -> Result<Option<Map<String, Value>>, Error> {
        if app.deployment.is_none() || !app.worker_enabled {
            return Ok(None);
        }
        let config = self.config(app).await?;
        let params = format!("{{\"config\":{}}}", config.json().get());
        let request = CallRequest {
            method: "__bind".into(),
            job: None,
            params: RawValue::from_string(params).map_err(|error| Error::Bind(error.to_string()))?,
            caller: None,
            context: Arc::new(CallContext::of_platform(RunId::generate(self.clock.now()), trace::current())),
            timeout: BIND_TIMEOUT,
        };
        let answer = match self.apps.call(app, &request).await {
            Ok(answer) => answer,
            Err(apps::Error::Call(CallError::UnknownMethod { .. })) => return Ok(None),
            Err(apps::Error::Call(error)) => return Err(Error::Bind(config.masks.call_error(error).to_string())),
            Err(other) => return Err(other.into()),
        };
        let answer: Option<BindAnswer> = serde_json::from_str(answer.get())
            // What does not fit is quoted, and may well be what was to be kept.
            .map_err(|_| Error::Bind("it may return {\"mergeConfig\": {…}} or nothing".to_owned()))?;
        Ok(answer.and_then(|answer| answer.merge_config).map(|merge| merge.into_iter().collect()))
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// The same, with numbers and truth values that were written as texts read: on command lines everything is a text.
pub(super) fn typed(manifest: &Manifest, given: Map<String, Value>) -> Map<String, Value> {
    let properties = manifest.content.config_schema.as_ref().and_then(|schema| schema.get("properties"));
    let wanted = |name: &str| properties?.get(name)?.get("type")?.as_str();
    let read = |(name, value): (String, Value)| {
        let text = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let fits = |read: &Value| match wanted(&name) {
            Some("integer" | "number") => read.is_number(),
            Some("boolean") => read.is_boolean(),
            _ => false,
        };
        let value = text.filter(fits).unwrap_or(value);
        (name, value)
    };
    given.into_iter().map(read).collect()
}

/// What is wrong with given fields: unknown ones, and values that break their own part of the schema.
pub(super) fn faults(manifest: &Manifest, given: &Map<String, Value>) -> Vec<Fault> {
    let known = manifest.content.config_fields();
    let properties = manifest.content.config_schema.as_ref().and_then(|schema| schema.get("properties"));
    let mut faults = Vec::new();
    for (name, value) in given {
        if !known.iter().any(|field| field.name == *name) {
            let names: Vec<_> = known.iter().map(|field| field.name.as_str()).collect();
            faults.push(Fault::new(format!("$.{name}"), format!("unknown field; this integration has: {}", names.join(", "))));
        } else if !is_empty(value)
            && let Some(schema) =
                properties.and_then(|properties| properties.get(name)).and_then(|schema| Schema::compile(schema).ok())
        {
            let own = schema.faults(value).into_iter();
            faults.extend(own.map(|fault| Fault::new(fault.path.replacen('$', &format!("$.{name}"), 1), fault.message)));
        }
    }
    faults
}

fn assemble(manifest: &Manifest, stored: &Stored) -> Result<Config, Error> {
    let text = |value: &Secret<String>| Value::String(value.expose().clone());
    let added = stored.merged.iter().map(|(name, value)| (name.clone(), text(value)));
    let mut values = values(&manifest.content, added, |key| stored.platform.get(key).map(text), Some(&stored.settings));
    values.extend(stored.named.clone());
    let missing = missing(&manifest.content, &values);
    let json = serde_json::value::to_raw_value(&values).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let given = manifest.content.config_fields().into_iter().filter_map(|field| stored.platform.get(&field.platform_secret?));
    let secrets = given.chain(stored.merged.values()).chain(stored.own.values());
    let fields = manifest.content.config_fields();
    let is_secret = |name: &str| fields.iter().any(|field| field.name == name && field.platform_secret.is_some());
    let named = stored.named.iter().filter(|(name, _)| is_secret(name)).filter_map(|(_, value)| value.as_str());
    let masks = Masks::new(secrets.map(|secret| secret.expose().as_str()).chain(named));
    Ok(Config { json, missing, masks })
}

/// The fields of a configuration that have a value: what `__bind` added, and what the schema names.
fn values(
    content: &Content,
    added: impl Iterator<Item = (String, Value)>,
    secret: impl Fn(&str) -> Option<Value>,
    settings: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let declared = content.config_fields().into_iter().filter_map(|field| {
        let value = match &field.platform_secret {
            Some(key) => secret(key),
            None => settings.and_then(|settings| settings.get(&field.name)).cloned().or(field.default),
        };
        Some((field.name, value?))
    });
    added.chain(declared).collect()
}

/// The required fields that have no value. Of the alternatives of `anyOf`, the one that lacks least.
fn missing(content: &Content, values: &Map<String, Value>) -> Vec<String> {
    let Some(schema) = &content.config_schema else { return Vec::new() };
    let lacking = |schema: &Value| -> Vec<String> {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        required.filter_map(Value::as_str).filter(|name| !values.contains_key(*name)).map(str::to_owned).collect()
    };
    let alternatives = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let fewest = alternatives.map(lacking).min_by_key(Vec::len).unwrap_or_default();
    lacking(schema).into_iter().chain(fewest).collect()
}

/// The fields without a value that a way to connect needs.
fn lacking(content: &Content, way: &NamedWay, values: &Map<String, Value>) -> Vec<String> {
    let needs = way.needs(content.config_schema.as_ref());
    needs.into_iter().filter(|field| !values.contains_key(field)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(schema: &Value) -> Manifest {
        Manifest::parse(json!({ "appId": "x", "name": "X", "type": "integration", "configSchema": schema }))
            .expect("a valid manifest")
    }

    fn stored(platform: &[(&str, &str)], settings: &Value) -> Stored {
        let platform = platform.iter().map(|(key, value)| ((*key).to_owned(), Secret::new((*value).to_owned()))).collect();
        let settings = settings.as_object().cloned().unwrap_or_default();
        Stored { platform, merged: BTreeMap::new(), settings, named: Map::new(), own: BTreeMap::new() }
    }

    #[test]
    fn secrets_settings_and_defaults_make_one_object() {
        let manifest = manifest(&json!({
            "properties": {
                "token": { "type": "string", "platformSecret": "TOKEN" },
                "other": { "type": "string", "platformSecret": "OTHER" },
                "url": { "type": "string", "default": "https://example.com" },
                "modify": { "type": "boolean" },
            },
            "required": ["token", "other"],
        }));
        let config = assemble(&manifest, &stored(&[("TOKEN", "t")], &json!({ "modify": true }))).expect("assembled");
        let value: Value = serde_json::from_str(config.json().get()).expect("JSON");
        assert_eq!(value, json!({ "token": "t", "url": "https://example.com", "modify": true }));
        assert_eq!(config.missing, ["other"]);
        assert!(!format!("{config:?}").contains("token\""));
    }

    #[test]
    fn of_alternatives_one_is_enough() {
        let manifest = manifest(&json!({
            "properties": { "id": { "platformSecret": "ID" }, "secret": { "platformSecret": "SECRET" }, "proxy": { "platformSecret": "PROXY" } },
            "anyOf": [{ "required": ["id", "secret"] }, { "required": ["proxy"] }],
        }));
        assert!(assemble(&manifest, &stored(&[("PROXY", "p")], &json!({}))).expect("assembled").missing.is_empty());
        assert_eq!(assemble(&manifest, &stored(&[], &json!({}))).expect("assembled").missing, ["proxy"]);
    }

    #[test]
    fn numbers_written_as_texts_are_read_where_numbers_are_wanted() {
        let manifest = manifest(&json!({ "properties": {
            "port": { "type": "integer" }, "tls": { "type": "boolean" }, "pin": { "type": "string" },
        } }));
        let given = json!({ "port": "5432", "tls": "true", "pin": "0042", "other": "1" });
        let read = typed(&manifest, given.as_object().cloned().expect("an object"));
        assert_eq!(Value::Object(read), json!({ "port": 5432, "tls": true, "pin": "0042", "other": "1" }));
    }

    #[test]
    fn faults_name_the_field_and_never_the_value() {
        let manifest = manifest(&json!({ "properties": { "port": { "type": "number" } } }));
        let given = json!({ "port": "canary", "prot": 1 });
        let faults = faults(&manifest, given.as_object().expect("an object"));
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["$.port", "$.prot"]);
        assert!(faults.iter().all(|fault| !fault.message.contains("canary")));
    }
}
