//! `ctx.collection`: the operations of a backend on records, by the same rights and statements as the REST routes.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use weft_data::{
    read::{LONGEST_PAGE, Query, parse_cursor},
    write,
};
use weft_model::{AppId, Fault};

use super::{Asker, Error, read, written};
use crate::{
    data::{
        self,
        records::{Collection, Found, Way},
    },
    http::trace::{self, Origin},
    node::Node,
};

/// What one answer may hold; a line to a backend is not longer.
const LARGEST: usize = 8 * 1024 * 1024;

#[derive(Deserialize)]
struct Operation {
    op: String,
    entity: String,
    #[serde(default)]
    data: Value,
}

/// Performs one operation as the caller.
pub async fn perform(node: &Arc<Node>, asker: &Asker, message: &RawValue) -> Result<Box<RawValue>, Error> {
    let operation: Operation = read(message)?;
    let origin = Origin { trace: asker.trace, address: None };
    trace::within(origin, async {
        let app = &asker.app;
        let collection =
            Collection::open(node, &asker.caller, app, operation.entity.clone()).await?.by(Way::Collection, asker.hops);
        let work = Work { app, collection, entity: &operation.entity };
        match operation.op.as_str() {
            "insert" => work.insert(&operation.data).await,
            "update" => work.update(operation.data).await,
            "delete" => work.delete(&operation.data).await,
            "find" | "list" => work.find(operation.data).await,
            "findOne" => work.find_one(operation.data).await,
            "query" => work.query(&operation.data).await,
            other => Err(Error::Invalid(format!("unsupported op: {other}"))),
        }
    })
    .await
}

struct Work<'a> {
    app: &'a AppId,
    collection: Collection,
    entity: &'a str,
}

impl Work<'_> {
    /// Refuses whoever lacks a right, as a route does before it looks at anything.
    fn needs(&self, right: &str) -> Result<(), Error> {
        let key = format!("app:{}:{}.{right}", self.app, self.entity);
        let allowed = self.collection.caller.permissions.allows(&key);
        if allowed { Ok(()) } else { Err(data::Error::Denied(key).into()) }
    }

    async fn insert(&self, body: &Value) -> Result<Box<RawValue>, Error> {
        self.needs("create")?;
        let values = write::new_values(self.collection.entity()?, body, "$").map_err(data::Error::from)?;
        raw(self.collection.create(values).await?)
    }

    async fn update(&self, mut body: Value) -> Result<Box<RawValue>, Error> {
        self.needs("update")?;
        let id = id_of(&body)?.to_owned();
        if let Some(members) = body.as_object_mut() {
            members.remove("id");
            if members.is_empty() {
                return Err(Error::Invalid("no fields to update".to_owned()));
            }
        }
        let values = write::values(self.collection.entity()?, &body, "$").map_err(data::Error::from)?;
        raw(self.collection.update(&id, values, None).await?)
    }

    async fn delete(&self, body: &Value) -> Result<Box<RawValue>, Error> {
        self.needs("delete")?;
        let id = id_of(body)?;
        self.collection.delete(id, None).await?;
        written(&json!({ "id": id }))
    }

    /// Every record that meets a condition, page by page until there are no more.
    async fn find(&self, condition: Value) -> Result<Box<RawValue>, Error> {
        let mut query = self.asked(condition)?;
        query.limit = LONGEST_PAGE;
        let shapes = self.collection.view(&query).await?;
        let mut found = String::from("[");
        loop {
            let page = self.collection.page(query.clone(), &shapes).await?;
            let records = page.data.trim_start_matches('[').trim_end_matches(']').trim();
            if found.len() > 1 && !records.is_empty() {
                found.push(',');
            }
            found.push_str(records);
            if found.len() > LARGEST {
                return Err(Error::TooLarge);
            }
            match page.next.as_deref().and_then(|cursor| parse_cursor(&query.order, cursor)) {
                Some(after) => query.after = Some(after),
                None => break,
            }
        }
        found.push(']');
        raw(found)
    }

    async fn find_one(&self, condition: Value) -> Result<Box<RawValue>, Error> {
        let mut query = self.asked(condition)?;
        query.limit = 1;
        let shapes = self.collection.view(&query).await?;
        let page = self.collection.page(query, &shapes).await?;
        let records: Vec<Box<RawValue>> =
            serde_json::from_str(&page.data).map_err(|error| Error::Database(sqlx::Error::Decode(error.into())))?;
        Ok(records.into_iter().next().unwrap_or_else(|| RawValue::NULL.to_owned()))
    }

    /// A page, as `POST …/query` gives it.
    async fn query(&self, options: &Value) -> Result<Box<RawValue>, Error> {
        self.needs("read")?;
        let query = Query::parse(self.collection.entity()?, options).map_err(data::Error::from)?;
        let shapes = self.collection.view(&query).await?;
        let page = self.collection.page(query, &shapes).await?;
        raw(Found::text(page.data, page.total, page.next)?)
    }

    fn asked(&self, condition: Value) -> Result<Query, Error> {
        self.needs("read")?;
        let condition = if condition.is_null() { json!({}) } else { condition };
        let options = json!({ "where": condition, "total": false });
        Ok(Query::parse(self.collection.entity()?, &options).map_err(data::Error::from)?)
    }
}

fn id_of(body: &Value) -> Result<&str, Error> {
    let missing = || data::Error::Invalid(vec![Fault::new("$.id", "is required: it says which record")]);
    Ok(body.get("id").and_then(Value::as_str).ok_or_else(missing)?)
}

fn raw(json: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(json).map_err(|error| Error::Database(sqlx::Error::Decode(error.into())))
}
