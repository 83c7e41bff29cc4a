//! What a question asks for and how far its answers lead. Pure.

use std::{cmp::Ordering, collections::BTreeMap};

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weft_model::manifest::Poll;

/// Where a run stands that is not over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The value of the next page; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Value>,
    /// The cursor that the next run begins with, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<Value>,
    /// All pages were read, and what none of them held is being deleted.
    #[serde(default)]
    pub is_deleting: bool,
    /// That it is not too much was looked at.
    #[serde(default)]
    pub is_checked: bool,
}

/// A page as it was answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Each with its identifier, once, the last one of those that have the same.
    pub records: Vec<(String, Value)>,
    /// Those without one.
    pub nameless: usize,
    /// The value of the page that follows.
    pub next: Option<Value>,
    pub highest: Option<Value>,
}

/// An answer that is not what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misread {
    #[error("there is no list at '{0}' in the result of the action")]
    NoList(String),
    #[error("the page that follows is the one that was asked for: the vendor or the manifest's page.output goes in a circle")]
    Circle,
}

/// The members of the input that are filled in from answers.
pub fn filled_in(poll: &Poll) -> impl Iterator<Item = &str> {
    let cursor = poll.cursor.as_ref().map(|declared| declared.input.as_str());
    cursor.into_iter().chain(poll.page.as_ref().map(|declared| declared.input.as_str()))
}

/// The input of the action: what the manifest says, what somebody has set for this one, and where to go on.
pub fn input(poll: &Poll, own: &Value, cursor: Option<&Value>, page: Option<&Value>) -> Map<String, Value> {
    let mut input = poll.input.clone();
    // The manifest may have come to fill one in since it was set.
    let own = own.as_object().into_iter().flatten().filter(|(name, _)| !filled_in(poll).any(|filled| filled == name.as_str()));
    input.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    let cursor = poll.cursor.as_ref().map(|declared| &declared.input).zip(cursor);
    let page = poll.page.as_ref().map(|declared| &declared.input).zip(page);
    for (name, value) in cursor.into_iter().chain(page) {
        input.insert(name.clone(), value.clone());
    }
    input
}

/// Reads an answer to the question that `asked` for a page.
pub fn read(poll: &Poll, asked: &Progress, result: &Value) -> Result<Page, Misread> {
    let list = match result.pointer(&poll.records) {
        Some(Value::Array(list)) => list.as_slice(),
        Some(Value::Null) => &[],
        _ => return Err(Misread::NoList(poll.records.clone())),
    };
    let mut page = Page { highest: asked.highest.clone(), ..Page::default() };
    let mut places = BTreeMap::new();
    for record in list {
        let Some(id) = record.pointer(&poll.id).and_then(identifier) else {
            page.nameless += 1;
            continue;
        };
        if let Some(value) = poll.cursor.as_ref().and_then(|cursor| record.pointer(cursor.field.as_ref()?)) {
            page.highest = higher(page.highest.take(), value);
        }
        let place = *places.entry(id.clone()).or_insert(page.records.len());
        match page.records.get_mut(place) {
            Some(known) => known.1 = record.clone(),
            None => page.records.push((id, record.clone())),
        }
    }
    let given = |pointer: &String| result.pointer(pointer).filter(|value| is_something(value)).cloned();
    if let Some(value) = poll.cursor.as_ref().and_then(|cursor| given(cursor.output.as_ref()?)) {
        page.highest = Some(value);
    }
    page.next = poll.page.as_ref().and_then(|declared| given(&declared.output));
    if page.next.is_some() && page.next == asked.page {
        return Err(Misread::Circle);
    }
    Ok(page)
}

