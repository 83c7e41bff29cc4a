//! Endpoints and deliveries in the database.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, DeliveryId, EndpointId, RunId, TenantId, manifest::Webhook};

/// An endpoint as its owner sees it.
pub struct Endpoint {
    pub id: EndpointId,
    pub name: String,
    pub method: String,
    pub token_prefix: String,
    pub created_at: DateTime<Utc>,
}

/// Where a token leads.
pub struct Target {
    pub endpoint: EndpointId,
    pub tenant: String,
    pub app: String,
    pub name: String,
    pub method: String,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: DeliveryId,
    pub tenant: TenantId,
    pub endpoint: EndpointId,
    pub app: AppId,
    pub run: RunId,
    pub headers: Value,
    pub body: Vec<u8>,
    pub received_at: DateTime<Utc>,
}

pub async fn list(connection: &mut PgConnection, tenant: &TenantId, app: &AppId) -> sqlx::Result<Vec<Endpoint>> {
    let rows = sqlx::query!(
        "select id, name, method, token_prefix, created_at from webhook_endpoints
         where tenant_id = $1 and app_id = $2 order by name",
        tenant.as_str(),
        app.as_str(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Endpoint {
            id: row.id.into(),
            name: row.name,
            method: row.method,
            token_prefix: row.token_prefix,
            created_at: row.created_at,
        })
        .collect())
}

/// A new endpoint, with what is needed to find it by its token.
pub struct NewEndpoint<'a> {
    pub id: EndpointId,
    pub webhook: &'a Webhook,
    pub token_digest: &'a [u8],
    pub token_prefix: &'a str,
}

pub async fn insert(
    connection: &mut PgConnection,
    (tenant, app): (&TenantId, &AppId),
    new: NewEndpoint<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into webhook_endpoints (id, tenant_id, app_id, name, method, token_digest, token_prefix, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        new.id.as_uuid(),
        tenant.as_str(),
        app.as_str(),
        new.webhook.name,
        new.webhook.method,
        new.token_digest,
        new.token_prefix,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn update_method(connection: &mut PgConnection, tenant: &TenantId, id: EndpointId, method: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_endpoints set method = $3 where tenant_id = $1 and id = $2",
        tenant.as_str(),
        id.as_uuid(),
        method
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn delete(connection: &mut PgConnection, tenant: &TenantId, id: EndpointId) -> sqlx::Result<()> {
    sqlx::query!("delete from webhook_endpoints where tenant_id = $1 and id = $2", tenant.as_str(), id.as_uuid())
        .execute(connection)
        .await?;
    Ok(())
}

/// The endpoint of a token. The token itself decides about the tenant, which must not be switched off.
pub async fn find_target(connection: &mut PgConnection, token_digest: &[u8]) -> sqlx::Result<Option<Target>> {
    let row = sqlx::query!(
        "select webhook_endpoints.id, tenant_id, app_id, webhook_endpoints.name, method
             from webhook_endpoints join tenants on tenants.id = tenant_id
             where token_digest = $1 and disabled_at is null and deleted_at is null",
        token_digest
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Target {
        endpoint: row.id.into(),
        tenant: row.tenant_id,
        app: row.app_id,
        name: row.name,
        method: row.method,
    }))
}

/// Removes a batch of deliveries from before `than`. Returns how many.
pub async fn delete_older(connection: &mut PgConnection, than: DeliveryId) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "delete from webhook_deliveries where id in (select id from webhook_deliveries where id < $1 order by id limit 1000)",
        than.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}

/// Writes a group of deliveries in one statement.
pub async fn insert_deliveries(connection: &mut PgConnection, deliveries: &[Delivery]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = deliveries.iter().map(|delivery| delivery.id.as_uuid()).collect();
    let tenants: Vec<String> = deliveries.iter().map(|delivery| delivery.tenant.to_string()).collect();
    let endpoints: Vec<Uuid> = deliveries.iter().map(|delivery| delivery.endpoint.as_uuid()).collect();
    let apps: Vec<String> = deliveries.iter().map(|delivery| delivery.app.to_string()).collect();
    let runs: Vec<Uuid> = deliveries.iter().map(|delivery| delivery.run.as_uuid()).collect();
    let headers: Vec<Value> = deliveries.iter().map(|delivery| delivery.headers.clone()).collect();
    let bodies: Vec<Vec<u8>> = deliveries.iter().map(|delivery| delivery.body.clone()).collect();
    let times: Vec<DateTime<Utc>> = deliveries.iter().map(|delivery| delivery.received_at).collect();
    sqlx::query!(
        "insert into webhook_deliveries (id, tenant_id, endpoint_id, app_id, run_id, headers, body, received_at)
         select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::uuid[], $6::jsonb[], $7::bytea[], $8::timestamptz[])",
        &ids,
        &tenants,
        &endpoints,
        &apps,
        &runs,
        &headers,
        &bodies,
        &times,
    )
    .execute(connection)
    .await?;
    Ok(())
}
