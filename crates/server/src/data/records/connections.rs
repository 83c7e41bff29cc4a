//! Connections for records of apps, apart from the server's own: what one app keeps locked or asks too much of keeps nobody from the rest of
//! the server, and no app has all of them.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use dashmap::DashMap;
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection, postgres::PgConnectOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weft_model::AppId;

use super::together::Together;
use crate::{data::Error, db};

/// How long a request waits for those of its own app.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Records {
    pool: PgPool,
    /// How many of them one app has at most.
    share: usize,
    /// By app; none for requests that are about several.
    rooms: DashMap<Option<AppId>, Arc<Semaphore>>,
    /// Records that are read together.
    pub(super) together: Together,
}

/// A connection that one request has to itself.
pub struct Held {
    connection: PoolConnection<Postgres>,
    _room: OwnedSemaphorePermit,
}

impl Records {
    /// None is opened before it is needed.
    pub fn open(options: PgConnectOptions, most: u32) -> Self {
        let most = most.max(2);
        let share = usize::try_from(most - (most / 4).max(1)).unwrap_or(1);
        Self { pool: db::records(options, most), share, rooms: DashMap::new(), together: Together::default() }
    }

    /// One for statements on the tables of an app.
    pub async fn acquire(&self, app: &AppId) -> Result<Held, Error> {
        self.acquire_for(Some(app.clone())).await
    }

    /// One for a statement on tables of several apps.
    pub async fn acquire_for_many(&self) -> Result<Held, Error> {
        self.acquire_for(None).await
    }

    async fn acquire_for(&self, app: Option<AppId>) -> Result<Held, Error> {
        let room = self.rooms.entry(app).or_insert_with(|| Arc::new(Semaphore::new(self.share))).clone();
        let room = tokio::time::timeout(PATIENCE, room.acquire_owned()).await;
        let room = room.ok().and_then(Result::ok).ok_or(Error::Busy)?;
        Ok(Held { connection: self.pool.acquire().await?, _room: room })
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Deref for Held {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