/// The identifier that a value is.
fn identifier(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() && text.len() <= 1000 && !text.contains('\0') => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_something(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
}

/// The higher one of two cursors: by number, by time, else by text.
pub fn higher(so_far: Option<Value>, value: &Value) -> Option<Value> {
    match so_far {
        _ if !value.is_string() && !value.is_number() => so_far,
        Some(so_far) if order(&so_far, value) != Ordering::Less => Some(so_far),
        _ => Some(value.clone()),
    }
}

/// In which order two cursors come.
pub fn order(left: &Value, right: &Value) -> Ordering {
    if let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) {
        return left.total_cmp(&right);
    }
    let (left, right) = (text(left), text(right));
    match (time(&left), time(&right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.cmp(&right),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn time(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn poll(more: &Value) -> Poll {
        let mut poll =
            json!({ "name": "things", "action": "list", "every": "5 minutes", "records": "/items", "input": { "limit": 2 } });
        poll.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        serde_json::from_value(poll).expect("a poll")
    }

    #[test]
    fn the_input_holds_the_cursors_where_they_are_known() {
        let poll =
            poll(&json!({ "page": { "input": "after", "output": "/next" }, "cursor": { "input": "since", "field": "/at" } }));
        assert_eq!(Value::Object(input(&poll, &json!({}), None, None)), json!({ "limit": 2 }));
        let own = json!({ "limit": 5, "team": "red" });
        assert_eq!(Value::Object(input(&poll, &own, None, None)), own);
        let since_filled_in = json!({ "limit": 5, "since": "friday", "after": 3 });
        assert_eq!(Value::Object(input(&poll, &since_filled_in, None, None)), json!({ "limit": 5 }));
        let both = input(&poll, &json!({}), Some(&json!("monday")), Some(&json!(7)));
        assert_eq!(Value::Object(both), json!({ "limit": 2, "since": "monday", "after": 7 }));
    }

    #[test]
    fn a_page_holds_each_record_once_and_leads_on() {
        let poll =
            poll(&json!({ "page": { "input": "after", "output": "/next" }, "cursor": { "input": "since", "field": "/at" } }));
        let result = json!({ "next": "p2", "items": [
            { "id": 1, "at": "2026-01-01T12:00:00+02:00" }, { "id": "b", "at": "2026-01-01T11:00:00Z" }, { "name": "no id" },
            { "id": 1, "at": null },
        ] });
        let asked = Progress { highest: Some(json!("2026-01-01T09:00:00Z")), ..Progress::default() };
        let page = read(&poll, &asked, &result).expect("a page");
        let ids: Vec<_> = page.records.iter().map(|(id, record)| (id.as_str(), &record["at"])).collect();
        assert_eq!(ids, [("1", &Value::Null), ("b", &json!("2026-01-01T11:00:00Z"))]);
        assert_eq!((page.nameless, page.next, page.highest), (1, Some(json!("p2")), Some(json!("2026-01-01T11:00:00Z"))));
    }

    #[test]
    fn the_last_page_says_nothing_of_a_next_one_or_says_none() {
        let poll =
            poll(&json!({ "page": { "input": "after", "output": "/next" }, "cursor": { "input": "token", "output": "/token" } }));
        for none in [json!({}), json!({ "next": null }), json!({ "next": "" }), json!({ "next": false })] {
            let mut result = none;
            result["items"] = Value::Null;
            result["token"] = json!("t2");
            let page = read(&poll, &Progress::default(), &result).expect("a page");
            assert_eq!((page.records.len(), page.next, page.highest), (0, None, Some(json!("t2"))));
        }
    }

    #[test]
    fn what_is_no_list_or_goes_in_a_circle_is_told() {
        let poll = poll(&json!({ "page": { "input": "after", "output": "/next" } }));
        assert_eq!(read(&poll, &Progress::default(), &json!({ "data": [] })), Err(Misread::NoList("/items".to_owned())));
        let asked = Progress { page: Some(json!(3)), ..Progress::default() };
        assert_eq!(read(&poll, &asked, &json!({ "items": [], "next": 3 })), Err(Misread::Circle));
    }

    #[test]
    fn cursors_are_compared_as_what_they_are() {
        for (lower, upper) in [
            (json!(9), json!(10)),
            (json!("2026-01-01T12:00:00+02:00"), json!("2026-01-01T10:30:00Z")),
            (json!("2026-01-01"), json!("2026-01-02")),
        ] {
            assert_eq!(higher(Some(lower.clone()), &upper), Some(upper.clone()));
            assert_eq!(higher(Some(upper.clone()), &lower), Some(upper));
        }
        assert_eq!(higher(Some(json!(1)), &Value::Null), Some(json!(1)));
    }
}
