//! What a node knows of connections, and what is done with them apart from calls.

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use tokio::sync::{Mutex, Notify};
use tokio_util::task::TaskTracker;
use url::Url;
use weft_model::{
    AppId, ConfigurationId, ConnectionId, Principal, Secret, TenantId, UserId,
    connection::{ConnectionKind, ConnectionStatus},
};
use weft_vault::Sealed;

use super::{
    choice::Choices,
    credential::{Connection, Content, Credential, Origin, Times},
    error::{self, Error},
    oauth::Revocation,
    store::{self, Holders, Listed, Sealing},
};
use crate::{
    apps::App,
    audit::{self, Action, Event},
    clock::Clock,
    db::{
        cache::Cache,
        notify::{self, TransactionId},
    },
    http::outbound::Outbound,
    integrations::Integrations,
    secrets::Vault,
};

/// Connections that a node remembers.
const REMEMBERED: u64 = 20_000;
/// The longest label, in characters.
const LABEL: usize = 200;

/// The connections of all tenants, as one node sees them.
pub struct Connections {
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    pub(super) vault: Arc<Vault>,
    pub(super) integrations: Arc<Integrations>,
    pub(super) outbound: Arc<Outbound>,
    pub(super) background: TaskTracker,
    pub(super) public_url: Url,
    pub(super) choices: Choices,
    known: Cache<ConnectionId, Arc<Connection>>,
    /// One renewal of a connection at a time on this node; between nodes the database decides.
    pub(super) turns: moka::sync::Cache<ConnectionId, Arc<Mutex<()>>>,
    /// One round of idle tokens at a time.
    pub(super) idling: Arc<Mutex<()>>,
    /// One load of a connection at a time.
    loading: moka::sync::Cache<ConnectionId, Arc<Mutex<()>>>,
    /// Some connection has changed.
    pub(super) changed: Notify,
}

/// How it is between somebody and an integration.
pub struct Summary {
    pub active: i64,
    pub dead: i64,
    /// Whether the tenant has a connection that serves everybody.
    pub shared: bool,
}

impl Connections {
    pub fn new(
        (pool, clock): (PgPool, Clock),
        vault: Arc<Vault>,
        integrations: Arc<Integrations>,
        (outbound, public_url): (Arc<Outbound>, Url),
        background: TaskTracker,
    ) -> Self {
        let (known, turns) = (Cache::new(REMEMBERED), moka::sync::Cache::new(REMEMBERED));
        let loading = moka::sync::Cache::new(REMEMBERED);
        let (choices, changed) = (Choices::default(), Notify::new());
        let idling = Arc::default();
        Self {
            pool,
            clock,
            vault,
            integrations,
            outbound,
            background,
            public_url,
            choices,
            known,
            turns,
            idling,
            loading,
            changed,
        }
    }

    /// Forgets one connection, which changed here or on another node.
    pub fn forget(&self, id: ConnectionId) {
        self.known.remove(&id);
        self.changed.notify_waiters();
    }

    /// Forgets which connections are used in a tenant.
    pub(super) fn forget_choices(&self, tenant: &TenantId) {
        self.choices.forget(tenant);
    }

    /// The same for a change that this node has just committed.
    pub(super) fn forget_choices_after(&self, tenant: &TenantId, own: TransactionId) {
        self.choices.forget_after(tenant, own);
    }

    /// The database tells of a change, here or on another node.
    pub fn hear_of_choices(&self, tenant: &TenantId, by: Option<TransactionId>) {
        self.choices.hear(tenant, by);
    }

    pub fn forget_all(&self) {
        self.known.clear();
        self.choices.clear();
        self.changed.notify_waiters();
    }

