//! Crons and their firings in the database.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, CronId, TenantId, UserId};

use crate::jobs::Standing;

/// A cron as it is stored.
#[derive(Debug, Clone)]
pub struct Cron {
    pub id: Uuid,
    pub tenant_id: String,
    pub app_id: String,
    pub name: String,
    pub schedule: String,
    pub timezone: Option<String>,
    pub payload: Value,
    pub overlap_policy: String,
    pub enabled: bool,
    pub declared: bool,
    pub created_by: Option<Uuid>,
    pub set_up_by: Option<Uuid>,
    pub only_permissions: Option<Vec<String>>,
    pub number: Option<i64>,
    pub next_tick: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What a new or changed cron is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub id: CronId,
    pub name: String,
    pub schedule: String,
    pub timezone: Option<String>,
    pub payload: Value,
    pub overlap_policy: String,
    pub next_tick: Option<DateTime<Utc>>,
}

/// Stores a new cron. Nothing when the app has one of that name.
pub async fn insert(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    wanted: &Wanted,
    (owner, enabled): (&Standing, bool),
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Cron>> {
    sqlx::query_as!(
        Cron,
        "insert into crons (id, tenant_id, app_id, name, schedule, timezone, payload, overlap_policy, enabled, declared, created_by,
             set_up_by, only_permissions, number, next_tick, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, false, $10, $11, $12, case when $9 then nextval('cron_numbers') end, $13, $14, $14)
         on conflict do nothing
         returning id, tenant_id, app_id, name, schedule, timezone, payload, overlap_policy, enabled, declared, created_by,
             set_up_by, only_permissions, number, next_tick, created_at, updated_at",
        wanted.id.as_uuid(),
        tenant.as_str(),
        app.as_str(),
        wanted.name,
        wanted.schedule,
        wanted.timezone,
        wanted.payload,
        wanted.overlap_policy,
        enabled,
        owner.user.as_uuid(),
        owner.by.map(UserId::as_uuid),
        owner.only.as_deref(),
        wanted.next_tick,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// Makes the declared crons of an app these. One of the same name becomes a declared one; whether it is enabled stays, and so does
/// its next tick unless it is scheduled anew.
pub async fn replace_declared(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    wanted: &[Wanted],
    owner: &Standing,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let names: Vec<String> = wanted.iter().map(|cron| cron.name.clone()).collect();
    sqlx::query!(
        "delete from crons where tenant_id = $1 and app_id = $2 and declared and not name = any($3)",
        tenant.as_str(),
        app.as_str(),
        &names,
    )
    .execute(&mut *connection)
    .await?;
    let ids: Vec<Uuid> = wanted.iter().map(|cron| cron.id.as_uuid()).collect();
    let schedules: Vec<String> = wanted.iter().map(|cron| cron.schedule.clone()).collect();
    let zones: Vec<Option<String>> = wanted.iter().map(|cron| cron.timezone.clone()).collect();
    let payloads: Vec<Value> = wanted.iter().map(|cron| cron.payload.clone()).collect();
    let policies: Vec<String> = wanted.iter().map(|cron| cron.overlap_policy.clone()).collect();
    let ticks: Vec<Option<DateTime<Utc>>> = wanted.iter().map(|cron| cron.next_tick).collect();
    sqlx::query!(
        "insert into crons as old (id, tenant_id, app_id, name, schedule, timezone, payload, overlap_policy, enabled, declared,
             created_by, set_up_by, only_permissions, number, next_tick, created_at, updated_at)
         select id, $1, $2, name, schedule, timezone, payload, overlap_policy, true, true, $10, $11, $12, nextval('cron_numbers'),
             next_tick, $13, $13
         from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::timestamptz[])
             as given (id, name, schedule, timezone, payload, overlap_policy, next_tick)
         on conflict (app_id, name) do update
         set schedule = excluded.schedule, timezone = excluded.timezone, payload = excluded.payload,
             overlap_policy = excluded.overlap_policy, declared = true, created_by = excluded.created_by,
             set_up_by = excluded.set_up_by, only_permissions = excluded.only_permissions, updated_at = excluded.updated_at,
             number = case when (old.schedule, old.timezone) is not distinct from (excluded.schedule, excluded.timezone)
                 then old.number when old.enabled then excluded.number end,
             next_tick = case when (old.schedule, old.timezone) is not distinct from (excluded.schedule, excluded.timezone)
                 then old.next_tick when old.enabled then excluded.next_tick end",
        tenant.as_str(),
        app.as_str(),
        &ids,
        &names,
        &schedules,
        zones as _,
        &payloads,
        &policies,
        ticks as _,
        owner.user.as_uuid(),
        owner.by.map(UserId::as_uuid),
        owner.only.as_deref(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whose crons of which apps somebody sees.
#[derive(Debug)]
pub struct Seen {
    /// Its own in these apps.
    pub apps: Vec<String>,
    /// Everybody's in these of them.
    pub others: Vec<String>,
    pub own: UserId,
}

/// Crons of a tenant by app and name, after a place in that order.
pub async fn list(
    connection: &mut PgConnection,
    tenant: &TenantId,
    seen: &Seen,
    (after_app, after_name): (&str, &str),
    most: i64,
) -> sqlx::Result<Vec<Cron>> {
    sqlx::query_as!(
        Cron,
        "select id, tenant_id, app_id, name, schedule, timezone, payload, overlap_policy, enabled, declared, created_by,
             set_up_by, only_permissions, number, next_tick, created_at, updated_at
         from crons where tenant_id = $1 and app_id = any($2) and (app_id = any($3) or created_by = $4 or set_up_by = $4)
           and (app_id, name) > ($5, $6)
         order by app_id, name limit $7",
        tenant.as_str(),
        &seen.apps,
        &seen.others,
        seen.own.as_uuid(),
        after_app,
        after_name,
        most,
    )
    .fetch_all(connection)
    .await
}

/// A cron, for as long as the transaction lasts.
pub async fn lock(connection: &mut PgConnection, (tenant, app): (&TenantId, &AppId), id: CronId) -> sqlx::Result<Option<Cron>> {
    sqlx::query_as!(
        Cron,
        "select id, tenant_id, app_id, name, schedule, timezone, payload, overlap_policy, enabled, declared, created_by,
             set_up_by, only_permissions, number, next_tick, created_at, updated_at
         from crons where tenant_id = $1 and app_id = $2 and id = $3 for update",
        tenant.as_str(),
        app.as_str(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// Stores what a cron became, and schedules it anew.
pub async fn update(connection: &mut PgConnection, cron: &Cron, now: DateTime<Utc>) -> sqlx::Result<Option<Cron>> {
    sqlx::query_as!(
        Cron,
        "update crons set schedule = $2, timezone = $3, payload = $4, overlap_policy = $5, enabled = $6, next_tick = $7,
             number = case when $6 then nextval('cron_numbers') end, updated_at = $8, set_up_by = $9, only_permissions = $10
         where id = $1
         returning id, tenant_id, app_id, name, schedule, timezone, payload, overlap_policy, enabled, declared, created_by,
             set_up_by, only_permissions, number, next_tick, created_at, updated_at",
        cron.id,
        cron.schedule,
        cron.timezone,
        cron.payload,
        cron.overlap_policy,
        cron.enabled,
        cron.next_tick,
        now,
        cron.set_up_by,
        cron.only_permissions.as_deref(),
    )
    .fetch_optional(connection)
    .await
}

pub async fn delete(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from crons where id = $1", id).execute(connection).await?;
    Ok(())
}

/// Takes a batch of crons that are due, for as long as the transaction lasts. Those of tenants that are switched off wait.
pub async fn claim_due(
    connection: &mut PgConnection,
    (since, now): (DateTime<Utc>, DateTime<Utc>),
    most: i64,
) -> sqlx::Result<Vec<Cron>> {
    sqlx::query_as!(
        Cron,
        "select crons.id, tenant_id, app_id, crons.name, schedule, timezone, payload, overlap_policy, enabled, declared,
             crons.created_by, set_up_by, only_permissions, number, next_tick, crons.created_at, updated_at
         from crons join tenants on tenants.id = tenant_id
         where next_tick > $1 and next_tick <= $2 and disabled_at is null and deleted_at is null
         order by next_tick limit $3 for update of crons skip locked",
        since,
        now,
        most,
    )
    .fetch_all(connection)
    .await
}

/// A tick, or what somebody did by hand, as it is noted.
#[derive(Debug, Clone)]
pub struct Firing {
    pub tenant: String,
    pub cron: Uuid,
    pub tick: Option<DateTime<Utc>>,
    pub outcome: &'static str,
    pub message: Option<i64>,
    pub note: Option<String>,
}

/// Notes firings and returns the crons whose tick was not noted before.
pub async fn insert_firings(connection: &mut PgConnection, firings: &[Firing], now: DateTime<Utc>) -> sqlx::Result<Vec<Uuid>> {
    let tenants: Vec<String> = firings.iter().map(|firing| firing.tenant.clone()).collect();
    let crons: Vec<Uuid> = firings.iter().map(|firing| firing.cron).collect();
    let ticks: Vec<Option<DateTime<Utc>>> = firings.iter().map(|firing| firing.tick).collect();
    let outcomes: Vec<String> = firings.iter().map(|firing| firing.outcome.to_owned()).collect();
    let messages: Vec<Option<i64>> = firings.iter().map(|firing| firing.message).collect();
    let notes: Vec<Option<String>> = firings.iter().map(|firing| firing.note.clone()).collect();
    sqlx::query_scalar!(
        "insert into cron_firings (tenant_id, cron_id, tick, fired_at, outcome, message_id, note)
         select tenant_id, cron_id, tick, $7, outcome, message_id, note
         from unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[], $6::text[])
             as given (tenant_id, cron_id, tick, outcome, message_id, note)
         on conflict do nothing returning cron_id",
        &tenants,
        &crons,
        ticks as _,
        &outcomes,
        messages as _,
        notes as _,
        now,
    )
    .fetch_all(connection)
    .await
}

/// Notes which jobs came of ticks.
pub async fn update_messages(connection: &mut PgConnection, fired: &[(Uuid, DateTime<Utc>, i64)]) -> sqlx::Result<()> {
    let crons: Vec<Uuid> = fired.iter().map(|(cron, _, _)| *cron).collect();
    let ticks: Vec<DateTime<Utc>> = fired.iter().map(|(_, tick, _)| *tick).collect();
    let messages: Vec<i64> = fired.iter().map(|(_, _, message)| *message).collect();
    sqlx::query!(
        "update cron_firings set message_id = given.message_id
         from unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) as given (cron_id, tick, message_id)
         where cron_firings.cron_id = given.cron_id and cron_firings.tick = given.tick",
        &crons,
        &ticks,
        &messages,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets the next ticks.
pub async fn update_ticks(connection: &mut PgConnection, next: &[(Uuid, Option<DateTime<Utc>>)]) -> sqlx::Result<()> {
    let crons: Vec<Uuid> = next.iter().map(|(cron, _)| *cron).collect();
    let ticks: Vec<Option<DateTime<Utc>>> = next.iter().map(|(_, tick)| *tick).collect();
    sqlx::query!(
        "update crons set next_tick = given.tick from unnest($1::uuid[], $2::timestamptz[]) as given (id, tick)
         where crons.id = given.id",
        &crons,
        ticks as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A firing as it is read back.
#[derive(Debug)]
pub struct Fired {
    pub id: i64,
    pub tick: Option<DateTime<Utc>>,
    pub at: DateTime<Utc>,
    pub outcome: String,
    pub message_id: Option<i64>,
    pub note: Option<String>,
}

pub async fn list_firings(
    connection: &mut PgConnection,
    (tenant, cron): (&TenantId, CronId),
    most: i64,
) -> sqlx::Result<Vec<Fired>> {
    sqlx::query_as!(
        Fired,
        "select id, tick, fired_at as at, outcome, message_id, note from cron_firings
         where tenant_id = $1 and cron_id = $2 order by id desc limit $3",
        tenant.as_str(),
        cron.as_uuid(),
        most,
    )
    .fetch_all(connection)
    .await
}

/// Removes a batch of firings from before `than`. Returns how many.
pub async fn delete_older(connection: &mut PgConnection, than: DateTime<Utc>) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "delete from cron_firings where ctid in (select ctid from cron_firings where fired_at < $1 limit 5000)",
        than,
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}
