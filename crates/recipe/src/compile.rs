//! From the written recipes of an integration to something that can be carried out, or to everything that is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use http::{HeaderName, Method, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Base, Fault,
    address::{BaseTemplate, PathTemplate},
    answer::Mapping,
    auth::Auth,
    body::Body,
    document::{self, Arrays, Members, OneOrMany, Placement},
    page::Pagination,
    request::{self, is_reserved},
    retry::{RateLimit, Retry},
    rules::{ErrorBody, Rule, check_pointer},
    template::{Node, Text},
};

mod names;

use names::{ABOUT_ANSWERS, ABOUT_ITEMS, ABOUT_PAGES, ABOUT_REQUESTS, Names, WITHOUT_INPUT, secret_fields};
pub use names::{Context, Elsewhere};

/// MiB of one answer that are read when the recipe says nothing, and at most.
const RESPONSE_MIB: u32 = 10;
const MOST_RESPONSE_MIB: u32 = 50;

/// The recipes of one integration.
#[derive(Debug)]
pub struct Provider {
    pub(crate) common: Arc<Common>,
    actions: HashMap<String, Arc<Action>>,
}

/// One recipe, as it is written.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its place in the manifest, for faults: `$.actions[0].recipe`.
    pub path: &'a str,
    pub action: &'a str,
    pub recipe: &'a Value,
    pub input_schema: Option<&'a Value>,
    /// Whether the action changes nothing, whatever its method.
    pub only_reads: bool,
}

/// What all actions have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub base: BaseTemplate,
    pub headers: Vec<Header>,
    pub query: Vec<Parameter>,
    auth: Vec<Auth>,
    /// The same for connections by ways that put it elsewhere.
    ways: BTreeMap<String, Vec<Auth>>,
    pub idempotency_header: Option<HeaderName>,
    pub rate_limit: RateLimit,
    pub error_body: ErrorBody,
    pub errors: Vec<Rule>,
    pub response_limit: usize,
    /// Names of what is secret in the configuration: `config.token`.
    pub secret_fields: BTreeSet<String>,
}

impl Common {
    /// Where the credential of a connection by this way goes.
    pub fn auth(&self, way: Option<&str>) -> &[Auth] {
        way.and_then(|way| self.ways.get(way)).unwrap_or(&self.auth)
    }

    /// Whether some way's credential goes into this header.
    pub fn holds_credential(&self, header: &HeaderName) -> bool {
        self.ways.values().flatten().chain(&self.auth).any(|auth| auth.header() == Some(header))
    }
}

/// A recipe that can be carried out.
#[derive(Debug)]
pub struct Action {
    pub(crate) common: Arc<Common>,
    pub(crate) base: Option<BaseTemplate>,
    pub(crate) method: Method,
    pub(crate) path: PathTemplate,
    pub(crate) query: Given<Parameter>,
    pub(crate) headers: Given<Header>,
    pub(crate) body: Option<Body>,
    pub(crate) anonymous: bool,
    pub(crate) arrays: Arrays,
    pub(crate) pagination: Option<Pagination>,
    pub(crate) mapping: Mapping,
    pub(crate) errors: Vec<Rule>,
    pub(crate) retry: Retry,
}

#[derive(Debug)]
pub(crate) struct Header {
    pub name: HeaderName,
    pub value: Node,
}

#[derive(Debug)]
pub(crate) struct Parameter {
    pub name: String,
    pub value: Node,
}

/// Parameters or headers of an action: each with its name, or an object of whatever names a call brings.
#[derive(Debug)]
pub(crate) enum Given<T> {
    Named(Vec<T>),
    Object(Text),
}

impl<T> Given<T> {
    pub(crate) fn named(&self) -> &[T] {
        if let Self::Named(all) = self { all } else { &[] }
    }
}