    /// An address of this server.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.public_url.as_str().trim_end_matches('/'))
    }

    /// Where somebody begins to connect, again or for the first time.
    pub(super) fn connect_url(&self, integration: &AppId, again: Option<ConnectionId>) -> String {
        let again = again.map_or_else(String::new, |id| format!("?connection_id={id}"));
        self.url(&format!("/api/v1/integrations/{integration}/auth/start{again}"))
    }

    /// A direct connection, opened. From memory where that will do.
    pub(super) async fn open(&self, tenant: &TenantId, id: ConnectionId) -> Result<Arc<Connection>, Error> {
        self.known
            .get_or_load(&id, || async {
                // Hundreds of calls may need it at the moment when it is forgotten. One of them asks.
                let turn = self.loading.get_with(id, Arc::default);
                let _one_at_a_time = turn.lock().await;
                if let Some(known) = self.known.peek(&id) {
                    return Ok(known);
                }
                let mut connection = self.pool.acquire().await?;
                let stored = store::find(&mut connection, tenant, id).await?.ok_or(Error::Unknown(id))?;
                self.unseal(tenant, stored).map(Arc::new)
            })
            .await
    }

    /// The same, as it is in the database now.
    pub(super) async fn reopen(&self, tenant: &TenantId, id: ConnectionId) -> Result<Arc<Connection>, Error> {
        self.known.remove(&id);
        self.open(tenant, id).await
    }

    pub(super) fn unseal(&self, tenant: &TenantId, stored: store::Stored) -> Result<Connection, Error> {
        let id = ConnectionId::from(stored.id);
        let place = place(id, stored.version);
        let bytes = self.vault.open_sealed(tenant, &as_place(&place), stored.key_version, &Sealed(stored.sealed))?;
        let content: Content = serde_json::from_slice(&bytes).map_err(decode)?;
        let owner = stored.user_id.map(UserId::from);
        let configuration = stored.configuration_id.map(ConfigurationId::from);
        let origin = Origin { way: stored.way.as_deref().map(str::parse).transpose().map_err(decode)?, configuration };
        let credential = Credential::new(id, owner, (origin, stored.version), &content).map_err(decode)?;
        let status = stored.status.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?;
        Ok(Connection {
            id,
            integration: stored.integration_id.parse().map_err(decode)?,
            owner,
            status,
            message: stored.status_message,
            times: Times { expires_at: stored.expires_at, refresh_at: stored.refresh_at, refreshed_at: stored.refreshed_at },
            refresh_token: content.refresh_token.clone().map(Secret::new),
            credential: Arc::new(credential),
            content,
        })
    }

    /// Seals credentials for one version of one connection.
    pub(super) fn seal(
        &self,
        tenant: &TenantId,
        (id, version): (ConnectionId, i64),
        (content, times, origin): (&Content, Times, &Origin),
    ) -> Result<Sealing, Error> {
        let bytes = serde_json::to_vec(content).map_err(decode)?;
        let (key_version, sealed) = self.vault.seal(tenant, &as_place(&place(id, version)), &bytes)?;
        Ok(Sealing { version, key_version, sealed, times, origin: origin.clone() })
    }

    /// Notes that a connection does not serve any more, and why.
    pub(super) async fn mark(
        &self,
        tenant: &TenantId,
        (id, version): (ConnectionId, i64),
        (status, cause, message): (ConnectionStatus, &str, &str),
    ) -> Result<(), Error> {
        let mut connection = self.pool.acquire().await?;
        let now = self.clock.now();
        let words = (status.as_str(), cause, message);
        if store::update_status(&mut connection, (tenant, id, version), words, now).await? {
            tracing::warn!(connection.id = %id, status = status.as_str(), cause, "connection.fail");
        }
        self.forget(id);
        self.forget_choices(tenant);
        Ok(())
    }

    /// Notes that an account lacks rights at the vendor, as its integration says. Connecting again can give them.
    pub async fn lacks_rights(&self, app: &App, credential: &Credential, message: &str) -> Result<(), Error> {
        let id = (credential.connection, credential.version);
        let message: String = error::plain(message);
        self.mark(&app.tenant, id, (ConnectionStatus::Error, "insufficient_permissions", &message)).await
    }

    /// The error of a connection that does not serve.
    pub(super) fn dead(&self, connection: &Connection) -> Error {
        Error::Dead {
            integration: connection.integration.clone(),
            connection: connection.id,
            reason: connection.message.clone().unwrap_or_else(|| error::reason(connection.status).to_owned()),
            reconnect_url: self.connect_url(&connection.integration, Some(connection.id)),
        }
    }

    /// What somebody sees, a page of it.
    pub async fn list(
        &self,
        caller: &Principal,
        integration: &AppId,
        after: Option<ConnectionId>,
        limit: i64,
    ) -> Result<Vec<Listed>, Error> {
        self.integrations.get(&caller.tenant, integration).await?;
        let whose = (&caller.tenant, integration, caller.id);
        Ok(store::list(&mut *self.pool.acquire().await?, whose, after, limit).await?)
    }

    pub async fn users(
        &self,
        caller: &Principal,
        integration: &AppId,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<UserId>, Error> {
        self.integrations.get(&caller.tenant, integration).await?;
        Ok(store::list_users(&mut *self.pool.acquire().await?, (&caller.tenant, integration), after, limit).await?)
    }

    /// How it is between the caller, or an app that was delegated to, and an integration.
    pub async fn summary(&self, caller: &Principal, app: &App, agent: Option<&AppId>) -> Result<Summary, Error> {
        let of = if agent.is_some() { (None, agent) } else { (Some(caller.id), None) };
        let mut connection = self.pool.acquire().await?;
        let (active, dead, shared) = store::count(&mut connection, (&caller.tenant, &app.id), of).await?;
        Ok(Summary { active, dead, shared })
    }

    /// Gives a connection another name.
    pub async fn rename(&self, caller: &Principal, integration: &AppId, id: ConnectionId, name: &str) -> Result<(), Error> {
        let name = label(name)?;
        let mut transaction = self.pool.begin().await?;
        let found = self.for_change(&mut transaction, caller, integration, id).await?;
        if found.kind == ConnectionKind::Delegation.as_str() && found.user_id == Some(caller.id.as_uuid()) {
            return Err(Error::NotYours);
        }
        store::update_label(&mut transaction, &caller.tenant, id, &name, self.clock.now()).await.map_err(|e| taken(e, &name))?;
        let event = Event::by(caller, Action::ConnectionRenamed).on("connection", id).with("integration", integration.as_str());
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        transaction.commit().await?;
        self.forget(id);
        Ok(())
    }

    /// Deletes a connection with its credentials, or ends a delegation; first takes the tokens back at the vendor, as far as that goes.
    pub async fn delete(&self, caller: &Principal, integration: &AppId, id: ConnectionId) -> Result<Revocation, Error> {
        let found = self.for_change(&mut *self.pool.acquire().await?, caller, integration, id).await?;
        let revocation = match found.kind.parse() {
            Ok(ConnectionKind::Direct) => self.revoke(&caller.tenant, integration, id).await,
            _ => Revocation::NothingToRevoke,
        };
        let mut transaction = self.pool.begin().await?;
        if store::delete(&mut transaction, &caller.tenant, id).await? {
            let event = Event::by(caller, Action::ConnectionDeleted).on("connection", id);
            let event = event.with("integration", integration.as_str()).with("revocation", revocation.as_str());
            audit::record(&mut transaction, &event, self.clock.now()).await?;
        }
        let own = notify::transaction_id(&mut transaction).await?;
        transaction.commit().await?;
        self.forget(id);
        self.forget_choices_after(&caller.tenant, own);
        Ok(revocation)
    }

    /// Deletes all that the caller has of its own, or all that was delegated to an app.
    pub async fn disconnect(&self, caller: &Principal, integration: &AppId, agent: Option<&AppId>) -> Result<usize, Error> {
        self.integrations.get(&caller.tenant, integration).await?;
        let of = if agent.is_some() { (None, agent) } else { (Some(caller.id), None) };
        let ids = store::list_ids(&mut *self.pool.acquire().await?, (&caller.tenant, integration), of).await?;
        for id in &ids {
            self.delete(caller, integration, *id).await?;
        }
        Ok(ids.len())
    }

    /// A connection that the caller may change: its own, one that it delegated, the tenant's if it manages the integration.
    pub(super) async fn for_change(
        &self,
        connection: &mut PgConnection,
        caller: &Principal,
        integration: &AppId,
        id: ConnectionId,
    ) -> Result<Holders, Error> {
        let found = store::find_holders(connection, (&caller.tenant, integration), id).await?.ok_or(Error::Unknown(id))?;
        let own = [found.user_id, found.source_user_id].contains(&Some(caller.id.as_uuid()));
        let managed = found.kind == ConnectionKind::Delegation.as_str() || found.user_id.is_none();
        if own || (managed && manages(caller, integration)) {
            return Ok(found);
        }
        let [_, key] = manage_keys(integration);
        Err(if managed { Error::Denied(key) } else { Error::NotYours })
    }
}

/// Whether somebody looks after an integration.
pub fn manages(caller: &Principal, integration: &AppId) -> bool {
    manage_keys(integration).iter().any(|key| caller.permissions.allows(key))
}

/// The keys of which one is enough for that.
pub fn manage_keys(integration: &AppId) -> [String; 2] {
    ["admin:integrations.configure".to_owned(), format!("integration:{integration}:manage")]
}

/// A label as it is stored.
pub(super) fn label(text: &str) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LABEL || text.chars().any(char::is_control) {
        return Err(Error::InvalidRequest(format!("a label is 1 to {LABEL} characters, without control characters")));
    }
    Ok(text.to_owned())
}

pub(super) fn taken(error: sqlx::Error, label: &str) -> Error {
    match &error {
        sqlx::Error::Database(cause) if cause.is_unique_violation() => Error::LabelTaken(label.to_owned()),
        _ => error.into(),
    }
}

/// Where sealed credentials belong: no other connection and no other version of it opens them.
fn place(id: ConnectionId, version: i64) -> [String; 2] {
    [id.to_string(), version.to_string()]
}

fn as_place([id, version]: &[String; 2]) -> [&str; 3] {
    ["connection", id, version]
}

pub(super) fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    sqlx::Error::Decode(error.into()).into()
}
