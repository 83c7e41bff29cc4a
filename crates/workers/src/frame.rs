//! The messages of `docs/worker-protocol.md` as bytes: one JSON object per line. Pure; what a message means is decided elsewhere.
//!
//! Replies are the hot path, so values are passed through as [`RawValue`] instead of being parsed and written again.

use crate::{Category, Failure, in_flight::CallId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeMap, time::Duration};

/// The newest version of the protocol that is understood. A backend that reads its stdin by itself announces version 1.
pub(crate) const PROTOCOL: u64 = 2;
/// The longest line accepted from a worker.
pub(crate) const LINE_LIMIT: usize = 1024 * 1024;

/// Host to worker.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ToWorker<'a> {
    Discover {
        app_id: &'a str,
        runtime_url: &'a str,
        credentials: &'a BTreeMap<String, String>,
        manifest: &'a RawValue,
        run_onstart: bool,
        /// The id under which `onStart` may ask the platform for something.
        #[serde(skip_serializing_if = "Option::is_none")]
        start_call: Option<&'a str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        dev: bool,
    },
    Rpc {
        id: &'a str,
        method: &'a str,
        params: &'a RawValue,
        caller: Option<&'a RawValue>,
        timeout_ms: u64,
    },
    Job {
        id: &'a str,
        payload: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        caller: Option<&'a RawValue>,
        /// A text, because JavaScript's numbers end before identifiers of messages do.
        msg_id: String,
        attempt: i32,
        timeout_ms: u64,
    },
    Shutdown,
}

/// The answer to what a worker asked for; its type is named after the question's.
#[derive(Serialize)]
pub(crate) struct Answer<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) id: &'a RawValue,
    #[serde(flatten)]
    pub(crate) outcome: Outcome<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome<'a> {
    Result(&'a RawValue),
    /// Where to upload a file, once.
    Url(&'a RawValue),
    Error(WireFailure<'a>),
}

/// A [`Failure`] as it travels.
#[derive(Serialize)]
pub(crate) struct WireFailure<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    category: Category,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
}

impl<'a> From<&'a Failure> for WireFailure<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            message: &failure.message,
            code: failure.code.as_deref(),
            category: failure.category,
            retry_after: failure.retry_after.map(|pause| pause.as_secs_f64()),
            details: failure.details.as_ref(),
        }
    }
}

impl ToWorker<'_> {
    /// The message as one line, line end included. `room` is a guess at its length.
    pub(crate) fn line(&self, room: usize) -> Vec<u8> {
        line(self, room)
    }
}

impl Answer<'_> {
    pub(crate) fn line(&self) -> Vec<u8> {
        line(self, 256)
    }
}

fn line(message: &impl Serialize, room: usize) -> Vec<u8> {
    let mut line = Vec::with_capacity(room);
    if let Err(error) = serde_json::to_writer(&mut line, message) {
        // Strings, numbers and raw JSON always serialise, and a Vec always accepts them.
        tracing::error!(%error, "a message to a worker cannot be written as JSON");
    }
    // Raw values keep the white space of their source. Strings escape these two bytes, so elsewhere they mean nothing.
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}

/// The answer that carries an address.
pub(crate) const STORAGE_UPLOAD_URL: &str = "storage_upload_url";

/// Questions about data, by the type of their message, each with the type of its answer.
const DATA: [(&str, &str); 7] = [
    ("collection_op", "collection_op_result"),
    ("sql_query", "sql_query_result"),
    ("sql_begin", "sql_begin_result"),
    ("sql_exec", "sql_exec_result"),
    ("sql_commit", "sql_end_result"),
    ("sql_rollback", "sql_end_result"),
    ("storage_upload", STORAGE_UPLOAD_URL),
];

/// Worker to host.
#[derive(Debug)]
pub(crate) enum FromWorker<'a> {
    Discover {
        protocol: u64,
        offer: Offer,
    },
    Fatal {
        message: String,
    },
    Reply {
        id: Option<CallId>,
        result: Result<&'a RawValue, Failure>,
    },
    /// There is no handler for what was to be called.
    Unhandled {
        id: Option<CallId>,
    },
    Ask {
        id: &'a RawValue,
        call: Option<CallId>,
        question: Question<'a>,
        answer: &'static str,
    },
    Log {
        level: Option<&'a str>,
        message: String,
        call: Option<CallId>,
    },
    Event {
        text: String,
        call: Option<CallId>,
    },
}