impl Provider {
    /// Compiles the block `http` and every recipe.
    pub fn compile(http: &Value, sources: &[Source<'_>], context: &Context<'_>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let document: Option<document::Http> = read(http, "$.http", &mut faults);
        let names = Names::new(context);
        let Some(document) = document else { return Err(faults) };
        let ways = ways(context, &mut faults);
        let common = common(&document, &names, &mut faults);
        let common = Arc::new(Common { secret_fields: secret_fields(context), ways, ..common });
        let mut actions = HashMap::new();
        for source in sources {
            let own = Names::new(context).with_input(source.input_schema);
            if let Some(recipe) = read(source.recipe, source.path, &mut faults)
                && let Some(action) = action(&recipe, source, (&document, &common), &own, &mut faults)
            {
                actions.insert(source.action.to_owned(), Arc::new(action));
            }
        }
        if faults.is_empty() { Ok(Self { common, actions }) } else { Err(faults) }
    }

    pub fn action(&self, id: &str) -> Option<&Arc<Action>> {
        self.actions.get(id)
    }

    /// The hosts that the recipes name, where no value decides them.
    pub fn bases(&self) -> impl Iterator<Item = &Base> {
        let own = self.actions.values().filter_map(|action| action.base.as_ref());
        std::iter::once(&self.common.base).chain(own).filter_map(BaseTemplate::fixed)
    }
}

fn read<T: DeserializeOwned>(value: &Value, path: &str, faults: &mut Vec<Fault>) -> Option<T> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| {
            let place = error.path().to_string();
            let path = if place == "." { path.to_owned() } else { format!("{path}.{place}") };
            faults.push(Fault::new(path, error.into_inner().to_string()));
        })
        .ok()
}

fn common(document: &document::Http, names: &Names, faults: &mut Vec<Fault>) -> Common {
    let mut report = |path: String, message: String| faults.push(Fault::new(path, message));
    let base = base(&document.base_url, "$.http.baseUrl", names, &mut report);
    let headers = headers(&document.headers, "$.http.headers", names, &mut report);
    let query = parameters(&document.query, "$.http.query", names, &mut report);
    let placements = document.auth.clone().map(OneOrMany::into_vec).unwrap_or_default();
    let auth = auth(&placements, "$.http.auth", names, &mut report);
    let idempotency_header = document.idempotency_header.as_ref().and_then(|name| {
        let parsed = HeaderName::try_from(name).ok();
        if parsed.is_none() {
            report("$.http.idempotencyHeader".to_owned(), format!("'{name}' is no name of a header"));
        }
        parsed
    });
    let pointers = |pointers: &Option<OneOrMany<String>>| pointers.clone().map(OneOrMany::into_vec).unwrap_or_default();
    let error_body = ErrorBody { message: pointers(&document.error_body.message), code: pointers(&document.error_body.code) };
    for pointer in error_body.message.iter().chain(&error_body.code) {
        check_pointer(pointer, "$.http.errorBody", &mut report);
    }
    let limit = document.max_response_mib.unwrap_or(RESPONSE_MIB).clamp(1, MOST_RESPONSE_MIB);
    let rate = &document.rate_limit;
    Common {
        base,
        headers,
        query,
        auth,
        ways: BTreeMap::new(),
        idempotency_header,
        rate_limit: RateLimit { remaining: rate.remaining.clone(), reset: rate.reset.clone(), unit: rate.reset_unit },
        error_body,
        errors: rules(&document.errors, "$.http.errors", names, &mut report),
        response_limit: usize::try_from(limit).unwrap_or(1) * 1024 * 1024,
        secret_fields: BTreeSet::new(),
    }
}

fn auth(placements: &[Placement], path: &str, names: &Names, report: &mut impl FnMut(String, String)) -> Vec<Auth> {
    let mut all = Vec::new();
    for placement in placements {
        let compiled = Auth::compile(placement, |member, message| report(format!("{path}.{member}"), message));
        let Some(compiled) = compiled else { continue };
        names.check(path, &compiled.uses(), WITHOUT_INPUT, report);
        if compiled.header().is_some_and(is_reserved) {
            report(format!("{path}.name"), "this header belongs to the connection".to_owned());
        }
        all.push(compiled);
    }
    all
}

/// The placements of ways that do not put their credential where the others do.
fn ways(context: &Context<'_>, faults: &mut Vec<Fault>) -> BTreeMap<String, Vec<Auth>> {
    let mut all = BTreeMap::new();
    for way in context.ways {
        let Some(placements) = read::<OneOrMany<Placement>>(way.auth, way.path, faults) else { continue };
        let mut report = |path: String, message: String| faults.push(Fault::new(path, message));
        let compiled = auth(&placements.into_vec(), way.path, &Names::of_way(context, way), &mut report);
        all.insert(way.way.to_owned(), compiled);
    }
    all
}

