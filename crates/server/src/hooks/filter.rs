//! Which changes a hook is about: those that touch certain fields, and records that meet a condition.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use weft_data::entity::OWNER;

use super::store::Hook;
use crate::events::{Event, Operation};

/// A change as the trigger wrote it.
#[derive(Debug, Deserialize)]
pub struct Change<'a> {
    pub operation: Operation,
    #[serde(borrow)]
    pub record_id: &'a RawValue,
    #[serde(borrow)]
    pub record: Option<&'a RawValue>,
    #[serde(borrow)]
    pub old_record: Option<&'a RawValue>,
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

impl<'a> Change<'a> {
    pub fn read(event: &'a Event) -> serde_json::Result<Self> {
        serde_json::from_str(&event.body)
    }

    /// The record as it is now, or was last.
    pub fn shown(&self) -> Option<&'a RawValue> {
        self.record.or(self.old_record)
    }

    /// Whether the record is somebody's, before and after, where records have owners.
    pub fn is_of(&self, user: Uuid) -> bool {
        let owner = |record: &RawValue| -> Option<Uuid> {
            let fields: Fields<'_> = serde_json::from_str(record.get()).ok()?;
            serde_json::from_str(fields.get(OWNER)?.get()).ok()
        };
        self.shown().is_some() && [self.record, self.old_record].into_iter().flatten().all(|record| owner(record) == Some(user))
    }

    /// Whether one of these fields has another value than before.
    fn touches(&self, names: &[String]) -> bool {
        let fields = |record: Option<&'a RawValue>| -> Fields<'a> {
            record.and_then(|record| serde_json::from_str(record.get()).ok()).unwrap_or_default()
        };
        let (before, after) = (fields(self.old_record), fields(self.record));
        names.iter().any(|name| before.get(name).map(|value| value.get()) != after.get(name).map(|value| value.get()))
    }
}

/// Whether a hook asks for this change, its condition left aside.
pub fn asks_for(hook: &Hook, event: &Event, change: &Change<'_>) -> bool {
    event.id > hook.since
        && event.tenant == hook.tenant_id
        && change.operation.as_str() == hook.operation
        && hook.changed_fields.as_ref().is_none_or(|names| change.operation != Operation::Update || change.touches(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &str, after: &str) -> String {
        format!(r#"{{"operation":"UPDATE","record_id":"1","record":{after},"old_record":{before}}}"#)
    }

    #[test]
    fn a_field_is_touched_when_its_value_differs() {
        let body = change(r#"{"a":1,"b":"x"}"#, r#"{"a":1,"b":"y"}"#);
        let change: Change<'_> = serde_json::from_str(&body).expect("a change");
        let touches = |names: &[&str]| change.touches(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!((touches(&["a"]), touches(&["b"]), touches(&["a", "b"]), touches(&["gone"])), (false, true, true, false));
    }
}
