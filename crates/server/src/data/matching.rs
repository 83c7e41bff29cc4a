//! Which of some records meet a condition. They need not be in their table any more, and the database decides, as it does for queries.

use sqlx::{Connection, PgConnection, Row};
use weft_data::{Condition, Entity, read};

use super::store;

/// The places in the list of the records, as JSON, that meet the condition. What the table's columns cannot hold any more is an error, but
/// none of the transaction.
pub async fn matching(
    connection: &mut PgConnection,
    entity: &Entity,
    condition: &Condition,
    records: Vec<String>,
) -> sqlx::Result<Vec<usize>> {
    let mut attempt = connection.begin().await?;
    let row = store::row(&mut attempt, read::meeting(entity, condition, records)).await?.ok_or(sqlx::Error::RowNotFound)?;
    attempt.commit().await?;
    let places: Vec<i64> = row.try_get(0)?;
    Ok(places.into_iter().filter_map(|place| usize::try_from(place).ok()).collect())
}
