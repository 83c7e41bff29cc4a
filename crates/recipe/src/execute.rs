//! Carrying a recipe out: request, answer, perhaps again, perhaps further pages, one result.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::Value;
use url::Url;

use crate::{
    Category, Failure, Interrupted, Outgoing, Transport,
    answer::Answer,
    compile::Action,
    document::PagePlace,
    expression::Scope,
    oauth1::Once,
    page::{Next, Pagination},
    parameters,
    request::{LONGEST_ADDRESS, Prepared},
    retry::Retry,
    rules,
    template::as_text,
};

/// Redirects of a reading request that are followed.
const REDIRECTS: u8 = 5;
/// Bytes of all pages of a list together, as they came.
const LIST_LIMIT: usize = 64 * 1024 * 1024;

/// What an action is called with.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub input: &'a Value,
    pub config: &'a Value,
    pub credentials: Option<&'a Value>,
    /// By which way the connection was made that they are from.
    pub way: Option<&'a str>,
    /// Names this call for vendors that recognise a repeated one.
    pub key: Option<&'a str>,
}

impl Call<'_> {
    pub(crate) fn scope(&self) -> Scope<'_> {
        let scope = Scope::default().with("input", self.input).with("config", self.config);
        let scope = scope.with("credentials", self.credentials.unwrap_or(&Value::Null));
        scope.with_own("key", self.key.map_or(Value::Null, Value::from))
    }
}

/// One call on its way.
struct Carrier<'a, T> {
    action: &'a Action,
    call: &'a Call<'a>,
    scope: Scope<'a>,
    prepared: Prepared,
    transport: &'a T,
}

/// Carries a recipe out. Whatever fails is told without the credential.
pub async fn execute<T: Transport>(action: &Action, call: &Call<'_>, transport: &T) -> Result<Value, Failure> {
    let scope = call.scope();
    let prepared = Prepared::of(action, &scope, (call.way, call.key))?;
    let carrier = Carrier { action, call, scope, prepared, transport };
    let result = match &action.pagination {
        Some(pagination) => carrier.pages(pagination).await,
        None => carrier.once().await,
    };
    result.map_err(|failure| failure.without(&carrier.prepared.secrets))
}

