//! Recipes as they are written: the block `http` of a manifest and the `recipe` of an action.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::oauth1::SignatureMethod;

/// What all actions of an integration have in common.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    pub base_url: String,
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    #[serde(default)]
    pub query: BTreeMap<String, Value>,
    pub auth: Option<OneOrMany<Placement>>,
    #[serde(default)]
    pub arrays: Arrays,
    /// The header in which the vendor takes a key that makes repeating a request safe.
    pub idempotency_header: Option<String>,
    #[serde(default)]
    pub rate_limit: RateLimit,
    #[serde(default)]
    pub error_body: ErrorBody,
    #[serde(default)]
    pub errors: Vec<Rule>,
    pub pagination: Option<Value>,
    #[serde(default)]
    pub retry: GeneralRetry,
    /// Bytes of one answer that are read, in MiB.
    pub max_response_mib: Option<u32>,
}

/// How one action is called.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recipe {
    pub method: String,
    pub path: String,
    /// Instead of the integration's own.
    pub base_url: Option<String>,
    #[serde(default)]
    pub query: Members,
    #[serde(default)]
    pub headers: Members,
    pub body: Option<Body>,
    pub auth: Option<NoAuth>,
    pub arrays: Option<Arrays>,
    /// `true` for the integration's own, or an object that is laid over it.
    pub pagination: Option<Value>,
    #[serde(default)]
    pub response: Response,
    #[serde(default)]
    pub errors: Vec<Rule>,
    pub retry: Option<Retry>,
}

/// Many comes first: a list would be one of what takes any value.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

/// Parameters or headers: each with its name, or one expression that gives an object of all.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Members {
    Named(BTreeMap<String, Value>),
    Given(String),
}

impl Default for Members {
    fn default() -> Self {
        Self::Named(BTreeMap::new())
    }
}

/// A value that is there, null included: otherwise null would count as absent.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl<T> OneOrMany<T> {
    pub fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// Where a credential goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Placement {
    Bearer {
        token: String,
        #[serde(default)]
        optional: bool,
    },
    Basic {
        username: String,
        #[serde(default)]
        password: String,
        #[serde(default)]
        optional: bool,
    },
    Header {
        name: String,
        value: String,
        #[serde(default)]
        optional: bool,
    },
    Query {
        name: String,
        value: String,
        #[serde(default)]
        optional: bool,
    },
    Cookie {
        name: String,
        value: String,
        #[serde(default)]
        optional: bool,
    },
    /// A signature of OAuth 1.0a over each request.
    #[serde(rename_all = "camelCase")]
    Oauth1 {
        consumer_key: String,
        consumer_secret: String,
        token: Option<String>,
        token_secret: Option<String>,
        #[serde(default)]
        signature_method: SignatureMethod,
        realm: Option<String>,
        #[serde(default)]
        optional: bool,
    },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoAuth {
    None,
}

/// How lists are written in query strings and forms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrays {
    /// `a=1&a=2`
    #[default]
    Repeat,
    /// `a[]=1&a[]=2`
    Brackets,
    /// `a[0]=1&a[1]=2`
    Indices,
    /// `a=1,2`
    Comma,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Body {
    Json(Value),
    Form(Value),
    Multipart(Vec<Part>),
    Text(String),
    /// A text in Base64, sent as what it stands for.
    Bytes(String),
}

/// One part of a multipart body: a plain value, or a file in Base64.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    pub name: String,
    pub value: Option<String>,
    pub base64: Option<String>,
    pub file_name: Option<String>,
    pub content_type: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// The header that says how many requests are left.
    pub remaining: Option<String>,
    /// The header that says when there are more.
    pub reset: Option<String>,
    #[serde(default)]
    pub reset_unit: ResetUnit,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ResetUnit {
    #[default]
    EpochSeconds,
    EpochMilliseconds,
    Seconds,
    Milliseconds,
    Date,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    pub message: Option<OneOrMany<String>>,
    pub code: Option<OneOrMany<String>>,
}

/// What an answer means, when it is what `when` says.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    pub when: When,
    pub category: crate::Category,
    pub code: Option<String>,
    pub message: Option<String>,
    /// Seconds after which another request makes sense: a number, or a JSON pointer to one.
    pub retry_after: Option<Value>,
}

/// All that is named has to hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// A status, a class of them (`4xx`), or several.
    pub status: Option<OneOrMany<Value>>,
    /// Where to look in the body; without a test: that it is there and neither null, false, zero nor empty.
    pub pointer: Option<String>,
    /// The name of a header to look at instead.
    pub header: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub equals: Option<Value>,
    #[serde(rename = "in")]
    pub one_of: Option<Vec<Value>>,
    /// A part of the text there.
    pub contains: Option<String>,
    /// A regular expression for the text there.
    pub matches: Option<String>,
    pub exists: Option<bool>,
}

/// What goes for all actions. Whether repeating does no harm is a matter of each.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneralRetry {
    /// Requests in all, the first one included.
    pub attempts: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Requests in all, the first one included.
    pub attempts: Option<u32>,
    /// Whether repeating does no harm although it is no GET.
    pub idempotent: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    #[serde(rename = "as")]
    pub kind: Option<ResponseKind>,
    /// JSON pointer to the part that is the result.
    pub select: Option<String>,
    /// What each item of a list becomes.
    pub each: Option<Value>,
    /// What the result becomes.
    pub template: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseKind {
    Json,
    Text,
    Base64,
    None,
}

/// How a list goes on.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pagination {
    #[serde(rename = "type")]
    pub kind: PageKind,
    /// JSON pointer to the list in an answer; the answer itself when absent.
    #[serde(default)]
    pub items: String,
    /// Where the cursor, page number or offset goes.
    pub parameter: Option<String>,
    #[serde(rename = "in", default)]
    pub place: PagePlace,
    /// `cursor`: a pointer or an expression that gives the next one. `link`: the same for the next address, if it is not in the
    /// header `Link`.
    pub next: Option<String>,
    /// A pointer or an expression that says whether there is more.
    pub more: Option<String>,
    /// The number of the first page.
    pub start: Option<i64>,
    pub page_size: Option<PageSize>,
    pub max_pages: Option<u32>,
    /// A number, or an expression that gives one.
    pub max_items: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PageKind {
    Cursor,
    Page,
    Offset,
    Link,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PagePlace {
    #[default]
    Query,
    Body,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageSize {
    pub parameter: String,
    pub value: u32,
}
