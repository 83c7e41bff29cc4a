//! Budgets that nodes share: until when each is spoken for, in microseconds of the epoch.

use sqlx::PgConnection;
use uuid::Uuid;

use super::Place;

/// A budget in the database.
#[derive(Debug)]
pub struct Row {
    pub tenant_id: String,
    pub provider: String,
    /// The account at the vendor; the nil UUID where all accounts share the budget.
    pub connection_id: Uuid,
    pub arrival: i64,
}

/// Names of budgets, column by column.
#[derive(Default)]
struct Names {
    tenants: Vec<String>,
    providers: Vec<String>,
    connections: Vec<Uuid>,
}

impl Names {
    fn of<'a>(places: impl Iterator<Item = &'a Place>) -> Self {
        let mut names = Self::default();
        for place in places {
            names.tenants.push(place.tenant.to_string());
            names.providers.push(place.integration.to_string());
            names.connections.push(account(place));
        }
        names
    }
}

fn account(place: &Place) -> Uuid {
    place.connection.map(weft_model::ConnectionId::as_uuid).unwrap_or_default()
}

impl Row {
    /// Whose it is.
    pub fn place(self) -> Option<Place> {
        let connection = (!self.connection_id.is_nil()).then(|| self.connection_id.into());
        let (tenant, integration) = (self.tenant_id.try_into().ok()?, self.provider.try_into().ok()?);
        Some(Place { tenant, integration, connection })
    }
}

/// Locks budgets, in the same order on every node, and says what is known of them. Those that are not there yet are from now on.
pub async fn lock(connection: &mut PgConnection, places: impl Iterator<Item = &Place>) -> sqlx::Result<Vec<Row>> {
    let Names { tenants, providers, connections } = Names::of(places);
    sqlx::query_as!(
        Row,
        "insert into vendor_budgets as kept (tenant_id, provider, connection_id, arrival)
         select tenant_id, provider, connection_id, 0
         from unnest($1::text[], $2::text[], $3::uuid[]) as given (tenant_id, provider, connection_id)
         order by tenant_id, provider, connection_id
         on conflict (tenant_id, provider, connection_id) do update set arrival = kept.arrival
         returning tenant_id, provider, connection_id, arrival",
        &tenants,
        &providers,
        &connections,
    )
    .fetch_all(connection)
    .await
}

/// Writes how far budgets are spent, which are locked.
pub async fn update(connection: &mut PgConnection, budgets: &[(&Place, i64)]) -> sqlx::Result<()> {
    let Names { tenants, providers, connections } = Names::of(budgets.iter().map(|(place, _)| *place));
    let arrivals: Vec<i64> = budgets.iter().map(|(_, arrival)| *arrival).collect();
    sqlx::query!(
        "update vendor_budgets as kept set arrival = given.arrival
         from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) as given (tenant_id, provider, connection_id, arrival)
         where kept.tenant_id = given.tenant_id and kept.provider = given.provider and kept.connection_id = given.connection_id",
        &tenants,
        &providers,
        &connections,
        &arrivals,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The budgets of which something is spent.
pub async fn list_spent(connection: &mut PgConnection, now: i64) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(Row, "select tenant_id, provider, connection_id, arrival from vendor_budgets where arrival > $1", now)
        .fetch_all(connection)
        .await
}

/// Removes budgets that are whole again. One that somebody works on stays.
pub async fn delete_whole(connection: &mut PgConnection, now: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from vendor_budgets where ctid in
             (select ctid from vendor_budgets where arrival <= $1 for update skip locked limit 5000)",
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}
