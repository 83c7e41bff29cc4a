//! Requests that a browser makes by going to an address, and answers for the person in front of it.
//!
//! Such an address may be good for one time only, so what merely looks ahead (HEAD, prefetching) is refused and uses nothing up.

use std::collections::BTreeMap;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use super::{
    problem::{Code, Problem},
    trace,
};

const CONTENT_SECURITY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// A button, and what it sends where.
pub struct Button<'a> {
    pub text: &'a str,
    pub path: &'a str,
    pub fields: &'a BTreeMap<String, String>,
}

/// What stands below the lines of a page.
enum Rest {
    Note(String),
    /// HTML, with all that it quotes escaped.
    Form(String),
}

/// Somebody who came to an address to see what is there.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// A browser, and not a program that fetches. On TLS and on this machine browsers say so themselves, and no page can
    /// make them not say it.
    pub is_browser: bool,
    /// Whether the answer is to be read by a person.
    wants_page: bool,
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        if parts.method != Method::GET {
            return Err(Problem::new(Code::MethodNotAllowed, "This path takes GET only, because a visit uses something up."));
        }
        let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text(HeaderName::from_static("sec-purpose")).contains("prefetch") {
            return Err(Problem::new(Code::Conflict, "This address is not fetched ahead, because a visit uses something up."));
        }
        let said = parts.headers.contains_key("sec-fetch-mode");
        Ok(Self {
            is_browser: said || text(header::USER_AGENT).starts_with("Mozilla/"),
            wants_page: text(header::ACCEPT).contains("text/html"),
        })
    }
}

impl Visit {
    /// The answer when nothing comes of the visit: a page for a person, the problem for a program.
    pub fn refuse(self, problem: Problem) -> Response {
        if self.wants_page { page(&problem) } else { problem.into_response() }
    }

    /// The answer when something came of the visit: a page that says what.
    #[expect(clippy::unused_self, reason = "only a visit is answered with a page")]
    pub fn inform(self, title: &str, lines: &[String]) -> Response {
        document(StatusCode::OK, title, lines, &Rest::Note(String::new()))
    }

    /// The answer before something comes of the visit: a page that asks, and sends the fields to this path when its button is pressed.
    #[expect(clippy::unused_self, reason = "only a visit is answered with a page")]
    pub fn ask(self, title: &str, lines: &[String], button: &Button<'_>) -> Response {
        let inputs = button.fields.iter().fold(String::new(), |inputs, (name, value)| {
            inputs + &format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", escape(name), escape(value))
        });
        let (path, text) = (escape(button.path), escape(button.text));
        let form = format!("<form method=\"post\" action=\"{path}\">{inputs}<button>{text}</button></form>");
        document(StatusCode::OK, title, lines, &Rest::Form(form))
    }

    /// The visit of somebody who pressed such a button.
    pub const fn of_button() -> Self {
        Self { is_browser: true, wants_page: true }
    }

    /// Whether a person who comes from elsewhere is to be sent on with what went wrong.
    pub fn goes_on(self) -> bool {
        self.wants_page
    }
}

fn page(problem: &Problem) -> Response {
    let note = format!("trace {}", trace::current());
    document(problem.code().status(), problem.code().title(), &[problem.message().to_owned()], &Rest::Note(note))
}

/// A page that says something. All of it is escaped.
fn document(status: StatusCode, title: &str, lines: &[String], rest: &Rest) -> Response {
    let title = escape(title);
    let (rest, posts_to) = match rest {
        Rest::Note(note) => (format!("<p><small>{}</small></p>", escape(note)), "'none'"),
        Rest::Form(form) => (form.clone(), "'self'"),
    };
    let lines = lines.iter().fold(String::new(), |lines, line| lines + "<p>" + &escape(line) + "</p>");
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}}\
         small{{opacity:.6}}button{{font:inherit;padding:.4rem 1rem}}@media(prefers-color-scheme:dark){{body{{background:#111;color:#eee}}}}</style></head>\
         <body><h1>{title}</h1>{lines}{rest}</body></html>\n"
    );
    let mut headers: HeaderMap = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ]
    .into_iter()
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .collect();
    let policy = format!("{CONTENT_SECURITY}; form-action {posts_to}");
    headers.extend(HeaderValue::from_str(&policy).ok().map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    (status, headers, body).into_response()
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_quotes_cannot_become_part_of_it() {
        assert_eq!(escape("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
    }
}
