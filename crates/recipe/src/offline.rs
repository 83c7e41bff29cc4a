//! Recipes against recorded vendors: what is to be sent, what is answered, what is to come of it. Nothing leaves the machine.
//!
//! A [`Case`] speaks the vendor's wire format. What a request holds beyond what the case names does not matter, except for its
//! address and its body.

use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, ready},
    pin::pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Response, header};
use serde::Deserialize;
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::{Call, Category, Failure, Interrupted, Outgoing, Provider, Transport, document::present, execute};

/// One recorded call.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub action: String,
    #[serde(default = "empty")]
    pub input: Value,
    #[serde(default = "empty")]
    pub config: Value,
    pub credentials: Option<Value>,
    /// By which way the connection was made that they are from; the first when absent.
    pub way: Option<String>,
    /// Requests in their order, each with its answer.
    pub exchanges: Vec<Exchange>,
    /// What the action gives back; nothing is compared when neither this nor `error` is there.
    #[serde(default, deserialize_with = "present")]
    pub result: Option<Value>,
    pub error: Option<ExpectedError>,
    /// Seconds that were waited between requests.
    pub pauses: Option<Vec<f64>>,
    /// The time; the beginning of 2026 when absent.
    pub now: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    pub request: ExpectedRequest,
    #[serde(default)]
    pub answer: Answer,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedRequest {
    pub method: String,
    /// The whole address; the order of query parameters does not matter.
    pub url: String,
    /// Headers that have to be there; null: that must not be there.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<String>>,
    #[serde(default, deserialize_with = "present")]
    pub json: Option<Value>,
    pub form: Option<BTreeMap<String, String>>,
    pub text: Option<String>,
    /// Texts that the body has to hold, in this order.
    pub contains: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub status: Option<u16>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "present")]
    pub json: Option<Value>,
    pub text: Option<String>,
    pub base64: Option<String>,
    /// In place of an answer: the connection does not come about, or breaks off.
    pub fails: Option<Fails>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fails {
    Connect,
    Timeout,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedError {
    pub category: Category,
    pub code: Option<String>,
    pub message: Option<String>,
    pub retry_after: Option<f64>,
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// The recorded vendor.
struct Vendor<'a> {
    case: &'a Case,
    permits: &'a (dyn Fn(&str, u16) -> bool + Sync),
    state: Mutex<State>,
}

struct State {
    left: VecDeque<Exchange>,
    pauses: Vec<f64>,
    complaints: Vec<String>,
}

/// Plays a case; `permits` says which hosts may be contacted besides the integration's own. `Ok` is the action's result or failure, as expected; `Err` says everything that differs.
pub fn play(
    provider: &Provider,
    case: &Case,
    permits: &(dyn Fn(&str, u16) -> bool + Sync),
) -> Result<Result<Value, Failure>, Vec<String>> {
    let Some(action) = provider.action(&case.action) else {
        return Err(vec![format!("there is no recipe for the action '{}'", case.action)]);
    };
    let state = State { left: case.exchanges.iter().cloned().collect(), pauses: Vec::new(), complaints: Vec::new() };
    let vendor = Vendor { case, permits, state: Mutex::new(state) };
    let call = Call {
        input: &case.input,
        config: &case.config,
        credentials: case.credentials.as_ref(),
        way: case.way.as_deref(),
        key: Some("key-of-this-call"),
    };
    // Nothing in it waits for anything, so it is ready at once.
    let Poll::Ready(outcome) = pin!(execute(action, &call, &vendor)).poll(&mut Context::from_waker(Waker::noop())) else {
        return Err(vec!["the recipe waits for something that does not come".to_owned()]);
    };
    let state = vendor.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut complaints = state.complaints;
    if !state.left.is_empty() {
        complaints.push(format!("{} expected requests were not sent", state.left.len()));
    }
    if case.pauses.as_ref().is_some_and(|pauses| *pauses != state.pauses) {
        complaints.push(format!("waited {:?} seconds between requests", state.pauses));
    }
    compare(case, &outcome, &mut complaints);
    if complaints.is_empty() { Ok(outcome) } else { Err(complaints) }
}

fn compare(case: &Case, outcome: &Result<Value, Failure>, complaints: &mut Vec<String>) {
    match (outcome, &case.result, &case.error) {
        (Ok(value), Some(expected), _) if value != expected => complaints.push(format!("gave back {value}, not {expected}")),
        (Ok(value), None, Some(_)) => complaints.push(format!("gave back {value}, and an error was expected")),
        (Err(failure), _, None) => complaints.push(format!("failed: {failure} ({:?}, {})", failure.category, failure.code)),
        (Err(failure), _, Some(expected)) => {
            let retry_after = failure.retry_after.map(|delay| delay.as_secs_f64());
            let fits = failure.category == expected.category
                && expected.code.as_ref().is_none_or(|code| *code == failure.code)
                && expected.message.as_ref().is_none_or(|message| *message == failure.message)
                && expected.retry_after.is_none_or(|seconds| retry_after == Some(seconds));
            if !fits {
                complaints.push(format!("failed as {failure:?}, not as {expected:?}"));
            }
        }
        _ => {}
    }
}

impl Transport for Vendor<'_> {
    fn send(&self, request: Outgoing, limit: usize) -> impl Future<Output = Result<Response<Bytes>, Interrupted>> + Send {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(exchange) = state.left.pop_front() else {
            state.complaints.push(format!("an unexpected request: {} {}", request.method, request.url));
            return ready(Err(Interrupted { message: "nothing is recorded".to_owned(), unsent: false, passing: false }));
        };
        let number = self.case.exchanges.len() - state.left.len();
        let differences = exchange.request.differences(&request).into_iter();
        state.complaints.extend(differences.map(|difference| format!("request {number}: {difference}")));
        ready(exchange.answer.into_response(limit))
    }

    fn pause(&self, delay: Duration) -> impl Future<Output = ()> + Send {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).pauses.push(delay.as_secs_f64());
        ready(())
    }

    fn now(&self) -> DateTime<Utc> {
        self.case.now.or_else(|| DateTime::from_timestamp(1_767_225_600, 0)).unwrap_or_default()
    }

    fn left(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn random(&self) -> u64 {
        0
    }

    fn permits(&self, host: &str, port: u16) -> bool {
        (self.permits)(host, port)
    }
}

