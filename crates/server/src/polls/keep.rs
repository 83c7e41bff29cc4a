//! What a sync does with a page: the records, what was met, and how far was read, in one transaction.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;
use weft_data::Entity;
use weft_model::{
    UserId,
    manifest::{Deletions, Sync},
    run::ErrorCategory,
};

use super::{
    ask::Answer,
    backoff::{Failure, TOO_MANY_DELETIONS},
    cursor::Progress,
    store,
    turn::Turn,
};
use crate::{
    apps::App,
    data::{self, Keeper},
    http::trace::TraceId,
    node::Node,
};

/// Records that one statement deletes.
const DELETED: u32 = 500;
/// So many may go without anybody being asked, whatever part of all they are.
const FEW: i64 = 20;

/// Stores a page and moves on. False when somebody else has changed the poll meanwhile: then nothing was stored.
pub async fn page(turn: &mut Turn, sync: &Sync, answer: Answer, mut progress: Progress) -> Result<bool, Failure> {
    let (page, now) = (answer.page, turn.node.clock.now());
    let app = Arc::clone(&turn.app);
    let entity = entity(&app, sync)?;
    let keeper = keeper(turn, (&app, sync, entity), answer.trace).await?;
    let ids: Vec<String> = page.records.iter().map(|(id, _)| id.clone()).collect();
    let (gone, there): (Vec<_>, Vec<_>) = page.records.into_iter().partition(|(_, record)| is_gone(sync, record));
    let records = rows(entity, sync, turn.poll.connection_id.map(|id| id.to_string()).as_deref(), there);

    let mut held = turn.node.records.acquire(&app.id).await?;
    let mut transaction = held.begin().await?;
    if !store::lock_version(&mut transaction, (turn.poll.id, turn.poll.version)).await? {
        return Ok(false);
    }
    // First, because what comes may have the unique values of what goes.
    for gone in gone.chunks(DELETED as usize) {
        let ids: Vec<String> = gone.iter().map(|(id, _)| id.clone()).collect();
        delete_marked(turn, (&keeper, sync), &mut transaction, &ids).await?;
    }
    let kept = keep(turn, &keeper, &mut transaction, records).await?;
    if sync.deletions == Deletions::Missing {
        store::meet(&mut transaction, (turn.poll.id, turn.next.pass), &ids).await?;
    }
    let nameless = i64::try_from(page.nameless).unwrap_or(i64::MAX);
    let next = &mut turn.next;
    next.created += kept.created;
    next.updated += kept.updated;
    next.rejected += kept.rejected + nameless;
    if next.rejection.is_none() {
        let lacking = format!("{nameless} records have no identifier at '{}'", sync.poll.id);
        next.rejection = kept.rejection.or_else(|| (nameless > 0).then_some(lacking));
    }
    progress.highest = page.highest;
    progress.page = page.next;
    if progress.page.is_some() {
        turn.go_on(&progress);
    } else if sync.deletions == Deletions::Missing {
        progress.is_deleting = true;
        turn.go_on(&progress);
    } else {
        turn.finish(&progress, now);
    }
    let saved = store::save(&mut transaction, &turn.next, now).await?;
    transaction.commit().await?;
    Ok(saved)
}

async fn keep(
    turn: &Turn,
    keeper: &Keeper<'_>,
    connection: &mut PgConnection,
    records: Vec<(String, Value)>,
) -> Result<data::Kept, Failure> {
    keeper.keep(connection, records).await.map_err(|error| {
        if matches!(error, data::Error::Moved) {
            // The notification of other tables may still be on its way.
            turn.node.apps.forget();
        }
        error.into()
    })
}

/// Deletes some of what a full run has not met. False as above. Fails, once and before anything is deleted, where that is most of what was there.
pub async fn delete_unmet(turn: &mut Turn, sync: &Sync, mut progress: Progress) -> Result<bool, Failure> {
    let (app, now) = (Arc::clone(&turn.app), turn.node.clock.now());
    let entity = entity(&app, sync)?;
    let keeper = keeper(turn, (&app, sync, entity), TraceId::generate()).await?;
    let mut held = turn.node.records.acquire(&app.id).await?;
    let mut transaction = held.begin().await?;
    if !store::lock_version(&mut transaction, (turn.poll.id, turn.poll.version)).await? {
        return Ok(false);
    }
    if !progress.is_checked && !turn.poll.deletions_confirmed {
        let (unmet, all) = store::count_unmet(&mut transaction, (turn.poll.id, turn.next.pass)).await?;
        let before = all - turn.next.created;
        if is_most(unmet, before) {
            return Err(too_many(turn, unmet, before.max(unmet)));
        }
    }
    progress.is_checked = true;
    let unmet = store::list_unmet(&mut transaction, (turn.poll.id, turn.next.pass), i64::from(DELETED)).await?;
    if unmet.is_empty() {
        turn.finish(&progress, now);
    } else {
        turn.next.deleted += delete(turn, (&keeper, sync), &mut transaction, &unmet).await?;
        store::forget(&mut transaction, turn.poll.id, &unmet).await?;
        turn.go_on(&progress);
    }
    let saved = store::save(&mut transaction, &turn.next, now).await?;
    transaction.commit().await?;
    Ok(saved)
}

