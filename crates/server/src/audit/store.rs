//! Events, heads and checkpoints of the chains in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_attest::Link;
use weft_model::{TenantId, UserId};

/// Where a chain ends.
#[derive(Debug, Clone)]
pub struct Head {
    pub seq: i64,
    pub hash: Link,
}

pub struct NewEvent {
    pub seq: i64,
    pub entry: String,
    pub hash: Link,
}

/// An event as it is read back.
#[derive(Debug)]
pub struct StoredEvent {
    pub seq: i64,
    pub entry: String,
    pub hash: Link,
}

/// Which events to list, newest first.
#[derive(Debug, Default)]
pub struct Filter {
    pub action: Option<String>,
    pub actor: Option<String>,
    pub target: Option<String>,
    pub trace: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
    pub before: Option<i64>,
    pub limit: i64,
}

/// The end of a chain, which begins at `start` when there is none yet, locked until the transaction ends.
pub async fn lock_head(connection: &mut PgConnection, tenant: &TenantId, start: &Link) -> sqlx::Result<Head> {
    let row = sqlx::query!(
        "insert into audit_heads (tenant_id, seq, hash) values ($1, 0, $2)
         on conflict (tenant_id) do update set tenant_id = excluded.tenant_id returning seq, hash",
        tenant.as_str(),
        start.as_bytes().as_slice(),
    )
    .fetch_one(connection)
    .await?;
    Ok(Head { seq: row.seq, hash: link(&row.hash)? })
}

pub async fn update_head(connection: &mut PgConnection, tenant: &TenantId, seq: i64, hash: &Link) -> sqlx::Result<()> {
    sqlx::query!(
        "update audit_heads set seq = $2, hash = $3 where tenant_id = $1",
        tenant.as_str(),
        seq,
        hash.as_bytes().as_slice(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn insert(connection: &mut PgConnection, tenant: &TenantId, events: &[NewEvent]) -> sqlx::Result<()> {
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    let entries: Vec<String> = events.iter().map(|event| event.entry.clone()).collect();
    let hashes: Vec<Vec<u8>> = events.iter().map(|event| event.hash.as_bytes().to_vec()).collect();
    sqlx::query!(
        "insert into audit_events (tenant_id, seq, entry, hash)
         select $1, seq, entry::json, hash from unnest($2::bigint[], $3::text[], $4::bytea[]) as given (seq, entry, hash)",
        tenant.as_str(),
        &numbers,
        &entries,
        &hashes,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn list(connection: &mut PgConnection, tenant: &TenantId, filter: &Filter) -> sqlx::Result<Vec<StoredEvent>> {
    let rows = sqlx::query!(
        "select seq, entry::text as \"entry!\", hash from audit_events
         where tenant_id = $1
           and ($2::text is null or action = $2)
           and ($3::text is null or actor_id = $3)
           and ($4::text is null or target = $4)
           and ($5::text is null or trace_id = $5)
           and ($6::text is null or at >= $6)
           and ($7::text is null or at < $7)
           and ($8::bigint is null or seq < $8)
         order by seq desc limit $9",
        tenant.as_str(),
        filter.action,
        filter.actor,
        filter.target,
        filter.trace,
        filter.since,
        filter.until,
        filter.before,
        filter.limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| Ok(StoredEvent { seq: row.seq, entry: row.entry, hash: link(&row.hash)? })).collect()
}

/// What there is of a chain, as one look at the database shows it.
#[derive(Debug)]
pub struct Extent {
    /// Where it ends.
    pub head: Option<Head>,
    /// The last event that there is. Another one than the head's only when somebody was at the tables.
    pub last: i64,
    /// Checkpoints over events that are not there.
    pub orphans: Vec<String>,
}

pub async fn find_extent(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<Extent> {
    let row = sqlx::query!(
        "with head as (select seq, hash from audit_heads where tenant_id = $1),
              last as (select coalesce(max(seq), 0) as seq from audit_events where tenant_id = $1)
         select (select seq from head) as head_seq, (select hash from head) as head_hash, last.seq as \"last!\",
                array(select signature from audit_checkpoints
                      where tenant_id = $1 and seq > greatest(last.seq, (select seq from head)) order by seq desc limit 10)
                    as \"orphans!\"
         from last",
        tenant.as_str(),
    )
    .fetch_one(connection)
    .await?;
    let head = match (row.head_seq, row.head_hash) {
        (Some(seq), Some(hash)) => Some(Head { seq, hash: link(&hash)? }),
        _ => None,
    };
    Ok(Extent { head, last: row.last, orphans: row.orphans })
}

/// Events in their order, from the first to the second number.
pub async fn list_range(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (from, to): (i64, i64),
    limit: i64,
) -> sqlx::Result<Vec<StoredEvent>> {
    let rows = sqlx::query!(
        "select seq, entry::text as \"entry!\", hash from audit_events
         where tenant_id = $1 and seq between $2 and $3 order by seq limit $4",
        tenant.as_str(),
        from,
        to,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| Ok(StoredEvent { seq: row.seq, entry: row.entry, hash: link(&row.hash)? })).collect()
}

/// The checkpoints over events of a range, each with the event that it covers last.
pub async fn list_checkpoints(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (from, to): (i64, i64),
) -> sqlx::Result<Vec<(i64, String)>> {
    let rows = sqlx::query!(
        "select seq, signature from audit_checkpoints where tenant_id = $1 and seq between $2 and $3 order by seq",
        tenant.as_str(),
        from,
        to,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.seq, row.signature)).collect())
}

/// The person who answers for a machine.
pub async fn find_owner(
    connection: &mut PgConnection,
    tenant: &TenantId,
    machine: UserId,
) -> sqlx::Result<Option<(UserId, String)>> {
    let row = sqlx::query!(
        "select users.id, email from service_accounts join users on users.id = owner_id
         where tenant_id = $1 and service_accounts.id = $2",
        tenant.as_str(),
        machine.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.id.into(), row.email)))
}

/// A chain that has grown since its last checkpoint.
pub struct Due {
    pub tenant: TenantId,
    pub head: Head,
}

/// The chains that have grown by `events`, or at all since `before`.
pub async fn list_due(connection: &mut PgConnection, events: i64, before: DateTime<Utc>) -> sqlx::Result<Vec<Due>> {
    let rows = sqlx::query!(
        "select tenant_id, seq, hash from audit_heads
         where seq > checkpoint_seq and (seq >= checkpoint_seq + $1 or coalesce(checkpoint_at, '-infinity') <= $2)",
        events,
        before,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let tenant = TenantId::try_from(row.tenant_id).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok(Due { tenant, head: Head { seq: row.seq, hash: link(&row.hash)? } })
        })
        .collect()
}

/// Keeps a checkpoint. Another node may have signed the same one.
pub async fn insert_checkpoint(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (seq, signature): (i64, &str),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into audit_checkpoints (tenant_id, seq, signature) values ($1, $2, $3) on conflict do nothing",
        tenant.as_str(),
        seq,
        signature,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update audit_heads set checkpoint_seq = greatest(checkpoint_seq, $2), checkpoint_at = $3 where tenant_id = $1",
        tenant.as_str(),
        seq,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn link(bytes: &[u8]) -> sqlx::Result<Link> {
    Link::try_from(bytes).map_err(|error| sqlx::Error::Decode(error.into()))
}