fn action(
    recipe: &document::Recipe,
    source: &Source<'_>,
    (http, common): (&document::Http, &Arc<Common>),
    names: &Names,
    faults: &mut Vec<Fault>,
) -> Option<Action> {
    let path = source.path;
    let pagination = pagination(recipe, http, path, names, faults);
    let mut report = |path: String, message: String| faults.push(Fault::new(path, message));
    let method = method(&recipe.method);
    if method.is_none() {
        report(format!("{path}.method"), format!("'{}' is no method: GET, POST, PUT, PATCH, DELETE or HEAD", recipe.method));
    }
    let compiled_path = PathTemplate::compile(&recipe.path).map_err(|message| report(format!("{path}.path"), message)).ok();
    if let Some(compiled) = &compiled_path {
        names.check(&format!("{path}.path"), &compiled.uses(), ABOUT_REQUESTS, &mut report);
    }
    let body = recipe.body.as_ref().map(|body| {
        let compiled = Body::compile(body, &format!("{path}.body"), &mut report);
        names.check_all(compiled.uses(&format!("{path}.body")), ABOUT_REQUESTS, &mut report);
        compiled
    });
    if body.is_some() && matches!(method, Some(Method::GET | Method::HEAD)) {
        report(format!("{path}.body"), "a GET or HEAD has no body".to_owned());
    }
    let base = recipe.base_url.as_ref().map(|url| base(url, &format!("{path}.baseUrl"), names, &mut report));
    let query = match &recipe.query {
        Members::Named(all) => Given::Named(parameters(all, &format!("{path}.query"), names, &mut report)),
        Members::Given(source) => Given::Object(object(source, &format!("{path}.query"), names, &mut report)),
    };
    let headers = match &recipe.headers {
        Members::Named(all) => Given::Named(headers(all, &format!("{path}.headers"), names, &mut report)),
        Members::Given(source) => Given::Object(object(source, &format!("{path}.headers"), names, &mut report)),
    };
    for header in headers.named().iter().filter(|header| common.holds_credential(&header.name)) {
        report(format!("{path}.headers"), format!("'{}' is where the credential goes", header.name));
    }
    let mapping = mapping(&recipe.response, path, (names, pagination.is_some()), &mut report);
    let errors = rules(&recipe.errors, &format!("{path}.errors"), names, &mut report);
    let method = method?;
    Some(Action {
        common: Arc::clone(common),
        base,
        retry: Retry::new(http.retry, recipe.retry, &method, source.only_reads),
        method,
        path: compiled_path?,
        query,
        headers,
        body,
        anonymous: recipe.auth.is_some(),
        arrays: request::arrays(recipe.arrays, http.arrays),
        pagination,
        mapping,
        errors,
    })
}

fn method(name: &str) -> Option<Method> {
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD];
    known.into_iter().find(|method| method.as_str() == name)
}

fn base(url: &str, path: &str, names: &Names, report: &mut impl FnMut(String, String)) -> BaseTemplate {
    match BaseTemplate::compile(url) {
        Ok(base) => {
            // What a caller may say must never decide to whom a credential goes.
            names.check(path, &base.uses(), WITHOUT_INPUT, report);
            base
        }
        Err(message) => {
            report(path.to_owned(), message);
            BaseTemplate::Labels(Vec::new())
        }
    }
}

fn headers<'a>(
    all: impl IntoIterator<Item = (&'a String, &'a Value)>,
    path: &str,
    names: &Names,
    report: &mut impl FnMut(String, String),
) -> Vec<Header> {
    let mut headers = Vec::new();
    for (name, value) in all {
        let path = format!("{path}.{name}");
        let value = Node::compile(value, &path, report);
        names.check_all(value.uses(&path), ABOUT_REQUESTS, report);
        match HeaderName::try_from(name) {
            Ok(name) if name == header::AUTHORIZATION || name == header::COOKIE => {
                report(path, "a credential is placed by http.auth".to_owned());
            }
            Ok(name) if is_reserved(&name) => report(path, "this header belongs to the connection".to_owned()),
            Ok(name) => headers.push(Header { name, value }),
            Err(_) => report(path, format!("'{name}' is no name of a header")),
        }
    }
    headers
}

