//! What an integration asks its vendor for by the clock: syncs, which keep records, and triggers, which tell of what is new.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Content, Effect};
use crate::{
    Fault,
    contract::{self, Kind, Source},
    schedule::Schedule,
};

/// Nobody asks a vendor more often.
const SHORTEST: TimeDelta = TimeDelta::seconds(30);
const LONGEST: TimeDelta = TimeDelta::days(31);

/// A question that is put again and again.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    pub name: String,
    /// The integration's own action that answers it.
    pub action: String,
    /// What it gets each time, besides cursors.
    #[serde(default)]
    pub input: Map<String, Value>,
    /// `15 minutes`, or a schedule of five fields.
    pub every: String,
    /// Where in the result the list is, a JSON pointer; the result itself when empty.
    #[serde(default)]
    pub records: String,
    /// Where in a record its identifier at the vendor is.
    #[serde(default = "id_pointer")]
    pub id: String,
    pub page: Option<Page>,
    pub cursor: Option<Cursor>,
    /// Whether each connection is asked by itself; absent: where there are connections.
    pub per_connection: Option<bool>,
    /// Whether it begins by itself; else somebody lets it.
    #[serde(default = "yes")]
    pub auto_start: bool,
}

/// How an answer goes on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// The member of the input that takes what `output` gave.
    pub input: String,
    /// Where in a result the next page's value is; there is none when that is absent, null, false or empty.
    pub output: String,
}

/// How the next run asks only for what is new.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The member of the input that takes it.
    pub input: String,
    /// Where in a result it is; the last page's counts.
    pub output: Option<String>,
    /// Where in a record it is; the highest counts.
    pub field: Option<String>,
}

/// Keeps an entity of the integration's data contract as the vendor has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    #[serde(flatten)]
    pub poll: Poll,
    pub entity: String,
    /// The field that holds the vendor's identifier.
    #[serde(default = "id_field")]
    pub id_field: String,
    /// The field that says through which connection a record came.
    #[serde(default = "connection_field")]
    pub connection_field: String,
    /// Field to JSON pointer in a record; absent: members go to the fields of their names.
    pub fields: Option<BTreeMap<String, String>>,
    mode: Option<SyncMode>,
    #[serde(default)]
    pub deletions: Deletions,
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
}

/// Tells the backend of each thing that was not there before.
#[derive(Debug, Clone, Deserialize)]
pub struct Trigger {
    #[serde(flatten)]
    pub poll: Poll,
}

/// Whether a run reads everything, or what changed since the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    Incremental,
    Full,
}

/// What becomes of records that the vendor does not have any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deletions {
    /// They stay.
    #[default]
    None,
    /// What a full run did not meet is deleted.
    Missing,
    /// The vendor gives them once more, with a mark.
    Flagged(Flag),
}

/// The mark of a record that was deleted at the vendor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// Where in a record it is, a JSON pointer.
    pub at: String,
    /// What stands there then, null included; absent: anything but null, false, zero and an empty text.
    #[serde(default, deserialize_with = "given")]
    pub is: Option<Value>,
}

impl Flag {
    /// Whether a record has it.
    pub fn marks(&self, record: &Value) -> bool {
        let Some(found) = record.pointer(&self.at) else { return false };
        match (&self.is, found) {
            // A vendor may write the same number in another form.
            (Some(Value::Number(expected)), Value::Number(found)) => expected == found || expected.as_f64() == found.as_f64(),
            (Some(expected), found) => expected == found,
            (None, Value::Null | Value::Bool(false)) => false,
            (None, Value::Number(number)) => number.as_f64() != Some(0.0),
            (None, Value::String(text)) => !text.is_empty(),
            (None, Value::Bool(true) | Value::Array(_) | Value::Object(_)) => true,
        }
    }
}

/// What becomes of records whose connection is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    #[default]
    Keep,
    Delete,
}

/// Records of another app whose changes an agent is told of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntityTrigger {
    pub app_id: crate::AppId,
    pub entity: String,
    /// `insert`, `update`, `delete`.
    pub on: Vec<String>,
}

impl Sync {
    pub fn mode(&self) -> SyncMode {
        self.mode.unwrap_or(if self.poll.cursor.is_some() { SyncMode::Incremental } else { SyncMode::Full })
    }
}

