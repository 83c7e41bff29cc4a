//! The same key, the same answer, once.
//!
//! A key is claimed and the run's start recorded in one transaction before anything happens. The answer is sealed in the vault's
//! manner and kept for a day. A refusal that is known to have had no effect gives the key back; an outcome that is not known
//! (a timeout, a crash) keeps it, because trying again could do the thing twice.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;
use weft_model::{Fault, RunId, TenantId, UserId};
use weft_vault::Sealed;

use super::{record::Record, store};

/// A key as a caller uses it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyName {
    pub tenant: TenantId,
    pub principal: UserId,
    pub operation: String,
    pub key: String,
}

impl KeyName {
    /// The key as it is stored: callers may put anything into it, so only its digest is.
    fn stored_key(&self) -> String {
        hex::encode(Sha256::digest(self.key.as_bytes()))
    }
}

/// The wish to be the one who answers for a key.
#[derive(Debug, Clone)]
pub struct Claim {
    pub name: KeyName,
    pub digest: Vec<u8>,
    /// The run that begins if the claim succeeds.
    pub record: Record,
}

/// What became of a claim.
#[derive(Debug, Clone)]
pub enum Claimed {
    /// The key is free: go ahead.
    Won,
    /// Somebody was first.
    Lost(Earlier),
}

/// What the key was used for before.
#[derive(Debug, Clone)]
pub struct Earlier {
    pub run: RunId,
    pub digest: Vec<u8>,
    /// The sealed answer and the version of the key it is sealed with; absent while the first request runs or when it broke off.
    pub answer: Option<(i32, Sealed)>,
    /// Whether the first request is still at work.
    pub running: bool,
}

/// The answer to keep for a key, or `None` to give the key back.
#[derive(Debug, Clone)]
pub struct Answered {
    pub name: KeyName,
    /// The run that claimed the key; what somebody else holds by now stays as it is.
    pub run: RunId,
    pub answer: Option<(i32, Sealed)>,
}

/// What is sealed: the result, or the failure that stands for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Output(Box<serde_json::value::RawValue>),
    Failure {
        code: Option<String>,
        category: weft_workers::Category,
        message: String,
        /// In seconds.
        retry_after: Option<f64>,
    },
    InvalidOutput(Vec<Fault>),
    Timeout {
        seconds: f64,
    },
}

/// Claims a group of keys. Those that are free get their run's start recorded in the same transaction.
pub async fn claim(pool: PgPool, node: Uuid, claims: Vec<Claim>) -> sqlx::Result<Vec<Claimed>> {
    let mut transaction = pool.begin().await?;
    let won = insert(&mut transaction, &claims).await?;
    let records: Vec<Record> =
        claims.iter().filter(|claim| won.contains(&claim.record.id)).map(|claim| claim.record.clone()).collect();
    store::write(&mut transaction, node, &records).await?;
    let mut answers = Vec::with_capacity(claims.len());
    for claim in &claims {
        answers.push(if won.contains(&claim.record.id) {
            Claimed::Won
        } else {
            // Given back between the two statements: as if it were still running, the caller tries again.
            let gone = Earlier { run: claim.record.id, digest: claim.digest.clone(), answer: None, running: true };
            Claimed::Lost(find(&mut transaction, &claim.name).await?.unwrap_or(gone))
        });
    }
    transaction.commit().await?;
    Ok(answers)
}

/// Stores the keys that are new and returns the runs of those.
async fn insert(connection: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<RunId>> {
    let tenants: Vec<String> = claims.iter().map(|claim| claim.name.tenant.to_string()).collect();
    let principals: Vec<Uuid> = claims.iter().map(|claim| claim.name.principal.as_uuid()).collect();
    let operations: Vec<String> = claims.iter().map(|claim| claim.name.operation.clone()).collect();
    let keys: Vec<String> = claims.iter().map(|claim| claim.name.stored_key()).collect();
    let digests: Vec<Vec<u8>> = claims.iter().map(|claim| claim.digest.clone()).collect();
    let runs: Vec<Uuid> = claims.iter().map(|claim| claim.record.id.as_uuid()).collect();
    let times: Vec<DateTime<Utc>> = claims.iter().map(|claim| claim.record.started_at).collect();
    let won = sqlx::query_scalar!(
        "insert into idempotency_keys (tenant_id, principal_id, operation, key, request_digest, run_id, created_at)
         select * from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::uuid[], $7::timestamptz[])
         on conflict do nothing returning run_id",
        &tenants,
        &principals,
        &operations,
        &keys,
        &digests,
        &runs,
        &times,
    )
    .fetch_all(connection)
    .await?;
    Ok(won.into_iter().map(RunId::from).collect())
}

