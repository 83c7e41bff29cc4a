//! Random walks between contracts. Whatever the walk, a second plan finds nothing to do, a refused plan changes nothing, and every
//! value is kept that no step said it would lose.

use std::collections::BTreeMap;

use chrono::DateTime;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngSeed, TestRunner},
};
use serde_json::{Map, Value, json};
use sqlx::error::DatabaseError;
use uuid::Uuid;
use weft_data::{
    Entity, Sql,
    plan::{Change, Plan, plan},
    write,
};
use weft_model::contract;

use crate::database::{Database, contract as parse};

const WALKS: usize = 40;
const STEPS: usize = 5;
const KINDS: [&str; 9] = ["text", "number", "boolean", "date", "timestamp", "json", "uuid", "[text]", "[number]"];

/// Words that the server's own statements use too, and one that PostgreSQL keeps for itself.
const NAMES: [&str; 5] = ["x", "t", "tenant", "new_rows", "select"];

fn example(kind: &str, seed: u8) -> Value {
    match kind {
        "text" => json!(["red", "green", "it's \\ \"quoted\"", "7"][usize::from(seed) % 4]),
        "number" => json!(f64::from(seed) / 4.0),
        "boolean" => json!(seed.is_multiple_of(2)),
        "date" => json!(format!("2024-02-{:02}", seed % 28 + 1)),
        "timestamp" => json!(format!("2024-03-01T{:02}:00:00.25+00:00", seed % 24)),
        "json" => json!({ "n": seed }),
        "uuid" => json!(Uuid::from_u128(u128::from(seed))),
        "[text]" => json!(["a", seed.to_string()]),
        _ => json!([seed, 0.5]),
    }
}

fn field() -> impl Strategy<Value = Value> {
    let shape = (0..5_u8, 0..KINDS.len(), any::<u8>());
    (shape, any::<[bool; 6]>(), 0..5_u8).prop_map(
        |((name, kind, seed), [required, default, values, link, unique, renamed], old)| {
            let kind = KINDS[kind];
            let mut field = json!({ "name": NAMES[usize::from(name)], "type": kind, "required": required });
            if default {
                field["default_value"] = example(kind, seed);
            }
            if kind == "text" && values {
                field["enumValues"] = json!(["red", "green", "it's \\ \"quoted\"", "7"]);
            }
            if kind == "uuid" && link && !default {
                let target = ["a", "b", "core:users"][usize::from(seed) % 3];
                field["references"] = json!({ "entity": target });
            }
            if unique && kind == "number" && !default {
                field["unique"] = json!(true);
            }
            if renamed {
                field["renamedFrom"] = json!(NAMES[usize::from(old)]);
            }
            field
        },
    )
}

fn entity() -> impl Strategy<Value = Value> {
    (0..3_u8, prop::collection::vec(field(), 1..5), any::<[bool; 5]>(), 0..3_u8).prop_map(
        |(name, mut fields, [renamed, owned, search, indexed, checked], old)| {
            let mut seen = Vec::new();
            fields.retain(|field| {
                !seen.contains(&field["name"]) && {
                    seen.push(field["name"].clone());
                    true
                }
            });
            let first = fields[0].clone();
            let name = ["a", "b", "c"][usize::from(name)];
            let mut entity = json!({ "entityName": name, "fields": fields });
            if renamed {
                entity["renamedFrom"] = json!(["a", "b", "c"][usize::from(old)]);
            }
            if owned {
                entity["access"] = json!("owner");
            }
            if search && first["type"] == "text" {
                entity["search"] = json!([first["name"]]);
                entity["identityKind"] = json!("thing");
                entity["identityKey"] = first["name"].clone();
            }
            if indexed {
                entity["indexes"] =
                    json!([{ "columns": [{ "column": first["name"], "sort": "desc", "nulls": "last" }, "created_at"] }]);
            }
            if checked && first["type"] == "number" {
                entity["checks"] = json!([{ "expr": format!("{} >= 0", first["name"].as_str().unwrap_or_default()) }]);
            }
            entity
        },
    )
}

/// Contracts that break no rule.
fn contracts() -> impl Strategy<Value = Vec<contract::Entity>> {
    prop::collection::vec(entity(), 1..4).prop_filter_map("breaks a rule", |entities| parse(&Value::Array(entities)))
}

type Records = BTreeMap<String, Map<String, Value>>;
type Tables = BTreeMap<String, Records>;

async fn read(database: &mut Database, schema: &str, contract: &[contract::Entity]) -> Tables {
    let mut tables = Tables::new();
    for entity in contract {
        let entity = Entity::new(schema, entity.clone());
        let statement = format!(
            "select coalesce(json_agg(row_to_json(_row)), '[]')::text from (select {} from {} t) _row",
            entity.all, entity.table
        );
        let Value::Array(rows) = database.json(Sql::new(statement)).await else { panic!("a list") };
        let rows = rows.into_iter().filter_map(|row| Some((row["id"].as_str()?.to_owned(), row.as_object()?.clone())));
        tables.insert(entity.name().to_owned(), rows.collect());
    }
    tables
}

