//! One caller at one entity: what it may see and change, and doing so.

use std::sync::Arc;

use serde_json::json;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use uuid::Uuid;
use weft_data::{
    Entity, Sql,
    read::{self, Expansion, Link, Query, Target, View},
    write::{self, Shown, Stamp, Values},
};
use weft_model::{AppId, Principal, RunId, UserId, contract::CORE_USERS};

use super::together::Together;
use crate::{
    apps::{self, App},
    data::{Error, backend::actor, store},
    http::trace,
    node::Node,
};

/// The way by which records are changed, as the audit names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A request.
    Api,
    /// A backend, while it works on a call.
    Collection,
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Collection => "collection",
        }
    }
}

/// A caller at an entity.
pub struct Collection {
    node: Arc<Node>,
    pub caller: Arc<Principal>,
    app: Arc<App>,
    name: String,
    way: Way,
    /// How many reactions to changes of records led here.
    hops: u8,
}

/// A page of records as PostgreSQL made it.
pub struct Page {
    /// JSON, or lines of it.
    pub data: String,
    /// The cursor to the next page.
    pub next: Option<String>,
    pub total: Option<i64>,
}

impl Collection {
    /// Finds the entity. One that nobody declared is not found, in whichever way it is missing.
    pub async fn open(node: &Arc<Node>, caller: &Arc<Principal>, app: &AppId, name: String) -> Result<Self, Error> {
        let unknown = |entity: String| Error::UnknownEntity { app: app.to_string(), entity };
        let app = match node.apps.get(&caller.tenant, app).await {
            Ok(app) if app.entities.contains_key(&name) => app,
            Ok(_) | Err(apps::Error::Unknown(_)) => return Err(unknown(name)),
            Err(error) => return Err(Error::App(Box::new(error))),
        };
        Ok(Self { node: Arc::clone(node), caller: Arc::clone(caller), app, name, way: Way::Api, hops: 0 })
    }

    /// The same, in another way and after so many reactions to changes.
    #[must_use]
    pub fn by(mut self, way: Way, hops: u8) -> Self {
        (self.way, self.hops) = (way, hops);
        self
    }

    pub fn entity(&self) -> Result<&Entity, Error> {
        let unknown = || Error::UnknownEntity { app: self.app.id.to_string(), entity: self.name.clone() };
        self.app.entities.get(&self.name).ok_or_else(unknown)
    }

    /// Whether the caller has a right to an entity of the app.
    fn may(&self, entity: &str, right: &str) -> bool {
        self.caller.permissions.allows(&key(&self.app.id, entity, right))
    }

    /// Whose records alone the caller sees, where that is restricted.
    pub fn owner(&self) -> Result<Option<Uuid>, Error> {
        Ok(self.owner_at(&self.app.id, self.entity()?))
    }

    fn owner_at(&self, app: &AppId, entity: &Entity) -> Option<Uuid> {
        owner_of(&self.caller, app, entity)
    }

    /// Who changes something, and when.
    fn stamp(&self) -> Result<Stamp, Error> {
        let now = self.node.clock.now();
        let (actor, tenant) = (actor(&self.caller), &self.caller.tenant);
        let trace = trace::current().to_string();
        let (way, hops) = (self.way.as_str(), self.hops);
        let audit =
            json!({ "actor": actor, "tenant": tenant, "trigger": way, "trace": trace, "at": now, "hops": hops }).to_string();
        let shown = if self.may(&self.name, "read") { Shown::Record } else { Shown::Id };
        Ok(Stamp { audit, now, author: actor.map(UserId::as_uuid), owner: self.owner()?, shown })
    }

    fn fresh_id(&self) -> Uuid {
        RunId::generate(self.node.clock.now()).as_uuid()
    }

    async fn row(&self, sql: Sql) -> Result<Option<PgRow>, Error> {
        row(&self.node, &mut *self.node.records.acquire(&self.app.id).await?, sql).await
    }

    async fn text(&self, sql: Sql) -> Result<Option<String>, Error> {
        Ok(self.row(sql).await?.map(|row| row.try_get(0)).transpose()?)
    }