fn parameters<'a>(
    all: impl IntoIterator<Item = (&'a String, &'a Value)>,
    path: &str,
    names: &Names,
    report: &mut impl FnMut(String, String),
) -> Vec<Parameter> {
    let parameter = |(name, value): (&String, &Value)| {
        let path = format!("{path}.{name}");
        let value = Node::compile(value, &path, report);
        names.check_all(value.uses(&path), ABOUT_REQUESTS, report);
        Parameter { name: name.clone(), value }
    };
    all.into_iter().map(parameter).collect()
}

/// One expression in place of an object.
fn object(source: &str, path: &str, names: &Names, report: &mut impl FnMut(String, String)) -> Text {
    match Text::compile(source) {
        Ok(text @ Text::Whole(_)) => {
            names.check(path, &text.uses(), ABOUT_REQUESTS, report);
            return text;
        }
        Ok(_) => report(path.to_owned(), "is an object, or one expression that gives one".to_owned()),
        Err(message) => report(path.to_owned(), message),
    }
    Text::Literal(String::new())
}

fn rules(rules: &[document::Rule], path: &str, names: &Names, report: &mut impl FnMut(String, String)) -> Vec<Rule> {
    let rule = |(index, rule): (usize, &document::Rule)| {
        let path = format!("{path}[{index}]");
        let compiled = Rule::compile(rule, &path, report);
        for text in [&compiled.code, &compiled.message].into_iter().flatten() {
            names.check(&path, &text.uses(), ABOUT_ANSWERS, report);
        }
        compiled
    };
    rules.iter().enumerate().map(rule).collect()
}

fn mapping(
    response: &document::Response,
    path: &str,
    (names, paged): (&Names, bool),
    report: &mut impl FnMut(String, String),
) -> Mapping {
    let path = format!("{path}.response");
    if let Some(pointer) = &response.select {
        check_pointer(pointer, &format!("{path}.select"), report);
        if paged {
            report(format!("{path}.select"), "the result of pages is their list: see pagination.items".to_owned());
        }
    }
    let mut node = |member: &str, document: &Option<Value>, roots: &[&str]| {
        let path = format!("{path}.{member}");
        let node = Node::compile(document.as_ref()?, &path, report);
        names.check_all(node.uses(&path), roots, report);
        Some(node)
    };
    let each = node("each", &response.each, ABOUT_ITEMS);
    let template = node("template", &response.template, if paged { ABOUT_PAGES } else { ABOUT_ANSWERS });
    Mapping { kind: response.kind, select: response.select.clone(), each, template }
}

/// The action's own pagination, laid over that of the integration.
fn pagination(
    recipe: &document::Recipe,
    http: &document::Http,
    path: &str,
    names: &Names,
    faults: &mut Vec<Fault>,
) -> Option<Pagination> {
    let path = format!("{path}.pagination");
    let merged = match (recipe.pagination.as_ref()?, &http.pagination) {
        (Value::Bool(false), _) => return None,
        (Value::Bool(true), Some(general)) => general.clone(),
        (Value::Object(own), Some(Value::Object(general))) => {
            let mut merged = general.clone();
            merged.extend(own.clone());
            Value::Object(merged)
        }
        (own @ Value::Object(_), _) => own.clone(),
        _ => {
            faults.push(Fault::new(path, "is an object, or true where http.pagination says how"));
            return None;
        }
    };
    let document: document::Pagination = read(&merged, &path, faults)?;
    let mut report = |path: String, message: String| faults.push(Fault::new(path, message));
    let compiled = Pagination::compile(&document, &path, &mut report);
    names.check_all(compiled.uses(&path), ABOUT_ANSWERS, &mut report);
    names.check_all(compiled.uses_of_input(&path), ABOUT_REQUESTS, &mut report);
    let deep = compiled.parameters().any(|name| name.starts_with('/'));
    if deep && !(document.place == document::PagePlace::Body && matches!(recipe.body, Some(document::Body::Json(_)))) {
        report(format!("{path}.parameter"), "is a JSON pointer, which needs a JSON body and \"in\": \"body\"".to_owned());
    }
    if document.place == document::PagePlace::Body
        && !matches!(recipe.body, Some(document::Body::Json(_) | document::Body::Form(_)))
    {
        report(format!("{path}.in"), "the action has no JSON body or form to take it".to_owned());
    }
    Some(compiled)
}