impl ExpectedRequest {
    fn differences(&self, request: &Outgoing) -> Vec<String> {
        let mut found = Vec::new();
        if request.method.as_str() != self.method {
            found.push(format!("{} instead of {}", request.method, self.method));
        }
        let sent = request.url.as_str();
        if normal(sent) != normal(&self.url) {
            found.push(format!("goes to {sent}, not to {}", self.url));
        }
        for (name, expected) in &self.headers {
            let sent = request.headers.get(name.to_ascii_lowercase()).map(|value| String::from_utf8_lossy(value.as_bytes()));
            if sent.as_deref() != expected.as_deref() {
                found.push(format!("header {name}: {sent:?}, not {expected:?}"));
            }
        }
        found.extend(self.body_difference(request));
        found
    }

    fn body_difference(&self, request: &Outgoing) -> Option<String> {
        let text = String::from_utf8_lossy(&request.body);
        let told = |fits: bool| (!fits).then(|| format!("the body is {text}"));
        if let Some(expected) = &self.json {
            let sent = serde_json::from_slice::<Value>(&request.body).ok();
            return told(says_json(request) && sent.as_ref() == Some(expected));
        }
        if let Some(expected) = &self.form {
            let sent: BTreeMap<String, String> = form_urlencoded::parse(&request.body).into_owned().collect();
            return told(sent == *expected);
        }
        if let Some(expected) = &self.text {
            return told(text == expected.as_str());
        }
        if let Some(parts) = &self.contains {
            let mut rest = text.as_ref();
            let in_order = parts.iter().all(|part| match rest.split_once(part.as_str()) {
                Some((_, behind)) => {
                    rest = behind;
                    true
                }
                None => false,
            });
            return told(in_order);
        }
        told(request.body.is_empty())
    }
}

/// Whether a request says that its body is JSON, whatever else it says about it.
fn says_json(request: &Outgoing) -> bool {
    let kind = request.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().ends_with("json")
}

/// An address with its parameters in order.
fn normal(address: &str) -> Option<(String, Vec<(String, String)>)> {
    let mut url = Url::parse(address).ok()?;
    let mut pairs: Vec<_> = url.query_pairs().into_owned().collect();
    pairs.sort();
    url.set_query(None);
    Some((url.into(), pairs))
}

impl Answer {
    fn into_response(self, limit: usize) -> Result<Response<Bytes>, Interrupted> {
        if let Some(fails) = self.fails {
            let unsent = fails == Fails::Connect;
            return Err(Interrupted { message: "the vendor cannot be reached".to_owned(), unsent, passing: true });
        }
        let mut response = Response::builder().status(self.status.unwrap_or(200));
        let bytes: Bytes = match (self.json, self.text, self.base64) {
            (Some(value), ..) => {
                if !self.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
                    response = response.header(header::CONTENT_TYPE, "application/json");
                }
                value.to_string().into()
            }
            (None, Some(text), _) => text.into(),
            (None, None, encoded) => STANDARD.decode(encoded.unwrap_or_default()).unwrap_or_default().into(),
        };
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let broken = |message: String| Interrupted { message, unsent: false, passing: false };
        if bytes.len() > limit {
            return Err(broken(format!("the answer is larger than {limit} bytes")));
        }
        response.body(bytes).map_err(|error| broken(error.to_string()))
    }
}