async fn find(connection: &mut PgConnection, name: &KeyName) -> sqlx::Result<Option<Earlier>> {
    let row = sqlx::query!(
        "select run_id, request_digest, key_version, sealed_answer, coalesce(status = 'running', false) as \"running!\"
         from idempotency_keys left join runs on runs.tenant_id = idempotency_keys.tenant_id and runs.id = run_id
         where idempotency_keys.tenant_id = $1 and idempotency_keys.principal_id = $2 and idempotency_keys.operation = $3 and key = $4",
        name.tenant.as_str(),
        name.principal.as_uuid(),
        name.operation,
        name.stored_key(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Earlier {
        run: row.run_id.into(),
        digest: row.request_digest,
        answer: row.key_version.zip(row.sealed_answer.map(Sealed)),
        running: row.running,
    }))
}

/// Keeps the answers of a group of keys, or gives keys back.
pub async fn answer(connection: &mut PgConnection, group: &[Answered]) -> sqlx::Result<()> {
    let (kept, returned): (Vec<_>, Vec<_>) = group.iter().partition(|answered| answered.answer.is_some());
    if !kept.is_empty() {
        let (tenants, principals, operations, keys, runs) = columns(&kept);
        let answers = kept.iter().filter_map(|answered| answered.answer.as_ref());
        let (versions, sealed): (Vec<i32>, Vec<Vec<u8>>) = answers.map(|(version, sealed)| (*version, sealed.0.clone())).unzip();
        sqlx::query!(
            "update idempotency_keys set key_version = given.key_version, sealed_answer = given.sealed
             from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::int[], $7::bytea[])
                 as given (tenant_id, principal_id, operation, key, run_id, key_version, sealed)
             where idempotency_keys.tenant_id = given.tenant_id and idempotency_keys.principal_id = given.principal_id
               and idempotency_keys.operation = given.operation and idempotency_keys.key = given.key
               and idempotency_keys.run_id = given.run_id",
            &tenants,
            &principals,
            &operations,
            &keys,
            &runs,
            &versions,
            &sealed,
        )
        .execute(&mut *connection)
        .await?;
    }
    if !returned.is_empty() {
        let (tenants, principals, operations, keys, runs) = columns(&returned);
        sqlx::query!(
            "delete from idempotency_keys
             using unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[])
                 as given (tenant_id, principal_id, operation, key, run_id)
             where idempotency_keys.tenant_id = given.tenant_id and idempotency_keys.principal_id = given.principal_id
               and idempotency_keys.operation = given.operation and idempotency_keys.key = given.key
               and idempotency_keys.run_id = given.run_id",
            &tenants,
            &principals,
            &operations,
            &keys,
            &runs,
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

type KeyColumns = (Vec<String>, Vec<Uuid>, Vec<String>, Vec<String>, Vec<Uuid>);

fn columns(group: &[&Answered]) -> KeyColumns {
    let mut columns = KeyColumns::default();
    for Answered { name, run, .. } in group {
        columns.0.push(name.tenant.to_string());
        columns.1.push(name.principal.as_uuid());
        columns.2.push(name.operation.clone());
        columns.3.push(name.stored_key());
        columns.4.push(run.as_uuid());
    }
    columns
}

pub async fn delete_older(connection: &mut PgConnection, than: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("delete from idempotency_keys where created_at < $1", than).execute(connection).await?;
    Ok(())
}