/// A member that is there, be it null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn yes() -> bool {
    true
}

fn id_pointer() -> String {
    "/id".to_owned()
}

fn id_field() -> String {
    "external_id".to_owned()
}

fn connection_field() -> String {
    "connection_id".to_owned()
}

/// How often.
#[derive(Debug, Clone)]
pub enum Interval {
    Every(TimeDelta),
    At(Box<Schedule>),
}

impl Interval {
    /// Reads `N seconds`, `N minutes`, `N hours`, `N days` (one of them too: `1 hour`), or five fields of a schedule in UTC.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((number, unit)) = text.split_once(' ')
            && let Some(unit) = unit_of(unit)
        {
            let number = number.parse::<i64>().ok().filter(|number| *number > 0 && !text.starts_with(['0', '+']));
            let every = number.and_then(|number| number.checked_mul(unit)).map(|seconds| seconds.min(i64::from(u32::MAX)));
            let every = every.map(TimeDelta::seconds).filter(|every| (SHORTEST..=LONGEST).contains(every));
            return every.map(Self::Every).ok_or_else(|| "must be 30 seconds to 31 days".to_owned());
        }
        let wrong = "must be like '15 minutes' (seconds, minutes, hours or days), or five fields as crons have them";
        Schedule::parse(text, None).map(|schedule| Self::At(Box::new(schedule))).map_err(|error| format!("{wrong}: {error}"))
    }

    /// When the run comes that follows one which began and ended at these times.
    pub fn next(&self, began: DateTime<Utc>, ended: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Every(pause) => (began + *pause).max(ended),
            Self::At(schedule) => schedule.next_after(ended).unwrap_or(ended + LONGEST),
        }
    }
}

fn unit_of(word: &str) -> Option<i64> {
    Some(match word {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 60 * 60,
        "day" | "days" => 24 * 60 * 60,
        _ => return None,
    })
}

impl Content {
    /// Whether a poll asks for each connection by itself.
    pub fn is_per_connection(&self, poll: &Poll) -> bool {
        poll.per_connection.unwrap_or(self.user_auth.is_some())
    }
}

/// Every rule that the syncs and triggers break.
pub fn faults(content: &Content) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, sync) in content.syncs.iter().enumerate() {
        let path = format!("$.syncs[{index}]");
        poll_faults(&mut faults, content, &sync.poll, &path);
        sync_faults(&mut faults, content, sync, &path);
    }
    for (index, trigger) in content.triggers.iter().enumerate() {
        poll_faults(&mut faults, content, &trigger.poll, &format!("$.triggers[{index}]"));
    }
    faults
}

fn poll_faults(faults: &mut Vec<Fault>, content: &Content, poll: &Poll, path: &str) {
    let mut fault = |member: &str, message: String| faults.push(Fault::new(format!("{path}.{member}"), message));
    if let Err(message) = Interval::parse(&poll.every) {
        fault("every", message);
    }
    match content.actions.iter().find(|action| action.id == poll.action) {
        None => fault("action", format!("'{}' is no action of this integration", poll.action)),
        Some(action) if matches!(action.effect, Some(Effect::Write | Effect::Destructive)) => {
            fault("action", format!("'{}' changes something at the vendor: an action that only reads is needed", poll.action));
        }
        Some(_) => {}
    }
    let pointers = [("records", Some(&poll.records)), ("id", Some(&poll.id))];
    let page = poll.page.as_ref().map(|page| &page.output);
    let cursor = poll.cursor.as_ref();
    let more = [
        ("page.output", page),
        ("cursor.output", cursor.and_then(|cursor| cursor.output.as_ref())),
        ("cursor.field", cursor.and_then(|cursor| cursor.field.as_ref())),
    ];
    for (member, pointer) in pointers.into_iter().chain(more) {
        if pointer.is_some_and(|pointer| !is_pointer(pointer)) {
            fault(member, "is a JSON pointer such as /data/items".to_owned());
        }
    }
    if cursor.is_some_and(|cursor| cursor.output.is_some() == cursor.field.is_some()) {
        fault("cursor", "takes one of output (where in a result it is) and field (where in a record)".to_owned());
    }
    if poll.per_connection == Some(true) && content.user_auth.is_none() {
        fault("perConnection", "needs userAuth: without it there are no connections".to_owned());
    }
}