/// One more record in every table, as far as what it refers to is there.
async fn fill(database: &mut Database, schema: &str, contract: &[contract::Entity], seed: u8) {
    for entity in contract {
        let mut body = Map::new();
        for field in &entity.fields {
            let kind =
                KINDS.into_iter().find(|kind| serde_json::from_value::<contract::Kind>(json!(kind)).ok() == Some(field.kind));
            if field.references.is_none() && (field.required || !seed.is_multiple_of(3)) {
                body.insert(field.name.clone(), example(kind.unwrap_or("text"), seed));
            }
        }
        let entity = Entity::new(schema, entity.clone());
        let Ok(values) = write::new_values(&entity, &Value::Object(body), "$") else { continue };
        let now = DateTime::from_timestamp(1_700_000_000 + i64::from(seed), 0).expect("a time");
        let author = Uuid::from_u128(1);
        let stamp = write::Stamp {
            audit: json!({ "actor": author, "at": now }).to_string(),
            now,
            author: Some(author),
            owner: None,
            shown: write::Shown::Record,
        };
        let id = Uuid::from_u128(u128::from(seed) + 1000);
        if let Err(error) = database.row(write::create(&entity, id, values, &stamp)).await {
            // A unique value, or the id, may be there already.
            let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned();
            assert!(["23505", "23514"].contains(&code.as_str()), "{error}");
        }
    }
}

/// What must be there after a plan, given what was there before.
fn compare(before: &Tables, plan: &Plan, after: &Tables) {
    let step = |change, entity: &str, column: &str| {
        plan.steps.iter().find(|step| step.change == change && step.entity == entity && step.column == column)
    };
    let old_name = |detail: &Option<String>| detail.as_ref().and_then(|it| it.split_once(" → ")).map(|(old, _)| old.to_owned());
    for (name, records) in after {
        let renamed = step(Change::RenameTable, name, "").and_then(|step| old_name(&step.detail));
        let Some(old_records) = before.get(renamed.as_ref().unwrap_or(name)) else { continue };
        if step(Change::CreateTable, name, "").is_some() {
            continue;
        }
        assert_eq!(records.keys().collect::<Vec<_>>(), old_records.keys().collect::<Vec<_>>(), "{name}");
        for (id, record) in records {
            for (field, value) in record {
                let old_field = step(Change::RenameColumn, name, field).and_then(|step| old_name(&step.detail));
                let Some(old) = old_records[id].get(old_field.as_ref().unwrap_or(field)) else { continue };
                if step(Change::AddColumn, name, field).is_some() {
                    continue;
                }
                match step(Change::AlterType, name, field) {
                    None if old.is_null() => {}
                    None => assert_eq!(value, old, "{name}.{field}"),
                    Some(retyped) if retyped.loss.is_some() => {}
                    Some(_) => assert_eq!(value.is_null(), old.is_null(), "{name}.{field}: {old} became {value}"),
                }
            }
        }
    }
}

async fn walk(database: &mut Database, schema: &str, contracts: &[Vec<contract::Entity>]) {
    let mut current: Vec<contract::Entity> = Vec::new();
    for (number, next) in contracts.iter().enumerate() {
        let snapshot = database.catalogue(schema).await;
        let planned = plan(schema, next, &snapshot);
        if !planned.obstacles.is_empty() {
            continue;
        }
        let before = read(database, schema, &current).await;
        match database.apply(&planned).await {
            Ok(()) => {
                let again = plan(schema, next, &database.catalogue(schema).await);
                assert!(again.is_empty(), "a second plan has something to do: {again:#?}");
                compare(&before, &planned, &read(database, schema, next).await);
                current.clone_from(next);
            }
            Err(error) => {
                // What the records themselves forbid: empty values, values that are not allowed or not unique, links that lead nowhere.
                let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned();
                assert!(["23502", "23514", "23505", "23503"].contains(&code.as_str()), "{error}: {planned:#?}");
                assert_eq!(database.catalogue(schema).await, snapshot, "a refused plan changed something");
            }
        }
        let seed = u8::try_from(number).unwrap_or_default() * 2;
        fill(database, schema, &current, seed).await;
        fill(database, schema, &current, seed + 1).await;
    }
}

#[test]
fn walks_between_contracts_keep_what_no_step_said_it_would_lose() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(7), ..Config::default() });
    let strategy = prop::collection::vec(contracts(), STEPS);
    runtime.block_on(async {
        let mut database = Database::start().await;
        for number in 0..WALKS {
            let contracts = strategy.new_tree(&mut runner).expect("contracts").current();
            walk(&mut database, &format!("walk{number}"), &contracts).await;
        }
        let recorded: i64 =
            sqlx::query_scalar("select count(*) from data_audit").fetch_one(&mut database.connection).await.expect("a count");
        assert!(recorded > 0, "every record that was made is in the audit");
        database.stop().await;
    });
}

#[test]
fn a_required_column_with_a_default_comes_to_a_filled_table_and_one_without_does_not() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut database = Database::start().await;
        let first = parse(&json!([{ "entityName": "a", "fields": [{ "name": "x", "type": "text" }] }])).expect("a contract");
        let planned = plan("app", &first, &database.catalogue("app").await);
        database.apply(&planned).await.expect("a first table");
        fill(&mut database, "app", &first, 1).await;
        let with = |field: Value| {
            parse(&json!([{ "entityName": "a", "fields": [{ "name": "x", "type": "text" }, field] }])).expect("a contract")
        };
        let bare = with(json!({ "name": "y", "type": "number", "required": true }));
        let planned = plan("app", &bare, &database.catalogue("app").await);
        assert_eq!(planned.obstacles.len(), 1);
        let filled = with(json!({ "name": "y", "type": "number", "required": true, "default_value": 3 }));
        let planned = plan("app", &filled, &database.catalogue("app").await);
        database.apply(&planned).await.expect("the default fills it");
        let tables = read(&mut database, "app", &filled).await;
        assert!(tables["a"].values().all(|record| record["y"] == json!(3)), "{tables:?}");
        database.stop().await;
    });
}
