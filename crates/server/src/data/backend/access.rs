//! Whether and how SQL of backends reaches the database: the server's secret, the roles of apps, limits. Made once at the start; where the
//! database cannot keep apps apart the whole feature is off and says why.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use dashmap::DashMap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sqlx::{PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weft_model::{AppId, TenantId};

use super::{
    Asker, Error,
    connections::{Connections, Lease},
    identity::{Identity, Key, MIGRATION, Place},
    role,
    store::{self, Stored},
};
use crate::{
    apps,
    clock::Clock,
    data::{self, store as tables},
    db::cache::Cache,
    secrets::{self, Vault},
};

/// Statements of one app per second.
const PACE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
/// Transactions that are open at once on this node.
const TRANSACTIONS: usize = 8;
/// How long one statement may take.
const STATEMENT: Duration = Duration::from_secs(8);
/// Apps that a node remembers.
const REMEMBERED_APPS: u64 = 5_000;
const PLACE: &[&str] = &["sql of backends"];
const CLOSE: &str = "let a superuser run `select weft_sql.close_doors()` in it once";

/// How long backends may keep the database busy, as far as operators decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A transaction, from its beginning to its end.
    pub transaction: Duration,
    /// One file of migrations.
    pub migration: Duration,
}

/// SQL of backends on this node.
pub struct BackendSql {
    pool: PgPool,
    clock: Clock,
    pub(super) limits: Limits,
    state: Result<Open, String>,
    connections: Connections,
    /// Apps whose roles are as they should be.
    prepared: Cache<AppId, ()>,
    preparing: DashMap<AppId, Arc<tokio::sync::Mutex<()>>>,
    pace: DefaultKeyedRateLimiter<AppId>,
    transactions: Arc<Semaphore>,
}

struct Open {
    installation: String,
    key: Key,
    is_superuser: bool,
}

impl BackendSql {
    /// Closes what of the database is open to everybody, or finds out why SQL of backends has to stay off.
    pub async fn open((pool, clock): (PgPool, Clock), vault: &Vault, options: &PgConnectOptions, limits: Limits) -> Self {
        let state = match open(&pool, &clock, vault).await {
            Ok(state) => state,
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = &state {
            tracing::warn!(reason, "SQL of backends and their migrations are off");
        }
        let connections = Connections::new(options, pool.clone());
        let (pace, transactions) = (RateLimiter::keyed(Quota::per_second(PACE)), Arc::new(Semaphore::new(TRANSACTIONS)));
        let (prepared, preparing) = (Cache::new(REMEMBERED_APPS), DashMap::new());
        Self { pool, clock, limits, state, connections, prepared, preparing, pace, transactions }
    }

    /// Why it is off, if it is.
    pub fn off(&self) -> Option<&str> {
        self.state.as_ref().err().map(String::as_str)
    }

    /// An app may have other tables now, or be gone.
    pub fn forget(&self, app: &AppId) {
        self.prepared.remove(app);
        if let Ok(open) = &self.state {
            for role in role::names(&open.installation, app) {
                self.connections.forget(&role);
            }
        }
    }

    /// The same for every app.
    pub fn forget_all(&self) {
        self.prepared.clear();
        self.connections.forget_all();
    }

    /// There is a schema now that the roles of the app may not have been let into.
    pub(super) fn forget_schema(&self, app: &AppId) {
        self.prepared.remove(app);
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    fn opened(&self) -> Result<&Open, Error> {
        self.state.as_ref().map_err(|reason| Error::Off(reason.clone()))
    }

    /// Counts a statement of an app; refuses it when there are too many.
    pub fn count(&self, app: &AppId) -> Result<(), Error> {
        self.pace.check_key(app).map_err(|_| Error::RateLimited)
    }

    /// The right to one open transaction.
    pub fn transaction(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.transactions).try_acquire_owned().map_err(|_| Error::Full)
    }

    /// A connection as the app, in a transaction that knows who calls.
    pub async fn begin(&self, asker: &Asker, trigger: &str) -> Result<(Lease, Identity), Error> {
        let open = self.opened()?;
        let role = role::of_backend(&open.installation, &asker.app);
        self.begin_as(open, asker, role, (trigger, STATEMENT)).await
    }

    /// The same as the owner of what the app's migrations make.
    pub async fn begin_migration(&self, asker: &Asker) -> Result<(Lease, Identity), Error> {
        let open = self.opened()?;
        let role = role::of_migrations(&open.installation, &asker.app);
        self.begin_as(open, asker, role, (MIGRATION, self.limits.migration)).await
    }

    async fn begin_as(
        &self,
        open: &Open,
        asker: &Asker,
        role: String,
        (trigger, limit): (&str, Duration),
    ) -> Result<(Lease, Identity), Error> {
        self.prepare(open, &asker.app).await?;
        let mut lease = self.lease(open, &asker.app, &role).await?;
        let transaction = store::begin(lease.connection()?).await.map_err(Error::Database)?;
        let place = Place { role: &role, transaction: &transaction, trigger, limit };
        let identity = Identity::new(&open.key, asker, &place, self.clock.now());
        Ok((lease, identity))
    }

    /// Logs in; once more when the role is not what this node remembers, because the app was removed and came back.
    async fn lease(&self, open: &Open, app: &AppId, role: &str) -> Result<Lease, Error> {
        let password = open.key.password(role);
        match self.connections.lease(role, &password).await {
            Err(Error::Database(cause)) if is_refused(&cause) => {
                self.forget(app);
                self.prepare(open, app).await?;
                self.connections.lease(role, &password).await
            }
            other => other,
        }
    }

    /// Makes the roles of an app and opens its tables to them, once: tables that come later are opened as they come, and whoever makes
    /// the place for them has it forgotten that this was done.
    async fn prepare(&self, open: &Open, app: &AppId) -> Result<(), Error> {
        if self.prepared.peek(app).is_some() {
            return Ok(());
        }
        let preparing = Arc::clone(&self.preparing.entry(app.clone()).or_default());
        let _one_at_a_time = preparing.lock().await;
        self.prepared.get_or_load(app, || self.make_roles(open, app)).await
    }

    async fn make_roles(&self, open: &Open, app: &AppId) -> Result<(), Error> {
        let [backend, owner] = role::names(&open.installation, app);
        let mut transaction = self.pool.begin().await.map_err(Error::Database)?;
        there_is(&mut transaction, app).await?;
        let made = async {
            tables::bound_waiting(&mut transaction).await?;
            store::lock_role(&mut transaction, &backend).await?;
            for (role, about) in [(&backend, "runs SQL of the backend of the app"), (&owner, "runs migrations of the app")] {
                let verifier = open.key.verifier(role);
                store::put_role(&mut transaction, (role, &verifier), &format!("{about} {app}")).await?;
                if open.is_superuser {
                    store::bound_role(&mut transaction, role).await?;
                } else {
                    store::join_role(&mut transaction, role).await?;
                }
            }
            if tables::has_own_schema(&mut transaction, app).await? {
                store::open_schema(&mut transaction, app, &owner, None).await?;
                store::open_schema(&mut transaction, app, &backend, Some(&owner)).await?;
            }
            transaction.commit().await
        };
        made.await.map_err(Error::Database)
    }
}

/// Fails when an app is not there any more. If it is, it stays until the transaction ends.
pub(super) async fn there_is(connection: &mut PgConnection, app: &AppId) -> Result<(), Error> {
    if store::keep_app(connection, app).await.map_err(Error::Database)? {
        return Ok(());
    }
    Err(data::Error::App(Box::new(apps::Error::Unknown(app.clone()))).into())
}

/// Whether there is no such role, or with another password.
fn is_refused(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code.starts_with("28"))
}

