//! The statements around SQL of backends: the server's secret, roles, and the state of connections. Names of roles and schemas cannot be
//! binds; they are quoted, and made by the server.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, error::DatabaseError};
use weft_data::sql::{ident, literal};
use weft_model::AppId;
use weft_vault::Sealed;

/// What PostgreSQL answers when other objects depend on one.
const IN_USE: &str = "2BP01";

/// The row of `weft_sql.access`.
pub struct Stored {
    pub installation: String,
    pub key_version: i32,
    pub sealed: Sealed,
}

/// What the server's own account may do, and what is open to everybody.
pub struct Standing {
    pub is_superuser: bool,
    pub makes_roles: bool,
    pub open_doors: Vec<String>,
}

async fn run(connection: &mut PgConnection, statements: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await?;
    Ok(())
}

/// Lets one at a time work on a role, until the transaction ends.
pub async fn lock_role(connection: &mut PgConnection, role: &str) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", format!("role {role}")).fetch_one(connection).await?;
    Ok(())
}

pub async fn find_access(connection: &mut PgConnection) -> sqlx::Result<Option<Stored>> {
    let row = sqlx::query!("select installation, key_version, sealed from weft_sql.access").fetch_optional(connection).await?;
    Ok(row.map(|row| Stored { installation: row.installation, key_version: row.key_version, sealed: Sealed(row.sealed) }))
}

pub async fn insert_access(
    connection: &mut PgConnection,
    stored: &Stored,
    (inner, outer): (&[u8], &[u8]),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into weft_sql.access (installation, key_version, sealed, inner_pad, outer_pad, created_at) values ($1, $2, $3, $4, $5, $6)",
        stored.installation,
        stored.key_version,
        stored.sealed.0,
        inner,
        outer,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What stands between this database and SQL of backends. What a superuser can close it closes.
pub async fn stand(connection: &mut PgConnection) -> sqlx::Result<Standing> {
    let row =
        sqlx::query!("select rolsuper as \"superuser!\", rolcreaterole as \"roles!\" from pg_roles where rolname = current_user")
            .fetch_one(&mut *connection)
            .await?;
    let mut open_doors = open_doors(connection).await;
    if row.superuser && !matches!(&open_doors, Ok(doors) if doors.is_empty()) {
        sqlx::query!("select weft_sql.close_doors() as \"closed!: ()\"").execute(&mut *connection).await?;
        open_doors = self::open_doors(connection).await;
    }
    Ok(Standing { is_superuser: row.superuser, makes_roles: row.superuser || row.roles, open_doors: open_doors? })
}

async fn open_doors(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select door as \"door!\" from weft_sql.open_doors() as door").fetch_all(connection).await
}

/// The number of the connection's process.
pub async fn backend_pid(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get_unchecked(0)
}

