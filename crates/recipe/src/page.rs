//! Pages: how a list goes on, and when it has been read far enough.

use http::header;
use serde_json::Value;
use url::Url;

use crate::{
    Failure,
    answer::Answer,
    document::{self, PageKind, PagePlace, PageSize},
    expression::Scope,
    rules::{check_pointer, is_truthy},
    template::{Node, Text, as_text},
};

const MAX_PAGES: u32 = 20;
const MOST_PAGES: u32 = 100;
const MAX_ITEMS: usize = 1_000;
const MOST_ITEMS: usize = 10_000;

/// How a list goes on.
#[derive(Debug)]
pub struct Pagination {
    kind: PageKind,
    items: String,
    parameter: String,
    pub place: PagePlace,
    next: Option<Look>,
    more: Option<Look>,
    start: i64,
    page_size: Option<PageSize>,
    pub max_pages: u32,
    max_items: Option<Node>,
}

/// Something to be found in an answer.
#[derive(Debug)]
enum Look {
    Pointer(String),
    Expression(Text),
}

/// Where the next page is.
#[derive(Debug, PartialEq)]
pub enum Next {
    Parameters(Vec<(String, Value)>),
    Address(Url),
    Nowhere,
}

impl Pagination {
    pub fn compile(document: &document::Pagination, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        check_pointer(&document.items, &format!("{path}.items"), fault);
        let needs_parameter = document.kind != PageKind::Link;
        if needs_parameter && document.parameter.is_none() {
            fault(format!("{path}.parameter"), "is missing: the name under which the vendor takes it".to_owned());
        }
        if document.kind == PageKind::Cursor && document.next.is_none() {
            fault(format!("{path}.next"), "is missing: where in an answer the next cursor is".to_owned());
        }
        let mut look = |member: &str, source: &Option<String>| {
            source.as_ref().map(|source| Look::compile(source, &format!("{path}.{member}"), fault))
        };
        let (next, more) = (look("next", &document.next), look("more", &document.more));
        let max_items = document.max_items.as_ref().map(|value| {
            if !value.is_string() && value.as_u64().is_none() {
                fault(format!("{path}.maxItems"), "is a number, or an expression that gives one".to_owned());
            }
            Node::compile(value, &format!("{path}.maxItems"), fault)
        });
        Self {
            kind: document.kind,
            items: document.items.clone(),
            parameter: document.parameter.clone().unwrap_or_default(),
            place: document.place,
            next,
            more,
            start: document.start.unwrap_or_else(|| i64::from(document.kind == PageKind::Page)),
            page_size: document.page_size.clone(),
            max_pages: document.max_pages.unwrap_or(MAX_PAGES).clamp(1, MOST_PAGES),
            max_items,
        }
    }

    /// What its expressions use: those about answers, and those about the input.
    pub fn uses(&self, path: &str) -> Vec<(String, std::collections::BTreeSet<String>)> {
        let look = |member: &str, look: &Option<Look>| match look {
            Some(Look::Expression(text)) => vec![(format!("{path}.{member}"), text.uses())],
            Some(Look::Pointer(_)) | None => Vec::new(),
        };
        [look("next", &self.next), look("more", &self.more)].concat()
    }

    pub fn uses_of_input(&self, path: &str) -> Vec<(String, std::collections::BTreeSet<String>)> {
        self.max_items.as_ref().map(|node| node.uses(&format!("{path}.maxItems"))).unwrap_or_default()
    }

