//! Connections of apps' own roles: few, kept for a while, and given to nobody else before everything of theirs is gone.
//!
//! One that is not given back in order is closed, and what still runs on it is ended: closing alone would let it go on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Error, store};

/// Connections at work at once.
const MOST: usize = 16;
/// How long somebody waits for one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that wait for the next use, and how long.
const IDLE: usize = 8;
const IDLE_FOR: Duration = Duration::from_mins(1);

pub struct Connections {
    options: PgConnectOptions,
    /// The server's own, to end what runs on a lost connection.
    pool: PgPool,
    room: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

struct Idle {
    role: String,
    pid: i32,
    since: Instant,
    connection: PgConnection,
}

impl Connections {
    pub fn new(options: &PgConnectOptions, pool: PgPool) -> Self {
        // What backends run may hold anything, so it is in no log.
        let options = options.clone().application_name("weft-backend").statement_cache_capacity(0).disable_statement_logging();
        Self { options, pool, room: Arc::new(Semaphore::new(MOST)), idle: Arc::default() }
    }

    /// A connection as that role.
    pub async fn lease(&self, role: &str, password: &str) -> Result<Lease, Error> {
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.room).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(Error::Full)?;
        let kept = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|kept| kept.since.elapsed() < IDLE_FOR);
            let found = idle.iter().rposition(|kept| kept.role == role);
            found.map(|at| idle.swap_remove(at))
        };
        let (connection, pid) = match kept {
            Some(Idle { connection, pid, .. }) => (connection, pid),
            None => self.connect(role, password).await.map_err(Error::Database)?,
        };
        let (role, idle, pool) = (role.to_owned(), Arc::clone(&self.idle), self.pool.clone());
        Ok(Lease { connection: Some(connection), role, pid, idle, pool, _permit: permit })
    }

    async fn connect(&self, role: &str, password: &str) -> sqlx::Result<(PgConnection, i32)> {
        let options = self.options.clone().username(role).password(password);
        let mut connection = PgConnection::connect_with(&options).await?;
        let pid = store::backend_pid(&mut connection).await?;
        Ok((connection, pid))
    }

    /// Closes what waits for a next use by a role.
    pub fn forget(&self, role: &str) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|kept| kept.role != role);
    }

    /// The same for all roles.
    pub fn forget_all(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection that one caller has to itself.
pub struct Lease {
    connection: Option<PgConnection>,
    role: String,
    pid: i32,
    idle: Arc<Mutex<Vec<Idle>>>,
    pool: PgPool,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Fails once the connection was lost.
    pub fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        self.connection.as_mut().ok_or_else(|| Error::Database(sqlx::Error::PoolClosed))
    }

    /// Undoes what is open, forgets all that a session can remember, and keeps the connection for the next use.
    pub async fn give_back(mut self) {
        let Ok(connection) = self.connection() else { return };
        if store::reset(connection).await.is_err() {
            return;
        }
        let Some(connection) = self.connection.take() else { return };
        let kept = Idle { role: self.role.clone(), pid: self.pid, since: Instant::now(), connection };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(kept);
        if idle.len() > IDLE {
            idle.remove(0);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        drop(connection);
        let (pool, pid, role) = (self.pool.clone(), self.pid, self.role.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let ended = async { store::terminate(&mut *pool.acquire().await?, pid, &role).await };
            if let Err(error) = ended.await {
                tracing::debug!(%error, "cannot end what runs on a connection of a backend");
            }
        });
    }
}
