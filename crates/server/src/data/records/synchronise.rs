//! Records that the platform itself keeps as a vendor has them: written in the caller's transaction, together with how far it has read.
//!
//! The statements are those of everybody else, so audit and hooks see the changes. A record that the entity does not take is left out and
//! named, and keeps none of the others out. Whoever calls has decided that this may be written.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;
use weft_data::{
    Condition, Entity,
    write::{self, MOST_RECORDS, Shown, Stamp, Values},
};
use weft_model::{RunId, TenantId, UserId};

use crate::{
    data::{Error, store},
    http::trace::TraceId,
};

/// The way by which records are changed, as the audit names it.
const WAY: &str = "sync";

/// Who keeps records of which entity.
pub struct Keeper<'a> {
    pub tenant: &'a TenantId,
    pub entity: &'a Entity,
    /// The fields that tell records apart.
    pub on: Vec<String>,
    /// As whom.
    pub actor: UserId,
    /// Whose records they are, where records have owners.
    pub owner: Option<UserId>,
    pub trace: TraceId,
    pub now: DateTime<Utc>,
}

/// What became of records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub created: i64,
    pub updated: i64,
    pub rejected: i64,
    /// Why, of the first one.
    pub rejection: Option<String>,
}

impl Kept {
    fn reject(&mut self, why: String) {
        self.rejected += 1;
        self.rejection.get_or_insert(why);
    }
}

impl Keeper<'_> {
    /// Makes these records, or changes those that are there. All have the same fields; `label` says which one a fault is about.
    pub async fn keep(&self, connection: &mut PgConnection, records: Vec<(String, Value)>) -> Result<Kept, Error> {
        let (mut kept, mut good) = (Kept::default(), Vec::with_capacity(records.len()));
        for (label, record) in records {
            match write::new_values(self.entity, &record, "$") {
                Ok(values) => good.push((label, values)),
                Err(faults) => {
                    let faults: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
                    kept.reject(format!("{label}: {}", faults.join("; ")));
                }
            }
        }
        while !good.is_empty() {
            let rest = good.split_off(good.len().min(MOST_RECORDS));
            self.write(connection, good, &mut kept).await?;
            good = rest;
        }
        Ok(kept)
    }

    /// Writes a batch. If it is refused for what is in it, its halves are tried, down to the record that is at fault.
    async fn write(&self, connection: &mut PgConnection, batch: Vec<(String, Values)>, kept: &mut Kept) -> Result<(), Error> {
        let mut part = connection.begin().await?;
        let ids: Vec<Uuid> = batch.iter().map(|_| RunId::generate(self.now).as_uuid()).collect();
        let values = batch.iter().map(|(_, values)| values.clone()).collect();
        let sql = write::keep(self.entity, values, &self.on, &ids, &self.stamp());
        match store::row(&mut part, sql).await.map_err(Error::from) {
            Ok(row) => {
                let row = row.ok_or(sqlx::Error::RowNotFound)?;
                let (created, written): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                part.commit().await?;
                kept.created += created;
                kept.updated += written - created;
                Ok(())
            }
            Err(error @ (Error::Conflict(_) | Error::Invalid(_))) => {
                part.rollback().await?;
                let mut first = batch;
                if first.len() <= 1 {
                    let label = first.first().map(|(label, _)| label.as_str()).unwrap_or_default();
                    kept.reject(format!("{label}: {}", said(&error)));
                    return Ok(());
                }
                let second = first.split_off(first.len() / 2);
                Box::pin(self.write(connection, first, kept)).await?;
                Box::pin(self.write(connection, second, kept)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes records that meet a condition, `most` at most. Returns how many there were.
    pub async fn delete(&self, connection: &mut PgConnection, condition: &Value, most: u32) -> Result<i64, Error> {
        let condition = Condition::parse(self.entity, condition, "$").map_err(Error::Invalid)?;
        let row = store::row(connection, write::delete_some(self.entity, &condition, most, &self.stamp())).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    fn stamp(&self) -> Stamp {
        let (trace, tenant) = (self.trace.to_string(), self.tenant.as_str());
        let audit = json!({ "actor": self.actor, "tenant": tenant, "trigger": WAY, "trace": trace, "at": self.now, "hops": 0 });
        let author = self.owner.map(UserId::as_uuid);
        Stamp { audit: audit.to_string(), now: self.now, author, owner: None, shown: Shown::Id }
    }
}

fn said(error: &Error) -> String {
    match error {
        Error::Invalid(faults) => weft_model::fault::listed(faults),
        other => other.to_string(),
    }
}
