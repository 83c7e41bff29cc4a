//! Conditions, orders and pages against the same questions answered in memory.

use std::cmp::Ordering;

use chrono::DateTime;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngSeed, TestRunner},
};
use serde_json::{Value, json};
use sqlx::Row;
use uuid::Uuid;
use weft_data::{
    Entity,
    plan::plan,
    read::{self, Query, View},
    write,
};

use crate::database::{Database, contract};

const CASES: usize = 400;

fn record() -> impl Strategy<Value = Value> {
    let text = prop::option::of(prop::sample::select(vec!["", "a", "ab", "b%", "A"]));
    let list = prop::option::of(prop::collection::vec(prop::sample::select(vec!["x", "y", "z"]), 0..3));
    (text, prop::option::of(-2..3_i8), prop::option::of(any::<bool>()), list)
        .prop_map(|(name, age, active, tags)| json!({ "name": name, "age": age, "active": active, "tags": tags }))
}

fn value(field: &'static str) -> BoxedStrategy<Value> {
    match field {
        "name" => prop::sample::select(vec!["", "a", "ab", "b%", "A"]).prop_map(|text| json!(text)).boxed(),
        "age" => (-2..3_i8).prop_map(|number| json!(number)).boxed(),
        _ => any::<bool>().prop_map(|value| json!(value)).boxed(),
    }
}

fn leaf() -> impl Strategy<Value = Value> {
    let field = prop::sample::select(vec!["name", "age", "active"]);
    let compare = field.prop_flat_map(|field| {
        let operator = prop::sample::select(vec!["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]);
        let list = (prop::sample::select(vec!["$in", "$nin"]), prop::collection::vec(value(field), 0..3));
        prop_oneof![
            value(field).prop_map(move |value| json!({ field: value })),
            Just(json!({ field: null })),
            (operator, value(field)).prop_map(move |(operator, value)| json!({ field: { operator: value } })),
            list.prop_map(move |(operator, values)| json!({ field: { operator: values } })),
            any::<bool>().prop_map(move |is_null| json!({ field: { "$isNull": is_null } })),
        ]
    });
    let pattern = prop::sample::select(vec!["%", "a%", "_", "%b\\%"]);
    let like =
        (prop::sample::select(vec!["$like", "$ilike"]), pattern).prop_map(|(like, text)| json!({ "name": { like: text } }));
    let contains = prop::collection::vec(prop::sample::select(vec!["x", "y"]), 0..3);
    prop_oneof![6 => compare, 1 => like, 1 => contains.prop_map(|items| json!({ "tags": { "$contains": items } }))]
}

fn clause() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            list.clone().prop_map(|clauses| json!({ "$and": clauses })),
            list.prop_map(|clauses| json!({ "$or": clauses })),
            inner.prop_map(|clause| json!({ "$not": clause })),
        ]
    })
}

/// SQL's logic: true, false, or unknown.
fn meets(record: &Value, clause: &Value) -> Option<bool> {
    let members = clause.as_object().expect("a clause").iter();
    all(members.map(|(key, value)| match key.as_str() {
        "$and" => all(value.as_array().expect("a list").iter().map(|clause| meets(record, clause))),
        "$or" if value.as_array().is_some_and(Vec::is_empty) => Some(true),
        "$or" => not(all(value.as_array().expect("a list").iter().map(|clause| not(meets(record, clause))))),
        "$not" => not(meets(record, value)),
        field => match value {
            Value::Object(operators) => all(operators.iter().map(|(operator, value)| compare(&record[field], operator, value))),
            Value::Null => Some(record[field].is_null()),
            value => compare(&record[field], "$eq", value),
        },
    }))
}

fn not(truth: Option<bool>) -> Option<bool> {
    truth.map(|truth| !truth)
}

fn all(truths: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let truths: Vec<_> = truths.collect();
    if truths.contains(&Some(false)) { Some(false) } else { truths.into_iter().collect::<Option<Vec<_>>>().map(|_| true) }
}

fn compare(found: &Value, operator: &str, value: &Value) -> Option<bool> {
    match (operator, value) {
        ("$isNull", value) => return Some(found.is_null() == value.as_bool().expect("a truth")),
        ("$in", Value::Array(items)) if items.is_empty() => return Some(false),
        ("$nin", Value::Array(items)) if items.is_empty() => return Some(true),
        ("$contains", Value::Array(items)) if items.is_empty() => return Some(true),
        _ if found.is_null() => return None,
        _ => {}
    }
    let is_in = || value.as_array().is_some_and(|items| items.contains(found));
    Some(match operator {
        "$eq" => order(found, value) == Ordering::Equal,
        "$ne" => order(found, value) != Ordering::Equal,
        "$gt" => order(found, value) == Ordering::Greater,
        "$gte" => order(found, value) != Ordering::Less,
        "$lt" => order(found, value) == Ordering::Less,
        "$lte" => order(found, value) != Ordering::Greater,
        "$in" => is_in(),
        "$nin" => !is_in(),
        "$contains" => value.as_array().expect("a list").iter().all(|item| found.as_array().expect("a list").contains(item)),
        "$like" => like(found.as_str().expect("a text"), value.as_str().expect("a pattern")),
        "$ilike" => like(&found.as_str().expect("a text").to_lowercase(), value.as_str().expect("a pattern")),
        other => panic!("{other}"),
    })
}