    async fn count(&self, sql: Sql) -> Result<i64, Error> {
        Ok(self.row(sql).await?.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    /// What each record shows, as far as the caller may see it.
    pub async fn view(&self, query: &Query) -> Result<Shapes, Error> {
        let mut linked = Vec::new();
        if let (Some(wanted), Some(kind)) = (&query.linked, &self.entity()?.contract.identity_kind) {
            linked = of_kind(&self.node, &self.caller, kind).await?;
            linked.retain(|(app, _)| app.id != self.app.id && (wanted.is_empty() || wanted.contains(&app.id.to_string())));
        }
        Ok(Shapes { select: query.select.clone(), expand: query.expand.clone(), linked })
    }

    fn shaped<'a>(&'a self, shapes: &'a Shapes) -> Result<View<'a>, Error> {
        let expand = shapes.expand.iter().map(|field| self.expansion(field)).collect::<Result<_, _>>()?;
        let linked = shapes.linked.iter().filter_map(|(app, name)| {
            let entity = app.entities.get(name)?;
            Some(Link { app: app.id.to_string(), entity, owner: self.owner_at(&app.id, entity) })
        });
        Ok(View { select: shapes.select.clone(), expand, linked: linked.collect() })
    }

    fn expansion(&self, field: &str) -> Result<Expansion<'_>, Error> {
        let reference = self.entity()?.contract.field(field).and_then(|field| field.references.as_ref());
        let target = reference.map(|reference| reference.entity.as_str()).unwrap_or_default();
        let target = if target == CORE_USERS {
            Target::Users { tenant: self.caller.tenant.to_string() }
        } else {
            let unknown = || Error::UnknownEntity { app: self.app.id.to_string(), entity: target.to_owned() };
            let entity = self.app.entities.get(target).ok_or_else(unknown)?;
            if !self.may(target, "read") {
                return Err(Error::Denied(key(&self.app.id, target, "read")));
            }
            Target::Entity(entity, self.owner_at(&self.app.id, entity))
        };
        Ok(Expansion { field: field.to_owned(), target })
    }

    /// One page of what a query finds.
    pub async fn page(&self, mut query: Query, shapes: &Shapes) -> Result<Page, Error> {
        query.owner = self.owner()?;
        let sql = read::page(self.entity()?, &query, &self.shaped(shapes)?);
        let row = self.row(sql).await?.ok_or(sqlx::Error::RowNotFound)?;
        let next = row.try_get::<Option<&str>, _>(1)?.map(read::cursor);
        Ok(Page { data: row.try_get(0)?, next, total: row.try_get(2)? })
    }

    pub async fn aggregate(&self, aggregate: &read::Aggregate) -> Result<String, Error> {
        let sql = aggregate.sql(self.entity()?, self.owner()?);
        Ok(self.text(sql).await?.unwrap_or_default())
    }

    pub async fn get(&self, id: &str, shapes: &Shapes) -> Result<String, Error> {
        let (entity, record, owner) = (self.entity()?, record_id(id)?, self.owner()?);
        let found = if shapes.are_plain() {
            Together::get(&self.node, (&self.app, &self.name), (record, owner)).await?
        } else {
            self.text(read::get(entity, record, owner, &self.shaped(shapes)?)).await?
        };
        found.ok_or_else(|| Error::UnknownRecord(id.to_owned()))
    }

    pub async fn create(&self, values: Values) -> Result<String, Error> {
        let sql = write::create(self.entity()?, self.fresh_id(), values, &self.stamp()?);
        Ok(self.text(sql).await?.unwrap_or_default())
    }

    /// Changes a record; with a tag, only if it still is what the tag says.
    pub async fn update(&self, id: &str, values: Values, tag: Option<&str>) -> Result<String, Error> {
        let sql = write::update(self.entity()?, record_id(id)?, values, tag, &self.stamp()?);
        match self.text(sql).await? {
            Some(record) => Ok(record),
            None => Err(self.missed(id, tag).await?),
        }
    }

    pub async fn delete(&self, id: &str, tag: Option<&str>) -> Result<(), Error> {
        let sql = write::delete(self.entity()?, record_id(id)?, tag, &self.stamp()?);
        match self.text(sql).await? {
            Some(_) => Ok(()),
            None => Err(self.missed(id, tag).await?),
        }
    }

    /// Why a record was not changed: it is not there, or not as the caller has seen it.
    async fn missed(&self, id: &str, tag: Option<&str>) -> Result<Error, Error> {
        let is_there = match tag {
            Some(_) => self.text(read::get(self.entity()?, record_id(id)?, self.owner()?, &View::default())).await?.is_some(),
            None => false,
        };
        Ok(if is_there { Error::Changed(id.to_owned()) } else { Error::UnknownRecord(id.to_owned()) })
    }

    /// Makes many records, all or none; answers with an array of them.
    pub async fn create_all(&self, records: Vec<Values>) -> Result<String, Error> {
        let ids: Vec<_> = records.iter().map(|_| self.fresh_id()).collect();
        let sql = write::create_all(self.entity()?, records, &ids, &self.stamp()?);
        Ok(self.text(sql).await?.unwrap_or_default())
    }

    /// Makes or changes records by a unique set of fields, all or none. Answers with an array of them, and how many are new.
    pub async fn upsert(&self, records: Vec<Values>, on: &[String]) -> Result<(String, i64, i64), Error> {
        let (count, ids): (_, Vec<_>) = (records.len(), records.iter().map(|_| self.fresh_id()).collect());
        let sql = write::upsert(self.entity()?, records, on, &ids, &self.stamp()?);
        let mut held = self.node.records.acquire(&self.app.id).await?;
        let mut transaction = held.begin().await?;
        let row = row(&self.node, &mut transaction, sql).await?.ok_or(sqlx::Error::RowNotFound)?;
        let (data, created, written): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if usize::try_from(written).ok() != Some(count) {
            return Err(Error::Conflict("a record with these values belongs to somebody else".to_owned()));
        }
        if written > created && !self.may(&self.name, "update") {
            return Err(Error::Denied(key(&self.app.id, &self.name, "update")));
        }
        transaction.commit().await?;
        Ok((data, created, written - created))
    }

    pub async fn update_all(&self, condition: &weft_data::Condition, values: Values) -> Result<i64, Error> {
        self.count(write::update_all(self.entity()?, condition, values, &self.stamp()?)).await
    }

    pub async fn delete_all(&self, condition: &weft_data::Condition) -> Result<i64, Error> {
        self.count(write::delete_all(self.entity()?, condition, &self.stamp()?)).await
    }
}

/// What comes along with each record, resolved for a caller.
#[derive(Default)]
pub struct Shapes {
    select: Vec<String>,
    expand: Vec<String>,
    linked: Vec<(Arc<App>, String)>,
}

impl Shapes {
    /// Whether records show all of themselves and nothing else.
    pub fn are_plain(&self) -> bool {
        self.select.is_empty() && self.expand.is_empty() && self.linked.is_empty()
    }
}

/// Every entity of a kind of identity, in any app of the caller's tenant, whose records the caller may read.
pub async fn of_kind(node: &Arc<Node>, caller: &Principal, kind: &str) -> Result<Vec<(Arc<App>, String)>, Error> {
    let boxed = |error| Error::App(Box::new(error));
    let mut found = Vec::new();
    for id in node.apps.list_ids(&caller.tenant, Some(kind)).await.map_err(boxed)? {
        let app = match node.apps.get(&caller.tenant, &id).await {
            Ok(app) => app,
            Err(apps::Error::Unknown(_)) => continue,
            Err(error) => return Err(boxed(error)),
        };
        for (name, entity) in &app.entities {
            let is_kind = entity.contract.identity_kind.as_deref() == Some(kind);
            if is_kind && caller.permissions.allows(&key(&id, name, "read")) {
                found.push((Arc::clone(&app), name.clone()));
            }
        }
    }
    found.sort_by(|left, right| (&left.0.id, &left.1).cmp(&(&right.0.id, &right.1)));
    Ok(found)
}

/// The only row of a statement's answer, if it has one. Where the tables are not as this server remembers them, it forgets.
pub async fn row(node: &Node, connection: &mut PgConnection, sql: Sql) -> Result<Option<PgRow>, Error> {
    noticed(node, store::row(connection, sql).await.map_err(Error::from))
}

/// All rows of a statement's answer.
pub async fn rows(node: &Node, connection: &mut PgConnection, sql: Sql) -> Result<Vec<PgRow>, Error> {
    noticed(node, store::rows(connection, sql).await.map_err(Error::from))
}

fn noticed<T>(node: &Node, result: Result<T, Error>) -> Result<T, Error> {
    if matches!(result, Err(Error::Moved)) {
        // The notification may still be on its way.
        node.apps.forget();
    }
    result
}

/// Whose records alone a caller sees of an entity, where that is restricted.
pub fn owner_of(caller: &Principal, app: &AppId, entity: &Entity) -> Option<Uuid> {
    let manages = || caller.permissions.allows(&key(app, entity.name(), "manage"));
    (entity.is_owned() && !manages()).then(|| caller.id.as_uuid())
}

fn key(app: &AppId, entity: &str, right: &str) -> String {
    format!("app:{app}:{entity}.{right}")
}

fn record_id(text: &str) -> Result<Uuid, Error> {
    text.parse().map_err(|_| Error::InvalidId(text.chars().take(80).collect()))
}