/// Deletes the records of these identifiers, as far as they are there.
async fn delete(
    turn: &Turn,
    (keeper, sync): (&Keeper<'_>, &Sync),
    connection: &mut PgConnection,
    ids: &[String],
) -> Result<i64, Failure> {
    let mut condition = Map::new();
    condition.insert(sync.id_field.clone(), json!({ "$in": ids }));
    condition.extend(of_connection(turn, sync));
    Ok(keeper.delete(connection, &Value::Object(condition), DELETED).await?)
}

/// Deletes what the vendor has marked. A record that may not go, because others refer to it, stays, counts as rejected, and keeps none of the rest.
async fn delete_marked(
    turn: &mut Turn,
    by: (&Keeper<'_>, &Sync),
    connection: &mut PgConnection,
    ids: &[String],
) -> Result<(), Failure> {
    let mut part = connection.begin().await?;
    match delete(turn, by, &mut part, ids).await {
        Ok(deleted) => {
            part.commit().await?;
            turn.next.deleted += deleted;
            Ok(())
        }
        Err(failure) if failure.category == ErrorCategory::Validation => {
            part.rollback().await?;
            if let [id] = ids {
                turn.next.rejected += 1;
                turn.next.rejection.get_or_insert_with(|| format!("{id}: {}", failure.message));
                return Ok(());
            }
            let (first, second) = ids.split_at(ids.len() / 2);
            Box::pin(delete_marked(turn, by, connection, first)).await?;
            Box::pin(delete_marked(turn, by, connection, second)).await
        }
        Err(failure) => Err(failure),
    }
}

/// Whether the vendor says that it does not have a record any more.
fn is_gone(sync: &Sync, record: &Value) -> bool {
    matches!(&sync.deletions, Deletions::Flagged(flag) if flag.marks(record))
}

/// Whether so many of what was there before are most of it, and not just a few.
const fn is_most(unmet: i64, before: i64) -> bool {
    unmet > FEW && unmet.saturating_mul(2) > before
}

/// An answer that lacks so much is a fault of the vendor more often than the truth.
fn too_many(turn: &Turn, unmet: i64, before: i64) -> Failure {
    let message = format!(
        "the vendor's answer lacks {unmet} of {before} records that were there before, so they would be deleted; none was. If that is right, \
         for example because it asks for something else now, run it once with confirmDeletions (`weft syncs run {} {} --confirm-deletions`); if not, resume it when the vendor answers in full",
        turn.app.id, turn.poll.name
    );
    Failure::new(TOO_MANY_DELETIONS, ErrorCategory::Validation, message)
}

fn entity<'a>(app: &'a App, sync: &Sync) -> Result<&'a Entity, Failure> {
    let unknown = || data::Error::UnknownEntity { app: app.id.to_string(), entity: sync.entity.clone() };
    app.entities.get(&sync.entity).ok_or_else(unknown).map_err(Failure::from)
}

fn of_connection(turn: &Turn, sync: &Sync) -> Option<(String, Value)> {
    turn.poll.connection_id.map(|id| (sync.connection_field.clone(), Value::String(id.to_string())))
}

/// Records belong to whoever the connection belongs to, where they belong to somebody.
async fn keeper<'a>(
    turn: &Turn,
    (app, sync, entity): (&'a App, &Sync, &'a Entity),
    trace: TraceId,
) -> Result<Keeper<'a>, Failure> {
    let mut on = vec![sync.id_field.clone()];
    on.extend(turn.poll.connection_id.map(|_| sync.connection_field.clone()));
    let owner = if let Some(connection) = turn.poll.connection_id.filter(|_| entity.is_owned()) {
        store::find_owner(&mut *turn.node.pool.acquire().await?, connection).await?
    } else {
        None
    };
    let (actor, owner) = (UserId::from(turn.poll.user_id), owner.map(UserId::from));
    Ok(Keeper { tenant: &app.tenant, entity, on, actor, owner, trace, now: turn.node.clock.now() })
}