/// Only the patterns that the test uses.
fn like(text: &str, pattern: &str) -> bool {
    match pattern {
        "%" => true,
        "_" => text.chars().count() == 1,
        "a%" => text.starts_with('a'),
        _ => text.ends_with("b%"),
    }
}

fn order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()).expect("numbers"),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        other => panic!("{other:?}"),
    }
}

async fn filled(database: &mut Database, records: &[Value]) -> Entity {
    let contract = contract(&json!([{ "entityName": "people", "fields": [
        { "name": "name", "type": "text" },
        { "name": "age", "type": "number" },
        { "name": "active", "type": "boolean" },
        { "name": "tags", "type": "[text]" },
    ] }]))
    .expect("a contract");
    let planned = plan("app", &contract, &database.catalogue("app").await);
    database.apply(&planned).await.expect("the tables are made");
    let entity = Entity::new("app", contract[0].clone());
    let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
    let stamp = write::Stamp {
        audit: json!({ "at": now }).to_string(),
        now,
        author: Some(Uuid::nil()),
        owner: None,
        shown: write::Shown::Record,
    };
    let values = records.iter().map(|record| write::new_values(&entity, record, "$").expect("values")).collect();
    let ids: Vec<_> = (0..records.len()).map(|number| Uuid::from_u128(number as u128 + 1)).collect();
    let made = database.json(write::create_all(&entity, values, &ids, &stamp)).await;
    let stored: Vec<_> = made.as_array().expect("a list").iter().map(|record| record["id"].clone()).collect();
    assert_eq!(json!(stored), json!(ids), "bulk creation answers in order");
    entity
}

fn ids(page: &Value) -> Vec<usize> {
    let number = |record: &Value| record["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()).expect("an id").as_u128();
    page.as_array().expect("a list").iter().map(|record| usize::try_from(number(record)).expect("small") - 1).collect()
}

async fn find(database: &mut Database, entity: &Entity, body: &Value) -> (Vec<usize>, Option<String>, Option<i64>) {
    let query = Query::parse(entity, body).unwrap_or_else(|faults| panic!("{body}: {faults:?}"));
    let row = database.row(read::page(entity, &query, &View::default())).await.unwrap_or_else(|error| panic!("{body}: {error}"));
    let page: Value = serde_json::from_str(row.get(0)).expect("JSON");
    (ids(&page), row.get::<Option<&str>, _>(1).map(read::cursor), row.get(2))
}

#[test]
fn a_condition_finds_what_it_finds_in_memory() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(11), ..Config::default() });
    runtime.block_on(async {
        let mut database = Database::start().await;
        let records = prop::collection::vec(record(), 60).new_tree(&mut runner).expect("records").current();
        let entity = filled(&mut database, &records).await;
        for _ in 0..CASES {
            let clause = clause().new_tree(&mut runner).expect("a clause").current();
            let expected: Vec<_> = records
                .iter()
                .enumerate()
                .filter(|(_, record)| meets(record, &clause) == Some(true))
                .map(|(number, _)| number)
                .collect();
            let (mut found, _, total) = find(&mut database, &entity, &json!({ "where": clause, "limit": 1000 })).await;
            found.sort_unstable();
            assert_eq!(found, expected, "{clause}");
            assert_eq!(total, Some(i64::try_from(expected.len()).expect("small")), "{clause}");
        }
        pages(&mut database, &entity, &records).await;
        database.stop().await;
    });
}

/// Following the cursor visits every record once, in the order of the whole list, whatever it is sorted by.
async fn pages(database: &mut Database, entity: &Entity, records: &[Value]) {
    for by in ["name", "age", "active", "created_at", "id"] {
        for direction in ["asc", "desc"] {
            let whole = json!({ "orderBy": by, "order": direction, "limit": 1000 });
            let (expected, next, _) = find(database, entity, &whole).await;
            assert_eq!((expected.len(), next), (records.len(), None));
            let (mut visited, mut cursor) = (Vec::new(), None::<String>);
            loop {
                let mut body = json!({ "orderBy": by, "order": direction, "limit": 7, "total": false });
                if let Some(cursor) = &cursor {
                    body["cursor"] = json!(cursor);
                }
                let (page, next, total) = find(database, entity, &body).await;
                assert_eq!(total, None);
                visited.extend(page);
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(visited, expected, "{by} {direction}");
        }
    }
    let beyond = find(database, entity, &json!({ "limit": 5, "offset": 58 })).await;
    assert_eq!((beyond.0.len(), beyond.2), (2, Some(60)));
    let nothing = find(database, entity, &json!({ "limit": 5, "offset": 500 })).await;
    assert_eq!((nothing.0.len(), nothing.2), (0, Some(60)));
}