fn sync_faults(faults: &mut Vec<Fault>, content: &Content, sync: &Sync, path: &str) {
    let mut fault = |member: &str, message: String| faults.push(Fault::new(format!("{path}.{member}"), message));
    let mode = sync.mode();
    if mode == SyncMode::Incremental && sync.poll.cursor.is_none() {
        fault("mode", "incremental needs a cursor".to_owned());
    }
    if mode == SyncMode::Full && sync.poll.cursor.is_some() {
        fault("cursor", "is for incremental syncs: a full one reads everything each time".to_owned());
    }
    if mode == SyncMode::Incremental && sync.deletions == Deletions::Missing {
        fault("deletions", "what is missing shows in full syncs only".to_owned());
    }
    if let Deletions::Flagged(flag) = &sync.deletions
        && (flag.at.is_empty() || !is_pointer(&flag.at))
    {
        fault("deletions.flagged.at", "is a JSON pointer such as /deleted".to_owned());
    }
    let Some(entity) = content.data_contract.iter().find(|entity| entity.entity_name == sync.entity) else {
        return fault("entity", format!("'{}' is no entity of the dataContract", sync.entity));
    };
    let per_connection = content.is_per_connection(&sync.poll);
    let mut key = vec![("idField", &sync.id_field)];
    if per_connection {
        key.push(("connectionField", &sync.connection_field));
    } else if sync.on_disconnect == OnDisconnect::Delete {
        fault("onDisconnect", "is for syncs of connections".to_owned());
    }
    for (member, name) in &key {
        match entity.kind(name) {
            Some(Kind::Text) => {}
            Some(_) => fault(member, format!("the field '{name}' has to be of the type text")),
            None => fault(member, format!("'{name}' is no field of '{}'", entity.entity_name)),
        }
    }
    let names: Vec<_> = key.iter().map(|(_, name)| name.as_str()).collect();
    if !is_unique(entity, &names) {
        let lacks = "needs a unique index on exactly";
        fault("entity", format!("'{}' {lacks} {}: it tells records apart", entity.entity_name, names.join(" and ")));
    }
    for (name, pointer) in sync.fields.iter().flatten() {
        if contract::is_system(name) || entity.field(name).is_none() {
            fault(&format!("fields.{name}"), format!("'{name}' is no field of '{}' that can be written", entity.entity_name));
        } else if names.contains(&name.as_str()) {
            fault(&format!("fields.{name}"), "is filled in by the server".to_owned());
        }
        if !is_pointer(pointer) {
            fault(&format!("fields.{name}"), "is a JSON pointer such as /properties/email".to_owned());
        }
    }
}

/// Whether no two records share the values of these fields, because a unique field or index says so.
fn is_unique(entity: &contract::Entity, names: &[&str]) -> bool {
    let as_field = matches!(names, [name] if entity.field(name).is_some_and(|field| field.unique));
    let as_index = entity.indexes.iter().filter(|index| index.unique && index.condition.is_none()).any(|index| {
        let has =
            |name: &&str| index.columns.iter().any(|column| matches!(&column.source, Source::Column(other) if other == name));
        index.columns.len() == names.len() && names.iter().all(has)
    });
    as_field || as_index
}

