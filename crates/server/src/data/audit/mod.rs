//! Who changed which record, and how: written by the triggers of every table, read here.

mod routes;
mod store;

use chrono::{DateTime, Duration, Utc};
use sqlx::PgPool;

pub use routes::router;

/// Makes the partitions of this month and the next, and drops those that are too old.
pub async fn tidy(pool: &PgPool, now: DateTime<Utc>, kept: Duration) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    store::prepare(&mut connection, now).await?;
    let dropped = store::prune(&mut connection, now - kept).await?;
    if dropped > 0 {
        tracing::info!(months = dropped, "data.audit.prune");
    }
    Ok(())
}