/// What a backend has handlers for, as far as it says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    pub jobs: Option<bool>,
    /// Those of an integration, by name.
    pub actions: Option<Vec<String>>,
    pub webhooks: Option<Vec<String>>,
}

/// What a worker asks the platform for.
#[derive(Debug)]
pub(crate) enum Question<'a> {
    SelfAction {
        action: String,
        params: &'a RawValue,
    },
    /// The whole message: what is in it is the platform's business.
    Data {
        kind: &'static str,
        message: &'a RawValue,
    },
}

/// All fields of all messages; which ones count depends on `type`. Ids stay raw: they are compared and echoed, never read.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    call: Option<&'a RawValue>,
    action: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    level: Option<&'a str>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    name: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    protocol: Option<u64>,
    jobs: Option<bool>,
    #[serde(borrow)]
    actions: Option<&'a RawValue>,
    #[serde(borrow)]
    webhooks: Option<&'a RawValue>,
    #[serde(borrow)]
    unhandled: Option<&'a RawValue>,
}

impl<'a> FromWorker<'a> {
    /// Reads a line; nothing if it is not a message of the protocol.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        if line.first() != Some(&b'{') {
            return None;
        }
        let wire: Wire<'a> = serde_json::from_slice(line).ok()?;
        let call = wire.call.and_then(call_id);
        Some(match wire.kind {
            "rpc_response" | "job_result" if is_true(wire.unhandled) => Self::Unhandled { id: wire.id.and_then(call_id) },
            "rpc_response" | "job_result" => Self::Reply {
                id: wire.id.and_then(call_id),
                result: match wire.error {
                    Some(error) => Err(failure(error)),
                    None => Ok(wire.result.unwrap_or(RawValue::NULL)),
                },
            },
            "self_action" => {
                let question = Question::SelfAction { action: wire.action?, params: wire.params.unwrap_or(RawValue::NULL) };
                Self::Ask { id: wire.id?, call, question, answer: "self_action_result" }
            }
            "log" => Self::Log { level: wire.level, message: wire.message.map(text).unwrap_or_default(), call },
            "event" => Self::Event { text: format!("{}: {}", wire.name?, wire.data.unwrap_or(RawValue::NULL)), call },
            // Without a number it is the protocol's first version.
            "discover" => Self::Discover {
                protocol: wire.protocol.unwrap_or(1),
                offer: Offer { jobs: wire.jobs, actions: names(wire.actions), webhooks: names(wire.webhooks) },
            },
            "fatal" => Self::Fatal { message: wire.error.map(failure).map_or_else(String::new, |error| error.message) },
            other => {
                let (kind, answer) = DATA.into_iter().find(|(kind, _)| *kind == other)?;
                let question = Question::Data { kind, message: serde_json::from_slice(line).ok()? };
                Self::Ask { id: wire.id?, call, question, answer }
            }
        })
    }
}

/// Whatever is no list of names says nothing.
fn names(raw: Option<&RawValue>) -> Option<Vec<String>> {
    serde_json::from_str(raw?.get()).ok()
}

fn is_true(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| raw.get() == "true")
}

fn call_id(raw: &RawValue) -> Option<CallId> {
    CallId::parse(raw.get().strip_prefix('"')?.strip_suffix('"')?)
}

