//! What changes nothing and may come in floods: counted for a moment, then written in company.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{chain, event::Event};

/// Different events of one tenant that are told one by one; the rest of the moment is counted together.
const TOLD: usize = 40;

/// Writes a group of events, those that are alike as one with a count, in one transaction per tenant.
pub(super) async fn write(pool: PgPool, group: Vec<Event>, now: DateTime<Utc>) -> sqlx::Result<Vec<()>> {
    let answers = vec![(); group.len()];
    for events in by_tenant(group).into_values() {
        let mut transaction = pool.begin().await?;
        match chain::record_all(&mut transaction, &events, now).await {
            Ok(()) => transaction.commit().await?,
            // The tenant has gone meanwhile, and its log with it.
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answers)
}

fn by_tenant(group: Vec<Event>) -> BTreeMap<String, Vec<Event>> {
    let mut tenants: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for event in group {
        let told = tenants.entry(event.tenant.to_string()).or_default();
        let event = if told.len() < TOLD || told.iter().any(|known| known.is_like(&event)) { event } else { event.anonymous() };
        match told.iter_mut().find(|known| known.is_like(&event)) {
            Some(known) => known.count = known.count.saturating_add(1),
            None => told.push(event),
        }
    }
    tenants
}

#[cfg(test)]
mod tests {
    use weft_model::TenantId;

    use super::*;
    use crate::audit::Action;

    fn failed(user: usize) -> Event {
        Event::new(&TenantId::default_tenant(), Action::LoginFailed).on("user", user)
    }

    #[test]
    fn events_that_are_alike_are_one_with_a_count() {
        let told = by_tenant(vec![failed(1), failed(2), failed(1), failed(1)]);
        let counts: Vec<_> = told["default"].iter().map(|event| event.count).collect();
        assert_eq!(counts, [3, 1]);
    }

    #[test]
    fn a_flood_of_different_ones_stays_small_and_none_is_uncounted() {
        let told = by_tenant((0..1000).map(failed).collect());
        let events = &told["default"];
        assert!(events.len() <= TOLD + 1, "{}", events.len());
        assert_eq!(events.iter().map(|event| event.count).sum::<u32>(), 1000);
    }
}
