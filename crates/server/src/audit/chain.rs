//! Adding to a tenant's chain.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_attest::Link;
use weft_model::TenantId;

use super::{
    event::{Actor, Event},
    store::{self, NewEvent},
};

/// Adds an event to the chain of its tenant, within the transaction of what it is about. Until that ends nobody else adds to this
/// chain: call it last.
pub async fn record(connection: &mut PgConnection, event: &Event, now: DateTime<Utc>) -> sqlx::Result<()> {
    let mut event = event.clone();
    if let Some(machine) = event.machine() {
        let owner = store::find_owner(connection, &event.tenant, machine).await?;
        event.on_behalf_of = owner.map(|(id, email)| Actor::person(id, &email));
    }
    record_all(connection, &[event], now).await
}

/// The same for several events of one tenant, in one statement.
pub(super) async fn record_all(connection: &mut PgConnection, events: &[Event], now: DateTime<Utc>) -> sqlx::Result<()> {
    let Some(first) = events.first() else { return Ok(()) };
    let tenant = &first.tenant;
    let head = store::lock_head(connection, tenant, &Link::start(tenant.as_str())).await?;
    let (mut seq, mut link) = (head.seq, head.hash);
    let mut added = Vec::with_capacity(events.len());
    for event in events {
        seq += 1;
        let entry = event.text(seq, now).map_err(|error| sqlx::Error::Encode(error.into()))?;
        link = link.then(&entry);
        added.push(NewEvent { seq, entry, hash: link });
    }
    store::insert(connection, tenant, &added).await?;
    store::update_head(connection, tenant, seq, &link).await
}

/// Where the chain of a tenant ends now: what it is remembered by when it goes. Nobody adds to it until the transaction ends.
pub async fn lock_end(connection: &mut PgConnection, tenant: &TenantId) -> sqlx::Result<(i64, Link)> {
    let head = store::lock_head(connection, tenant, &Link::start(tenant.as_str())).await?;
    Ok((head.seq, head.hash))
}