/// A JSON string's text; any other value as it stands.
fn text(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

/// Reads an error leniently: a backend's mistake in its shape must not hide the message.
fn failure(raw: &RawValue) -> Failure {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(raw.get()) else { return Failure::new(text(raw)) };
    let message = match fields.remove("message") {
        Some(Value::String(message)) => message,
        _ => "the backend reported an error without a message".to_owned(),
    };
    Failure {
        message,
        code: fields.get("code").and_then(Value::as_str).map(str::to_owned),
        category: fields.remove("category").and_then(|name| serde_json::from_value(name).ok()).unwrap_or_default(),
        retry_after: fields.get("retry_after").and_then(Value::as_f64).and_then(seconds),
        details: fields.remove("details").filter(|details| !details.is_null()),
    }
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reply(line: &str) -> Result<String, Failure> {
        match FromWorker::parse(line.as_bytes()) {
            Some(FromWorker::Reply { result, .. }) => result.map(|raw| raw.get().to_owned()),
            other => Err(Failure::new(format!("not a reply: {other:?}"))),
        }
    }

    #[test]
    fn replies_pass_their_result_on_untouched() {
        let id = "AAAAAAAAAAAAAAAAAAAAAA";
        let line = |rest: &str| format!(r#"{{"type":"rpc_response","id":"{id}"{rest}}}"#);
        assert_eq!(reply(&line(r#","result":{"a": 1.50}"#)), Ok(r#"{"a": 1.50}"#.to_owned()));
        assert_eq!(reply(&line("")), Ok("null".to_owned()));
        assert_eq!(reply(&line(r#","error":"no\nluck""#)), Err(Failure::new("no\nluck")));
    }

    #[test]
    fn errors_are_read_even_when_their_shape_is_odd() {
        let full =
            json!({"message": "slow down", "code": "rate", "category": "RateLimited", "retry_after": 1.5, "details": {"n": 1}});
        let expected = Failure {
            message: "slow down".to_owned(),
            code: Some("rate".to_owned()),
            category: Category::RateLimited,
            retry_after: Some(Duration::from_millis(1500)),
            details: Some(json!({"n": 1})),
        };
        let read = |value: &Value| serde_json::value::to_raw_value(value).map(|raw| failure(&raw));
        assert_eq!(read(&full).ok(), Some(expected));
        let odd = json!({"message": "x", "code": 4, "category": "Gremlins", "retry_after": -1});
        assert_eq!(read(&odd).ok(), Some(Failure::new("x")));
        assert_eq!(read(&json!(42)).ok(), Some(Failure::new("42")));
    }

    #[test]
    fn a_job_is_a_message_of_its_own_and_so_is_its_reply() -> serde_json::Result<()> {
        let payload: Box<RawValue> = serde_json::from_str(r#"{"to":"ann"}"#)?;
        let job = ToWorker::Job { id: "i", payload: &payload, caller: None, msg_id: 42.to_string(), attempt: 2, timeout_ms: 5 };
        let read: Value = serde_json::from_slice(&job.line(0))?;
        assert_eq!(
            read,
            json!({"type": "job", "id": "i", "payload": {"to": "ann"}, "msg_id": "42", "attempt": 2, "timeout_ms": 5})
        );
        assert_eq!(reply(r#"{"type":"job_result","id":"AAAAAAAAAAAAAAAAAAAAAA"}"#), Ok("null".to_owned()));
        Ok(())
    }

    #[test]
    fn anything_else_is_not_a_message() {
        for line in ["hello", "{\"type\":\"surprise\"}", "{\"id\":1}", "{broken", "", "[]", "{\"type\":\"self_action\"}"] {
            assert!(FromWorker::parse(line.as_bytes()).is_none(), "{line}");
        }
        assert!(FromWorker::parse(b"{\"type\":\"log\",\"message\":\"\xff\"}").is_none());
    }

    #[test]
    fn a_message_stays_on_one_line_when_its_parameters_do_not() -> serde_json::Result<()> {
        let params: Box<RawValue> = serde_json::from_str("{\r\n  \"a\": \"x\\ny\"\n}")?;
        let line = ToWorker::Rpc { id: "i", method: "m", params: &params, caller: None, timeout_ms: 5 }.line(0);
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        let read: Value = serde_json::from_slice(&line)?;
        assert_eq!(
            read,
            json!({"type": "rpc", "id": "i", "method": "m", "params": {"a": "x\ny"}, "caller": null, "timeout_ms": 5})
        );
        Ok(())
    }

    #[test]
    fn results_of_self_actions_carry_a_result_or_an_error() -> serde_json::Result<()> {
        let (id, result): (Box<RawValue>, Box<RawValue>) = (serde_json::from_str("\"sa_1\"")?, serde_json::from_str("[1]")?);
        let line = Answer { kind: "self_action_result", id: &id, outcome: Outcome::Result(&result) }.line();
        assert_eq!(line, b"{\"type\":\"self_action_result\",\"id\":\"sa_1\",\"result\":[1]}\n");
        let refusal = Failure::new("no").with_code("call_over");
        let line = Answer { kind: "self_action_result", id: &id, outcome: Outcome::Error((&refusal).into()) }.line();
        let read: Value = serde_json::from_slice(&line)?;
        assert_eq!(read["error"], json!({"message": "no", "code": "call_over", "category": "Poison"}));
        Ok(())
    }
}