/// What each record is in the entity. All get the same fields: one that a record does not have is null.
fn rows(entity: &Entity, sync: &Sync, connection: Option<&str>, records: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let own = |name: &str| name == sync.id_field || (connection.is_some() && name == sync.connection_field);
    let pointers: Vec<(String, String)> = if let Some(fields) = &sync.fields {
        fields.iter().map(|(name, pointer)| (name.clone(), pointer.clone())).collect()
    } else {
        let members = records.iter().filter_map(|(_, record)| record.as_object()).flat_map(Map::keys);
        let named: BTreeSet<&String> = members.filter(|name| entity.is_writable(name) && !own(name)).collect();
        named.into_iter().map(|name| (name.clone(), format!("/{}", name.replace('~', "~0").replace('/', "~1")))).collect()
    };
    let row = |(id, record): (String, Value)| {
        let mut row: Map<String, Value> =
            pointers.iter().map(|(name, pointer)| (name.clone(), record.pointer(pointer).cloned().unwrap_or_default())).collect();
        row.insert(sync.id_field.clone(), Value::String(id.clone()));
        row.extend(connection.map(|connection| (sync.connection_field.clone(), Value::String(connection.to_owned()))));
        (id, Value::Object(row))
    };
    records.into_iter().map(row).collect()
}

/// Deletes some records of a connection that is gone, of a sync that says so. Whether there may be more.
pub async fn delete_left(node: &Node, (app, sync): (&App, &Sync), connection: Uuid) -> Result<bool, Failure> {
    let entity = entity(app, sync)?;
    let keeper = Keeper {
        tenant: &app.tenant,
        entity,
        on: Vec::new(),
        actor: UserId::from(Uuid::nil()),
        owner: None,
        trace: TraceId::generate(),
        now: node.clock.now(),
    };
    let mut condition = Map::new();
    condition.insert(sync.connection_field.clone(), Value::String(connection.to_string()));
    let mut held = node.records.acquire(&app.id).await?;
    let mut transaction = held.begin().await?;
    let deleted = keeper.delete(&mut transaction, &Value::Object(condition), DELETED).await?;
    transaction.commit().await?;
    Ok(deleted >= i64::from(DELETED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sync(more: &Value) -> Sync {
        let mut sync = json!({ "name": "people", "action": "list", "every": "1 hour", "entity": "people" });
        sync.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        serde_json::from_value(sync).expect("a sync")
    }

    fn entity() -> Entity {
        let fields = ["external_id", "connection_id", "name", "mail"].map(|name| json!({ "name": name, "type": "text" }));
        Entity::new("crm", serde_json::from_value(json!({ "entityName": "people", "fields": fields })).expect("an entity"))
    }

    fn records() -> Vec<(String, Value)> {
        let first = json!({ "id": 1, "name": "Ann", "connection_id": "forged", "unknown": 1 });
        vec![("1".to_owned(), first), ("2".to_owned(), json!({ "id": 2, "mail": "b@example.com", "deep": { "name": "Bea" } }))]
    }

    #[test]
    fn most_of_what_was_there_is_more_than_half_and_more_than_a_few() {
        let asked = [(20, 20), (21, 21), (21, 42), (22, 42), (1_000, 10_000), (5_001, 10_000)]
            .map(|(unmet, before)| is_most(unmet, before));
        assert_eq!(asked, [false, true, false, true, false, true]);
    }

    #[test]
    fn members_go_to_the_fields_of_their_names_and_what_one_lacks_is_null() {
        let rows = rows(&entity(), &sync(&json!({})), Some("c1"), records());
        let whole = |id: &str, name: Value, mail: Value| {
            (id.to_owned(), json!({ "external_id": id, "connection_id": "c1", "name": name, "mail": mail }))
        };
        let expected = vec![whole("1", json!("Ann"), Value::Null), whole("2", Value::Null, json!("b@example.com"))];
        assert_eq!(rows, expected);
    }

    #[test]
    fn with_a_mapping_only_what_it_names_is_taken() {
        let rows = rows(&entity(), &sync(&json!({ "fields": { "name": "/deep/name" } })), None, records());
        let names: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        assert_eq!(names, [json!({ "external_id": "1", "name": null }), json!({ "external_id": "2", "name": "Bea" })]);
    }
}
