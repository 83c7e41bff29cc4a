//! Removing what a deleted tenant left: apps with their files, then rows in batches, then the accounts nobody else uses.
//!
//! Nothing here is listed by name: every table with a column `tenant_id` is emptied of the tenant. One node works on a tenant at a
//! time, and whatever an interruption leaves is found by the next round.

use chrono::Duration;
use weft_model::TenantId;

use super::{
    service::{Error, Tenants},
    store,
};

/// Tables refer to one another: each round empties those that nothing refers to any more.
const ROUNDS: usize = 10;
/// A call that was at work when its tenant was deleted may still leave a record. The tenant itself, and with it its id, stays
/// for as long as that can be.
const LAST_WORDS: Duration = Duration::minutes(10);

impl Tenants {
    /// Erases every tenant that is marked as deleted. Run after a deletion and now and then.
    pub async fn erase(&self) -> Result<(), Error> {
        for id in store::list_deleted(&mut *self.pool.acquire().await?).await? {
            // Held for as long as the work takes, by a connection that does nothing else.
            let mut turn = self.pool.begin().await?;
            if store::try_lock_erasure(&mut turn, &id).await? {
                let rows = self.erase_rows(&id).await?;
                let gone = rows == 0 && store::delete(&mut turn, &id, self.clock.now() - LAST_WORDS).await?;
                tracing::info!(tenant.id = %id, rows, gone, "tenant.erase");
            }
            turn.commit().await?;
        }
        Ok(())
    }

    /// Removes all that belongs to a tenant. Returns how many rows there were.
    async fn erase_rows(&self, id: &TenantId) -> Result<u64, Error> {
        for app in self.apps.list_ids(id, None).await? {
            self.apps.uninstall(id, None, &app).await?;
        }
        let mut connection = self.pool.acquire().await?;
        let tables = store::list_tables(&mut connection).await?;
        let mut rows = 0;
        while store::delete_accounts(&mut connection, id).await? > 0 {}
        for _ in 0..ROUNDS {
            let mut referred_to = false;
            for table in &tables {
                loop {
                    match store::delete_rows(&mut connection, table, id).await {
                        Ok(0) => break,
                        Ok(deleted) => rows += deleted,
                        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                            referred_to = true;
                            break;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            if !referred_to {
                break;
            }
        }
        Ok(rows)
    }
}
