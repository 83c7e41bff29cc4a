//! Which nodes there are, and by which roll of them each divides the limits of jobs.

use sqlx::PgConnection;
use uuid::Uuid;

use super::shares::Peer;

pub async fn list_peers(connection: &mut PgConnection) -> sqlx::Result<Vec<Peer>> {
    sqlx::query_as!(Peer, "select id, roll from nodes").fetch_all(connection).await
}

/// Says by which roll a node works from now on. Everybody is told.
pub async fn update_roll(connection: &mut PgConnection, node: Uuid, roll: &str) -> sqlx::Result<()> {
    sqlx::query!("update nodes set roll = $2 where id = $1", node, roll).execute(connection).await?;
    Ok(())
}