    /// Where in a request it says which page is meant: names, or pointers into a JSON body.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.parameter.as_str()).chain(self.page_size.iter().map(|size| size.parameter.as_str()))
    }

    /// Whether its expressions look at answers.
    pub fn looks(&self) -> bool {
        [&self.next, &self.more].into_iter().any(|look| matches!(look, Some(Look::Expression(_))))
    }

    /// How many items are enough.
    pub fn wanted(&self, scope: &Scope<'_>) -> Result<usize, Failure> {
        let Some(node) = &self.max_items else { return Ok(MAX_ITEMS) };
        let value = node.render(scope).map_err(|error| Failure::input(format!("maxItems: {error}")))?;
        let Some(value) = value else { return Ok(MAX_ITEMS) };
        let wanted = value.as_u64().and_then(|wanted| usize::try_from(wanted).ok()).filter(|wanted| *wanted > 0);
        wanted.map(|wanted| wanted.min(MOST_ITEMS)).ok_or_else(|| Failure::input("maxItems: is a number above zero"))
    }

    /// The parameters of the first page; those that the action sets itself stay.
    pub fn first(&self, url: &Url) -> Vec<(String, Value)> {
        let set = |name: &str| self.place == PagePlace::Query && url.query_pairs().any(|(other, _)| other == name);
        let size = self.page_size.iter().map(|size| (size.parameter.clone(), Value::from(size.value)));
        let position = match self.kind {
            PageKind::Page | PageKind::Offset => Some((self.parameter.clone(), Value::from(self.start))),
            PageKind::Cursor | PageKind::Link => None,
        };
        size.chain(position).filter(|(name, _)| !set(name)).collect()
    }

    /// The list in an answer. Vendors leave it out when it is empty.
    pub fn items(&self, answer: &mut Answer) -> Result<Vec<Value>, Failure> {
        match answer.body.pointer_mut(&self.items).map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(_) => Err(Failure::answer(format!("the vendor's answer has no list at '{}'", self.items))),
        }
    }

    /// Where the list goes on after an answer that brought `items`; `before` are the parameters that led to it.
    pub fn next(
        &self,
        (answer, scope): (&Answer, &Scope<'_>),
        items: usize,
        (url, before): (&Url, &[(String, Value)]),
    ) -> Result<Next, Failure> {
        if let Some(more) = &self.more
            && !more.find(answer, scope)?.is_some_and(|value| is_truthy(&value))
        {
            return Ok(Next::Nowhere);
        }
        let value = |name: &str| {
            let sent = before.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
            sent.or_else(|| {
                url.query_pairs().find(|(other, _)| other == name).map(|(_, value)| Value::String(value.into_owned()))
            })
        };
        match self.kind {
            PageKind::Link => self.link(answer, scope, url),
            PageKind::Cursor => {
                let cursor = self.next.as_ref().map(|next| next.find(answer, scope)).transpose()?.flatten();
                let cursor = cursor.filter(|cursor| is_truthy(cursor) && value(&self.parameter).as_ref() != Some(cursor));
                let Some(cursor) = cursor else { return Ok(Next::Nowhere) };
                as_text(&cursor).map_err(|error| Failure::answer(format!("the next cursor: {error}")))?;
                Ok(Next::Parameters(self.with_position(before, cursor)))
            }
            PageKind::Page | PageKind::Offset => {
                let size = self.page_size.as_ref().and_then(|size| number(&value(&size.parameter)?));
                let short = size.is_some_and(|size| i64::try_from(items).is_ok_and(|items| items < size));
                if items == 0 || (short && self.more.is_none()) {
                    return Ok(Next::Nowhere);
                }
                let step = if self.kind == PageKind::Page { 1 } else { i64::try_from(items).unwrap_or(i64::MAX) };
                let position = value(&self.parameter).and_then(|value| number(&value)).unwrap_or(self.start);
                Ok(Next::Parameters(self.with_position(before, Value::from(position.saturating_add(step)))))
            }
        }
    }

    fn with_position(&self, before: &[(String, Value)], position: Value) -> Vec<(String, Value)> {
        let others = before.iter().filter(|(name, _)| *name != self.parameter).cloned();
        others.chain([(self.parameter.clone(), position)]).collect()
    }

    fn link(&self, answer: &Answer, scope: &Scope<'_>, url: &Url) -> Result<Next, Failure> {
        let found = match &self.next {
            Some(next) => next.find(answer, scope)?.and_then(|value| value.as_str().map(str::to_owned)),
            None => answer.headers.get_all(header::LINK).iter().find_map(|value| next_link(value.to_str().ok()?)),
        };
        let Some(found) = found.filter(|found| !found.is_empty()) else { return Ok(Next::Nowhere) };
        match url.join(&found) {
            Ok(next) if next == *url => Ok(Next::Nowhere),
            Ok(next) => Ok(Next::Address(next)),
            Err(_) => Err(Failure::answer("the vendor's link to the next page is no address")),
        }
    }
}

impl Look {
    fn compile(source: &str, path: &str, fault: &mut impl FnMut(String, String)) -> Self {
        if !source.contains("{{") {
            check_pointer(source, path, fault);
            return Self::Pointer(source.to_owned());
        }
        Text::compile(source).map_or_else(
            |message| {
                fault(path.to_owned(), message);
                Self::Pointer(String::new())
            },
            Self::Expression,
        )
    }

    fn find(&self, answer: &Answer, scope: &Scope<'_>) -> Result<Option<Value>, Failure> {
        match self {
            Self::Pointer(pointer) => Ok(answer.body.pointer(pointer).cloned()),
            Self::Expression(text) => text.render(scope).map_err(|error| Failure::answer(format!("pagination: {error}"))),
        }
    }
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// The address with `rel="next"` in a header as RFC 8288 writes it.
fn next_link(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, behind)) = rest.split_once('<') {
        let (address, behind) = behind.split_once('>')?;
        let parameters = behind.split('<').next().unwrap_or_default();
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel") && value.split(' ').any(|word| word.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(address.to_owned());
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_link_to_the_next_page_is_found() {
        for (header, expected) in [
            (
                r#"<https://a.example/?page=2>; rel="next", <https://a.example/?page=9>; rel="last""#,
                Some("https://a.example/?page=2"),
            ),
            (
                r#"<https://a.example/?page=1>; rel="prev", <https://a.example/?a=1,2>; rel=next"#,
                Some("https://a.example/?a=1,2"),
            ),
            (r#"<https://a.example/?x>; title="rel=next"; rel="prev""#, None),
            ("", None),
        ] {
            assert_eq!(next_link(header).as_deref(), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(header in "[<>;,=\" a-z]{0,60}") {
            let _ = next_link(&header);
        }
    }
}