fn is_pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Manifest;

    fn manifest(sync: &Value, more: &Value) -> Result<Manifest, Vec<String>> {
        let mut manifest = json!({
            "appId": "tracker", "name": "Tracker", "type": "integration",
            "actions": [{ "id": "list_issues", "name": "List" }, { "id": "create_issue", "name": "Create", "effect": "write" }],
            "userAuth": { "type": "credentials", "schema": { "properties": { "key": { "type": "string" } } } },
            "dataContract": [{
                "entityName": "issues",
                "fields": [
                    { "name": "external_id", "type": "text", "required": true }, { "name": "connection_id", "type": "text", "required": true },
                    { "name": "title", "type": "text" }, { "name": "number", "type": "number" },
                ],
                "indexes": [{ "columns": ["connection_id", "external_id"], "unique": true }],
            }],
        });
        let mut whole = json!({ "name": "issues", "action": "list_issues", "every": "5 minutes", "entity": "issues" });
        whole.as_object_mut().expect("an object").extend(sync.as_object().cloned().unwrap_or_default());
        manifest["syncs"] = json!([whole]);
        manifest.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        Manifest::parse(manifest).map_err(|faults| faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn a_sync_says_little_and_the_rest_has_defaults() {
        let manifest = manifest(&json!({}), &json!({})).expect("no faults");
        let sync = manifest.content.syncs.first().expect("one");
        assert_eq!((sync.mode(), sync.poll.id.as_str(), sync.id_field.as_str()), (SyncMode::Full, "/id", "external_id"));
        assert!(manifest.content.is_per_connection(&sync.poll) && sync.poll.auto_start);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place() {
        let cursor = json!({ "input": "since", "field": "/updated" });
        for (sync, paths) in [
            (json!({ "action": "list" }), vec!["action"]),
            (json!({ "action": "create_issue" }), vec!["action"]),
            (json!({ "entity": "people" }), vec!["entity"]),
            (json!({ "idField": "number" }), vec!["idField", "entity"]),
            (json!({ "connectionField": "gone" }), vec!["connectionField", "entity"]),
            (json!({ "perConnection": false }), vec!["entity"]),
            (json!({ "every": "10 seconds" }), vec!["every"]),
            (json!({ "every": "often" }), vec!["every"]),
            (json!({ "mode": "incremental" }), vec!["mode"]),
            (json!({ "mode": "full", "cursor": cursor }), vec!["cursor"]),
            (json!({ "cursor": cursor, "deletions": "missing" }), vec!["deletions"]),
            (json!({ "deletions": { "flagged": { "at": "deleted" } } }), vec!["deletions.flagged.at"]),
            (json!({ "cursor": { "input": "since" } }), vec!["cursor"]),
            (json!({ "records": "items" }), vec!["records"]),
            (
                json!({ "fields": { "gone": "/a", "external_id": "/b", "title": "c" } }),
                vec!["fields.external_id", "fields.gone", "fields.title"],
            ),
        ] {
            let expected: Vec<_> = paths.iter().map(|path| format!("$.syncs[0].{path}")).collect();
            assert_eq!(manifest(&sync, &json!({})).expect_err("a fault"), expected, "{sync}");
        }
        let app = manifest(&json!({}), &json!({ "type": "app" })).expect_err("a fault");
        assert!(app.contains(&"$.syncs".to_owned()), "{app:?}");
    }

    #[test]
    fn a_mark_is_what_the_manifest_says_or_anything_that_is_not_nothing() {
        let flag = |is: Option<Value>| Flag { at: "/mark".to_owned(), is };
        let marks = |is: Option<Value>, value: Value| flag(is).marks(&json!({ "mark": value }));
        assert!(!flag(None).marks(&json!({})));
        for nothing in [Value::Null, json!(false), json!(0), json!("")] {
            assert!(!marks(None, nothing));
        }
        for something in [json!(true), json!(1), json!("2026-01-01"), json!({})] {
            assert!(marks(None, something));
        }
        let cancelled = || Some(json!("cancelled"));
        assert_eq!(
            [json!("cancelled"), json!("confirmed"), json!(true)].map(|value| marks(cancelled(), value)),
            [true, false, false]
        );
        assert!(marks(Some(json!(false)), json!(false)), "a member such as \"active\"");
        assert!(marks(Some(json!(1)), json!(1.0)));
        let null: Flag = serde_json::from_value(json!({ "at": "/mark", "is": null })).expect("a mark");
        assert_eq!([Value::Null, json!("there")].map(|value| null.marks(&json!({ "mark": value }))), [true, false]);
    }

    #[test]
    fn intervals_are_read_and_followed() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let (began, ended) = (at("2026-01-01T10:00:00Z"), at("2026-01-01T10:02:00Z"));
        for (text, next) in [
            ("30 seconds", "2026-01-01T10:02:00Z"),
            ("15 minutes", "2026-01-01T10:15:00Z"),
            ("1 hour", "2026-01-01T11:00:00Z"),
            ("2 days", "2026-01-03T10:00:00Z"),
            ("*/5 * * * *", "2026-01-01T10:05:00Z"),
        ] {
            assert_eq!(Interval::parse(text).expect(text).next(began, ended), at(next), "{text}");
        }
        for text in ["29 seconds", "0 minutes", "32 days", "1 week", "minutes", "99999999999999999999 days", "* * * *"] {
            assert!(Interval::parse(text).is_err(), "{text}");
        }
    }
}
