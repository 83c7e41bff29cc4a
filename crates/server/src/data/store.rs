//! Running what `weft-data` says. The statements are made for an app's own tables, so they cannot be checked at compile time; all
//! values in them are binds.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;
use weft_data::{Catalogue, Plan, Sql, catalogue};
use weft_model::{
    AppId,
    contract::{Cell, Kind},
};

/// Longer statements are rare, so a connection does not remember how they are prepared.
const REMEMBERED: usize = 8_000;

type Bound<'q> = Query<'q, Postgres, PgArguments>;

/// The only row of a statement's answer, if it has one.
pub async fn row(connection: &mut PgConnection, sql: Sql) -> sqlx::Result<Option<PgRow>> {
    bound(sql).fetch_optional(connection).await
}

pub async fn rows(connection: &mut PgConnection, sql: Sql) -> sqlx::Result<Vec<PgRow>> {
    bound(sql).fetch_all(connection).await
}

fn bound(sql: Sql) -> Bound<'static> {
    let remembered = sql.text.len() < REMEMBERED;
    let query = sqlx::query(AssertSqlSafe(sql.text)).persistent(remembered);
    sql.binds.into_iter().fold(query, bind)
}

fn bind(query: Bound<'_>, (cell, kind): (Cell, Kind)) -> Bound<'_> {
    match cell {
        Cell::Null => bind_null(query, kind),
        Cell::Text(text) => query.bind(text),
        Cell::Number(number) => query.bind(number),
        Cell::Boolean(value) => query.bind(value),
        Cell::Date(date) => query.bind(date),
        Cell::Timestamp(time) => query.bind(time),
        Cell::Json(value) => query.bind(value),
        Cell::Uuid(id) => query.bind(id),
        Cell::TextList(texts) => query.bind(texts),
        Cell::NumberList(numbers) => query.bind(numbers),
    }
}

fn bind_null(query: Bound<'_>, kind: Kind) -> Bound<'_> {
    match kind {
        Kind::Text => query.bind(None::<String>),
        Kind::Number => query.bind(None::<f64>),
        Kind::Boolean => query.bind(None::<bool>),
        Kind::Date => query.bind(None::<NaiveDate>),
        Kind::Timestamp => query.bind(None::<DateTime<Utc>>),
        Kind::Json => query.bind(None::<Value>),
        Kind::Uuid => query.bind(None::<Uuid>),
        Kind::TextList => query.bind(None::<Vec<String>>),
        Kind::NumberList => query.bind(None::<Vec<f64>>),
    }
}

/// Lets nobody else plan or change the tables of an app until the transaction ends.
pub async fn lock_schema(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", format!("schema {app}")).fetch_one(connection).await?;
    Ok(())
}

/// How long a change of tables waits for requests that use them.
pub async fn bound_waiting(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select set_config('lock_timeout', '10s', true)").fetch_one(connection).await?;
    Ok(())
}

/// The tables of an app as they are.
pub async fn find_catalogue(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<Catalogue> {
    let text: String = sqlx::query_scalar(catalogue::READ).bind(app.as_str()).fetch_one(connection).await?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Whether names without a schema may be looked up in the schema of that name: one could hide the server's own tables in it.
pub async fn is_searched(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        "select $1 in (current_user::text, session_user::text) or $1 = any(current_schemas(true)::text[]) as \"searched!\"",
        app.as_str(),
    )
    .fetch_one(connection)
    .await
}

/// Whether there is a schema for the tables of an app that was made for it, and not one of that name that is somebody else's.
pub async fn has_own_schema(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<bool> {
    let catalogue = find_catalogue(connection, app).await?;
    Ok(catalogue.exists && !catalogue.is_foreign() && !is_searched(connection, app).await?)
}

pub async fn execute_plan(connection: &mut PgConnection, plan: &Plan) -> sqlx::Result<()> {
    for statement in plan.steps.iter().flat_map(|step| &step.sql) {
        // One statement at a time, as the extended protocol takes no more: text from a manifest cannot add another.
        sqlx::query(AssertSqlSafe(statement.clone())).persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Makes the schema of an app, marked as one.
pub async fn create_schema(connection: &mut PgConnection, app: &AppId, mark: &str) -> sqlx::Result<()> {
    let name = weft_data::sql::ident(app.as_str());
    for statement in [format!("create schema {name}"), format!("comment on schema {name} is {}", weft_data::sql::literal(mark))] {
        sqlx::query(AssertSqlSafe(statement)).persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

pub async fn drop_schema(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<()> {
    let statement = format!("drop schema {} cascade", weft_data::sql::ident(app.as_str()));
    sqlx::query(AssertSqlSafe(statement)).persistent(false).execute(connection).await?;
    Ok(())
}