async fn open(pool: &PgPool, clock: &Clock, vault: &Vault) -> Result<Result<Open, String>, secrets::Error> {
    let mut transaction = pool.begin().await?;
    // One node at a time makes the secret and closes doors.
    store::lock_role(&mut transaction, "of backends").await?;
    let (installation, key) = secret(&mut transaction, clock, vault).await?;
    let standing = match store::stand(&mut transaction).await {
        Ok(standing) => standing,
        Err(error) => {
            return Ok(Err(format!("the database's account cannot find out what is open to everybody ({error}); {CLOSE}")));
        }
    };
    transaction.commit().await?;
    if !standing.makes_roles {
        return Ok(Err("the database's account may not create roles".to_owned()));
    }
    if let Some(door) = standing.open_doors.first() {
        let others = standing.open_doors.len() - 1;
        return Ok(Err(format!("every role of the database may use {door} and {others} more things; {CLOSE}")));
    }
    Ok(Ok(Open { installation, key, is_superuser: standing.is_superuser }))
}

/// The number of the installation and its secret; new ones the first time.
async fn secret(connection: &mut PgConnection, clock: &Clock, vault: &Vault) -> Result<(String, Key), secrets::Error> {
    let tenant = TenantId::default_tenant();
    if let Some(stored) = store::find_access(connection).await? {
        let bytes = vault.open_sealed(&tenant, PLACE, stored.key_version, &stored.sealed)?;
        let damaged = |_| secrets::Error::Damaged { name: PLACE.join(" ") };
        return Ok((stored.installation, Key(bytes.try_into().map_err(damaged)?)));
    }
    let (key, installation) = (Key(rand::random()), hex::encode(rand::random::<[u8; 4]>()));
    let (key_version, sealed) = vault.seal(&tenant, PLACE, &key.0)?;
    let (inner, outer) = key.pads();
    let stored = Stored { installation: installation.clone(), key_version, sealed };
    store::insert_access(connection, &stored, (&inner, &outer), clock.now()).await?;
    Ok((installation, key))
}
