//! Endpoints and deliveries in the database.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use weft_model::{AppId, DeliveryId, EndpointId, RunId, TenantId, manifest::Webhook};
use weft_vault::Sealed;

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
    pub tenant: TenantId,
    pub app: AppId,
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
    /// Headers and body, and the version of the key that seals them.
    pub sealed: (i32, Sealed),
    pub received_at: DateTime<Utc>,
}

/// A request that was stored and not answered, with where it leads now.
pub struct Unanswered {
    pub delivery: Delivery,
    /// How often it was handed over, this time included.
    pub attempts: i32,
    /// The webhook's name and the backend's method, unless the webhook was removed.
    pub target: Option<(String, String)>,
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
    row.map(|row| {
        Ok(Target {
            endpoint: row.id.into(),
            tenant: TenantId::try_from(row.tenant_id).map_err(invalid)?,
            app: AppId::try_from(row.app_id).map_err(invalid)?,
            name: row.name,
            method: row.method,
        })
    })
    .transpose()
}

fn invalid(error: weft_model::id::InvalidName) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
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
    let versions: Vec<i32> = deliveries.iter().map(|delivery| delivery.sealed.0).collect();
    let sealed: Vec<Vec<u8>> = deliveries.iter().map(|delivery| delivery.sealed.1.0.clone()).collect();
    let times: Vec<DateTime<Utc>> = deliveries.iter().map(|delivery| delivery.received_at).collect();
    sqlx::query!(
        "insert into webhook_deliveries (id, tenant_id, endpoint_id, app_id, run_id, key_version, sealed, received_at)
         select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::uuid[], $6::int[], $7::bytea[], $8::timestamptz[])",
        &ids,
        &tenants,
        &endpoints,
        &apps,
        &runs,
        &versions,
        &sealed,
        &times,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The request of a run that was taken over. Nothing when it is not kept any more.
pub async fn find_unanswered(connection: &mut PgConnection, run: RunId) -> sqlx::Result<Option<Unanswered>> {
    let row = sqlx::query!(
        "select delivery.id, delivery.tenant_id, delivery.endpoint_id, delivery.app_id, key_version, sealed, received_at, attempts,
             endpoint.name as \"name?\", endpoint.method as \"method?\"
         from webhook_deliveries as delivery
             join runs on runs.tenant_id = delivery.tenant_id and runs.id = run_id
             left join webhook_endpoints as endpoint on endpoint.id = delivery.endpoint_id
         where run_id = $1",
        run.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let delivery = Delivery {
            id: row.id.into(),
            tenant: TenantId::try_from(row.tenant_id).map_err(invalid)?,
            endpoint: row.endpoint_id.into(),
            app: AppId::try_from(row.app_id).map_err(invalid)?,
            run,
            sealed: (row.key_version, Sealed(row.sealed)),
            received_at: row.received_at,
        };
        Ok(Unanswered { delivery, attempts: row.attempts, target: row.name.zip(row.method) })
    })
    .transpose()
}
