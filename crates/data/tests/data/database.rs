//! A PostgreSQL of the test's own, and running what the crate says.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tempfile::TempDir;
use uuid::Uuid;
use weft_data::{Catalogue, Plan, Sql, catalogue};
use weft_model::{
    Manifest,
    contract::{Cell, Entity, Kind},
};
use weft_postgres::{Binaries, Cluster, Settings};

const MIGRATIONS: [&str; 2] =
    [include_str!("../../../../migrations/0050_data.sql"), include_str!("../../../../migrations/0085_sql_of_backends.sql")];
const PLATFORM: &str = "create table apps (id text, tenant_id text); create table users (id uuid primary key);";

pub struct Database {
    pub connection: PgConnection,
    cluster: Cluster,
    _folder: TempDir,
}

impl Database {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("the folder is ours");
        let configured = std::env::var_os("WEFT_RUNTIME_DIR").map(PathBuf::from);
        let runtime = configured.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../runtime")));
        let mut settings = Settings::new(folder.path().to_owned(), Binaries::find(&[runtime]).expect("PostgreSQL"));
        settings.options.insert("fsync".to_owned(), "off".to_owned());
        let cluster = Cluster::start(settings).await.expect("the cluster starts");
        let mut connection = PgConnection::connect(&cluster.connection().url()).await.expect("a connection");
        for script in [PLATFORM].into_iter().chain(MIGRATIONS) {
            sqlx::raw_sql(script).execute(&mut connection).await.expect("the migration runs");
        }
        Self { connection, cluster, _folder: folder }
    }

    pub async fn stop(self) {
        self.connection.close().await.expect("closed");
        self.cluster.stop().await.expect("stopped");
    }

    pub async fn catalogue(&mut self, schema: &str) -> Catalogue {
        let text: String =
            sqlx::query_scalar(catalogue::READ).bind(schema).fetch_one(&mut self.connection).await.expect("a snapshot");
        serde_json::from_str(&text).expect("the snapshot fits")
    }

    /// Carries a plan out, all or nothing.
    pub async fn apply(&mut self, plan: &Plan) -> sqlx::Result<()> {
        let mut transaction = self.connection.begin().await?;
        for statement in plan.steps.iter().flat_map(|step| &step.sql) {
            if let Err(error) = sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await {
                transaction.rollback().await?;
                return Err(error);
            }
        }
        transaction.commit().await
    }

    pub async fn row(&mut self, sql: Sql) -> sqlx::Result<PgRow> {
        let query = sqlx::query(AssertSqlSafe(sql.text));
        sql.binds.into_iter().fold(query, bind).fetch_one(&mut self.connection).await
    }

    pub async fn json(&mut self, sql: Sql) -> Value {
        let text = sql.text.clone();
        let row = self.row(sql).await.unwrap_or_else(|error| panic!("{error}: {text}"));
        serde_json::from_str(row.get(0)).expect("JSON")
    }
}

type Bound<'q> = Query<'q, sqlx::Postgres, PgArguments>;

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

/// The contract of a manifest with these entities, if it breaks no rule.
pub fn contract(entities: &Value) -> Option<Vec<Entity>> {
    let manifest = serde_json::json!({ "appId": "app", "name": "App", "dataContract": entities });
    Manifest::parse(manifest).ok().map(|manifest| manifest.content.data_contract)
}