impl<T: Transport> Carrier<'_, T> {
    async fn once(&self) -> Result<Value, Failure> {
        let (answer, _) = self.exchange(&self.prepared.url, &[]).await?;
        self.action.mapping.result(answer, self.call.input)
    }

    async fn pages(&self, pagination: &Pagination) -> Result<Value, Failure> {
        let wanted = pagination.wanted(&self.scope)?;
        let mut parameters = pagination.first(&self.prepared.url);
        let mut url = self.prepared.url.clone();
        let (mut items, mut bytes, mut page) = (Vec::new(), 0, 1);
        loop {
            let in_body: &[_] = if pagination.place == PagePlace::Body { &parameters } else { &[] };
            if pagination.place == PagePlace::Query {
                parameters::replace(&mut url, &texts(&parameters)?);
            }
            let (mut answer, size) = self.exchange(&url, in_body).await?;
            bytes += size;
            // Its items are taken out of the answer; expressions see it as it came.
            let whole = pagination.looks().then(|| answer.clone());
            let scope = whole.as_ref().map_or_else(Scope::default, |answer| answer.scope(self.call.input));
            let found = pagination.items(&mut answer)?;
            let count = found.len();
            items.extend(found);
            let next = pagination.next((&answer, &scope), count, (&url, &parameters))?;
            let enough = items.len() >= wanted || page >= pagination.max_pages || bytes >= LIST_LIMIT;
            if enough || next == Next::Nowhere {
                let more = next != Next::Nowhere || items.len() > wanted;
                items.truncate(wanted);
                return self.action.mapping.of_items(items, &answer, more, self.call.input);
            }
            match next {
                Next::Parameters(next) => parameters = next,
                Next::Address(next) => {
                    self.admit(&url, &next)?;
                    (url, parameters) = (next, Vec::new());
                }
                Next::Nowhere => {}
            }
            page += 1;
        }
    }

    /// Sends a request until it is answered, or trying again makes no sense; with the size of the answer.
    async fn exchange(&self, url: &Url, in_body: &[(String, Value)]) -> Result<(Answer, usize), Failure> {
        let mut attempt = 1;
        loop {
            let request = if self.prepared.base.has(url) {
                self.prepared.request((self.action, &self.scope), url, in_body, self.transport.random())?
            } else {
                self.elsewhere(url)?
            };
            let failure = match self.send(url, request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let world = (self.transport.left(), self.transport.random());
            let Some(pause) = self.retry().pause(&failure, attempt, world) else { return Err(failure) };
            self.transport.pause(pause).await;
            attempt += 1;
        }
    }

    /// A vendor that recognises the key of this call does nothing twice.
    fn retry(&self) -> Retry {
        let recognised = self.action.common.idempotency_header.is_some() && self.call.key.is_some();
        Retry { repeatable: self.action.retry.repeatable || recognised, ..self.action.retry }
    }

    async fn send(&self, url: &Url, request: Outgoing) -> Result<(Answer, usize), Failure> {
        let limit = self.action.common.response_limit;
        let headers = matches!(request.method, Method::GET | Method::HEAD).then(|| request.headers.clone());
        let mut response = self.transport.send(self.signed(request)?, limit).await.map_err(unanswered)?;
        if let Some(headers) = headers {
            let mut at = url.clone();
            for _ in 0..REDIRECTS {
                let Some(target) = redirect(&at, &response) else { break };
                self.admit(&at, &target)?;
                let request = self.signed(self.redirected(&target, &headers)?)?;
                response = self.transport.send(request, limit).await.map_err(unanswered)?;
                at = target;
            }
        }
        let size = response.body().len();
        let answer = Answer::read(response, self.action.mapping.kind)?;
        match rules::failure(self.action, &answer, self.call.input, self.transport.now()) {
            Some(failure) => Err(failure),
            None => Ok((answer, size)),
        }
    }

    /// Signs what goes to the vendor, where that is signed: each time anew.
    fn signed(&self, mut request: Outgoing) -> Result<Outgoing, Failure> {
        if self.prepared.placed.signer.is_some() && self.prepared.base.has(&request.url) {
            let nonce = format!("{:016x}{:016x}", self.transport.random(), self.transport.random());
            let once = Once { nonce, timestamp: self.transport.now().timestamp() };
            self.prepared.placed.sign(&mut request, &once)?;
        }
        Ok(request)
    }

    /// The request after a redirect. The credential and all that the recipe adds go to the same host only.
    fn redirected(&self, to: &Url, headers: &HeaderMap) -> Result<Outgoing, Failure> {
        if !self.prepared.base.has(to) {
            return self.elsewhere(to);
        }
        let (mut url, mut headers) = (to.clone(), headers.clone());
        self.prepared.placed.apply(&mut url, &mut headers)?;
        self.bodiless(url, headers)
    }

    /// The request to a host that only `egress` names: nothing of the recipe goes there.
    fn elsewhere(&self, to: &Url) -> Result<Outgoing, Failure> {
        if !matches!(self.action.method, Method::GET | Method::HEAD) {
            return Err(Failure::answer("the vendor points to another host, where only what reads may go"));
        }
        self.bodiless(to.clone(), HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("*/*"))]))
    }

    fn bodiless(&self, url: Url, headers: HeaderMap) -> Result<Outgoing, Failure> {
        if url.as_str().len() > LONGEST_ADDRESS {
            return Err(Failure::answer("the vendor points to an address that is too long"));
        }
        Ok(Outgoing { method: self.action.method.clone(), url, headers, body: Bytes::new() })
    }

    /// Whether an address that the vendor names may be contacted.
    fn admit(&self, from: &Url, url: &Url) -> Result<(), Failure> {
        if from.scheme() == "https" && url.scheme() != "https" {
            return Err(Failure::answer("the vendor leads from https to http"));
        }
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or_default();
        if self.prepared.base.has(url) || (matches!(url.scheme(), "http" | "https") && self.transport.permits(host, port)) {
            return Ok(());
        }
        Err(Failure::answer(format!("the vendor points to {host}, which the manifest's egress does not name")))
    }
}

fn texts(parameters: &[(String, Value)]) -> Result<Vec<(String, String)>, Failure> {
    let text = |(name, value): &(String, Value)| as_text(value).map(|text| (name.clone(), text)).map_err(Failure::answer);
    parameters.iter().map(text).collect()
}

pub(crate) fn unanswered(interrupted: Interrupted) -> Failure {
    let category = if interrupted.passing { Category::Unavailable } else { Category::Failed };
    let code = if interrupted.unsent { "unreachable" } else { "no_answer" };
    Failure { may_have_happened: !interrupted.unsent, ..Failure::new(category, code, interrupted.message) }
}

fn redirect(from: &Url, response: &Response<Bytes>) -> Option<Url> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    let location = response.headers().get(header::LOCATION).filter(|_| redirects.contains(&response.status()))?;
    from.join(location.to_str().ok()?).ok()
}