/// Ends the process of a connection that was lost, unless the number has passed to somebody else.
pub async fn terminate(connection: &mut PgConnection, pid: i32, role: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_terminate_backend(pid) as \"ended!\" from pg_stat_activity where pid = $1 and usename = $2 and state <> 'idle'",
        pid,
        role,
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Prepares a statement of a backend. Not as raw SQL: that would take several statements.
pub async fn prepare(connection: &mut PgConnection, text: &str) -> sqlx::Result<()> {
    let prepare = AssertSqlSafe(format!("prepare weft_statement as {text}"));
    sqlx::query(prepare).persistent(false).execute(connection).await?;
    Ok(())
}

/// What executes it, with its parameters in brackets.
pub fn execution(arguments: &str) -> String {
    format!("execute weft_statement{arguments}")
}

/// The types of its parameters, as the text of an array.
pub async fn find_parameter_types(connection: &mut PgConnection) -> sqlx::Result<String> {
    let find = "select parameter_types::text from pg_prepared_statements where name = 'weft_statement'";
    sqlx::raw_sql(find).fetch_one(connection).await?.try_get_unchecked(0)
}

pub async fn forget_statement(connection: &mut PgConnection) -> sqlx::Result<()> {
    run(connection, "deallocate weft_statement".to_owned()).await
}

/// Undoes what is open and forgets what a session remembers.
pub async fn reset(connection: &mut PgConnection) -> sqlx::Result<()> {
    run(&mut *connection, "rollback".to_owned()).await?;
    run(connection, "discard all".to_owned()).await
}

/// Begins a transaction and says its number.
pub async fn begin(connection: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::raw_sql("begin; select pg_current_xact_id()::text").fetch_one(connection).await?.try_get_unchecked(0)
}

/// Runs statements of the server's own on a connection of an app.
pub async fn tell(connection: &mut PgConnection, statements: &str) -> sqlx::Result<()> {
    run(connection, statements.to_owned()).await
}

pub async fn commit(connection: &mut PgConnection) -> sqlx::Result<()> {
    run(connection, "commit".to_owned()).await
}

/// A role of an app's own: new, or with its password as it should be, of which only the verifier is told.
pub async fn put_role(connection: &mut PgConnection, (role, verifier): (&str, &str), about: &str) -> sqlx::Result<()> {
    let known = sqlx::query_scalar!("select true as \"known!\" from pg_roles where rolname = $1", role)
        .fetch_optional(&mut *connection)
        .await?;
    let (verb, name) = (if known.is_some() { "alter" } else { "create" }, ident(role));
    let rights = "login noinherit nosuperuser nocreatedb nocreaterole noreplication nobypassrls";
    // Whoever makes roles without being a superuser may not name what only a superuser may give.
    let rights = if known.is_some() { "login" } else { rights };
    let statements =
        format!("{verb} role {name} {rights} password {}; comment on role {name} is {}", literal(verifier), literal(about));
    run(connection, statements).await
}

/// Lets the server's own account look after what a role owns. Superusers may anyhow.
pub async fn join_role(connection: &mut PgConnection, role: &str) -> sqlx::Result<()> {
    run(connection, format!("grant {} to current_user", ident(role))).await
}

/// Bounds what a role's statements put on disk while they run, and keeps what is in them out of the database's log. Only a superuser can.
pub async fn bound_role(connection: &mut PgConnection, role: &str) -> sqlx::Result<()> {
    let settings = ["temp_file_limit = '256MB'", "log_min_messages = 'fatal'", "log_min_error_statement = 'panic'"];
    let statements = settings.map(|setting| format!("alter role {} set {setting}", ident(role)));
    run(connection, statements.join("; ")).await
}

/// Opens the tables of a schema to a role, those that come later too.
pub async fn open_schema(connection: &mut PgConnection, app: &AppId, role: &str, maker: Option<&str>) -> sqlx::Result<()> {
    let (schema, role) = (ident(app.as_str()), ident(role));
    let statements = format!(
        "grant usage on schema {schema} to {role}; grant select, insert, update, delete on all tables in schema {schema} to {role}; \
         grant usage, select on all sequences in schema {schema} to {role}; \
         alter default privileges in schema {schema} grant select, insert, update, delete on tables to {role}"
    );
    let Some(maker) = maker else {
        // Who makes tables: not to be had by what a backend runs.
        return run(connection, format!("{statements}; grant create on schema {schema} to {role}")).await;
    };
    let by = format!("; alter default privileges for role {} in schema {schema} grant", ident(maker));
    let tables = "select, insert, update, delete on tables";
    run(connection, format!("{statements}{by} {tables} to {role}{by} usage, select on sequences to {role}")).await
}

/// The migrations of an app that were applied, with their digests.
pub async fn list_migrations(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<Vec<(String, Vec<u8>)>> {
    let rows =
        sqlx::query!("select file, digest from schema_migrations where app_id = $1", app.as_str()).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.file, row.digest)).collect())
}

/// Notes, as the app, that a file was applied. Fails outside of the transaction that the file began in.
pub async fn note_migration(connection: &mut PgConnection, file: &str, digest: &[u8]) -> sqlx::Result<()> {
    run(connection, format!("select weft_sql.migrated({}, '\\x{}'::bytea)", literal(file), hex::encode(digest))).await
}

/// Whether there is an app of that id, which nobody removes before the transaction ends.
pub async fn keep_app(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!("select true as \"there!\" from apps where id = $1 for key share", app.as_str());
    Ok(found.fetch_optional(connection).await?.is_some())
}

/// Removes the roles of an app, once its schema is gone.
pub async fn drop_roles(connection: &mut PgConnection, app: &AppId) -> sqlx::Result<()> {
    let Some(stored) = find_access(connection).await? else { return Ok(()) };
    for role in super::role::names(&stored.installation, app) {
        let known = sqlx::query_scalar!("select true as \"known!\" from pg_roles where rolname = $1", role)
            .fetch_optional(&mut *connection)
            .await?;
        if known.is_some() {
            run(connection, format!("drop owned by {} cascade", ident(&role))).await?;
            drop_role(connection, &role).await?;
        }
    }
    Ok(())
}

/// Removes a role, unless something elsewhere in the cluster hangs on it.
async fn drop_role(connection: &mut PgConnection, role: &str) -> sqlx::Result<()> {
    let mut attempt = connection.begin().await?;
    match run(&mut attempt, format!("drop role {}", ident(role))).await {
        Ok(()) => attempt.commit().await,
        Err(error) if error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == IN_USE) => {
            tracing::warn!(role, %error, "a role of an app that is gone stays in the database");
            attempt.rollback().await
        }
        Err(error) => Err(error),
    }
}
