//! The record of changes in the database.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;
use weft_model::TenantId;

/// One change of one record.
#[derive(sqlx::FromRow)]
pub struct Row {
    pub id: i64,
    pub app_id: String,
    pub entity: String,
    pub record_id: String,
    pub operation: String,
    pub old_record: Option<Value>,
    pub new_record: Option<Value>,
    pub actor_id: Option<Uuid>,
    pub delegator_id: Option<Uuid>,
    pub trigger_ref: Option<String>,
    pub trace_id: Option<String>,
    pub changed_at: DateTime<Utc>,
}

/// What the list may be filtered and sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Id,
    App,
    Entity,
    Record,
    Operation,
    Actor,
    Delegator,
    Trigger,
    ChangedAt,
}

impl Column {
    const fn sql(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::App => "app_id",
            Self::Entity => "entity",
            Self::Record => "record_id",
            Self::Operation => "operation",
            Self::Actor => "actor_id::text",
            Self::Delegator => "delegator_id::text",
            Self::Trigger => "trigger_ref",
            Self::ChangedAt => "changed_at",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Is,
    IsNot,
    Contains,
    From,
    Until,
}

/// One condition of the list.
#[derive(Debug, Clone)]
pub struct Condition {
    pub column: Column,
    pub comparison: Comparison,
    pub value: Bound,
}

#[derive(Debug, Clone)]
pub enum Bound {
    Text(String),
    Time(DateTime<Utc>),
}

#[derive(Debug, Clone)]
pub struct Filter {
    pub conditions: Vec<Condition>,
    /// Only those with a smaller id.
    pub before: Option<i64>,
    /// Only those with a greater id.
    pub after: Option<i64>,
    pub order: Column,
    pub ascending: bool,
    pub limit: i64,
}

pub async fn list(connection: &mut PgConnection, tenant: &TenantId, filter: &Filter) -> sqlx::Result<Vec<Row>> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select id, app_id, entity, record_id, operation, old_record, new_record, actor_id, delegator_id, trigger_ref, trace_id, \
         changed_at from data_audit where tenant_id = ",
    );
    query.push_bind(tenant.as_str());
    for condition in &filter.conditions {
        query.push(" and ").push(condition.column.sql());
        let (operator, text) = match (condition.comparison, &condition.value) {
            (Comparison::Contains, Bound::Text(text)) => (" ilike ", Some(format!("%{}%", escape(text)))),
            (Comparison::IsNot, _) => (" is distinct from ", None),
            (Comparison::From, _) => (" >= ", None),
            (Comparison::Until, _) => (" <= ", None),
            _ => (" = ", None),
        };
        query.push(operator);
        match (&condition.value, text) {
            (_, Some(pattern)) => query.push_bind(pattern),
            (Bound::Text(text), None) => query.push_bind(text.clone()),
            (Bound::Time(time), None) => query.push_bind(*time),
        };
    }
    if let Some(id) = filter.before {
        query.push(" and id < ").push_bind(id);
    }
    if let Some(id) = filter.after {
        query.push(" and id > ").push_bind(id);
    }
    let direction = if filter.ascending { "asc" } else { "desc" };
    query.push(format!(" order by {} {direction}, id {direction} limit ", filter.order.sql())).push_bind(filter.limit);
    query.build_query_as().fetch_all(connection).await
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

pub async fn prepare(connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("select weft_audit_prepare($1) is null as prepared", now).fetch_one(connection).await?;
    Ok(())
}

/// Drops what was recorded before a time. Returns how many months.
pub async fn prune(connection: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<i32> {
    sqlx::query_scalar!("select weft_audit_prune($1) as \"dropped!\"", before).fetch_one(connection).await
}
