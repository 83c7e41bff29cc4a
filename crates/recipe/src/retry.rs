//! When to try again: as the vendor says, else after growing pauses, and only where a second request does no harm.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::Method;

use crate::{
    Category, Failure,
    answer::Answer,
    document::{self, ResetUnit},
};

/// Requests in all, when the recipe says nothing.
const ATTEMPTS: u32 = 3;
const MOST_ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A vendor that wants to be left alone for longer is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How an action is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    pub attempts: u32,
    /// Whether a second request does no harm even if the first one took effect.
    pub repeatable: bool,
}

/// Where a vendor tells how much it still takes.
#[derive(Debug, Default)]
pub struct RateLimit {
    pub remaining: Option<String>,
    pub reset: Option<String>,
    pub unit: ResetUnit,
}

impl Retry {
    pub fn new(general: document::GeneralRetry, own: Option<document::Retry>, method: &Method, only_reads: bool) -> Self {
        let own = own.unwrap_or_default();
        let attempts = own.attempts.or(general.attempts).unwrap_or(ATTEMPTS).clamp(1, MOST_ATTEMPTS);
        let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || only_reads;
        Self { attempts, repeatable: own.idempotent.unwrap_or(safe) }
    }

    /// How long to wait before trying again; `None` when it is not tried.
    pub fn pause(self, failure: &Failure, attempt: u32, (left, random): (Duration, u64)) -> Option<Duration> {
        let harmless = !failure.may_have_happened || self.repeatable;
        let passing = matches!(failure.category, Category::RateLimited | Category::Unavailable);
        if attempt >= self.attempts || !passing || !harmless {
            return None;
        }
        let pause = failure.retry_after.unwrap_or_else(|| {
            let full = FIRST_PAUSE * 2_u32.saturating_pow(attempt.saturating_sub(1));
            // Between half of it and all of it, so that many callers do not come back as one.
            full / 2 + full.mul_f64(f64::from(u32::try_from(random % 1_000).unwrap_or_default()) / 2_000.0)
        });
        (pause <= LONGEST_PAUSE && pause < left).then_some(pause)
    }
}

impl RateLimit {
    /// Whether a refusal means that there were too many requests. The last permitted one brings no requests left as well, so
    /// that alone says nothing: the vendor also has to say when there are more.
    pub fn is_exhausted(&self, answer: &Answer, now: DateTime<Utc>) -> bool {
        let none_left = self.remaining.as_deref().and_then(|name| answer.header(name)).is_some_and(|left| left.trim() == "0");
        answer.header("retry-after").is_some() || (none_left && self.is_reset_later(answer, now))
    }

    fn is_reset_later(&self, answer: &Answer, now: DateTime<Utc>) -> bool {
        match self.reset(answer) {
            Some(Reset::In(delay)) => delay > Duration::ZERO,
            Some(Reset::At(then)) => then > now,
            None => false,
        }
    }

    fn reset(&self, answer: &Answer) -> Option<Reset> {
        let value = answer.header(self.reset.as_deref()?)?.trim();
        let stamp = |scale: f64| value.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n / scale);
        let at = |scale: f64| DateTime::from_timestamp_millis(milliseconds(stamp(scale)?)?).map(Reset::At);
        match self.unit {
            ResetUnit::Seconds => seconds(value).map(Reset::In),
            ResetUnit::Milliseconds => Duration::try_from_secs_f64(stamp(1_000.0)?).ok().map(Reset::In),
            ResetUnit::EpochSeconds => at(1.0),
            ResetUnit::EpochMilliseconds => at(1_000.0),
            ResetUnit::Date => date(value).map(Reset::At),
        }
    }
}

/// When a vendor takes requests again.
enum Reset {
    In(Duration),
    At(DateTime<Utc>),
}

/// How long the vendor wants to be left alone, if it says so.
pub fn wanted(answer: &Answer, limit: &RateLimit, now: DateTime<Utc>) -> Option<Duration> {
    if let Some(value) = answer.header("retry-after") {
        return seconds(value).or_else(|| date(value).map(|then| until(then, now)));
    }
    match limit.reset(answer)? {
        Reset::In(delay) => Some(delay),
        Reset::At(then) => Some(until(then, now)),
    }
}

/// Seconds as a vendor writes them.
pub fn seconds(value: &str) -> Option<Duration> {
    value.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked; what a vendor adds below a millisecond says nothing")]
fn milliseconds(seconds: f64) -> Option<i64> {
    let milliseconds = seconds * 1_000.0;
    (milliseconds.abs() < 1e15).then_some(milliseconds as i64)
}

fn date(value: &str) -> Option<DateTime<Utc>> {
    let http = httpdate::parse_http_date(value).ok().map(DateTime::from);
    http.or_else(|| DateTime::parse_from_rfc3339(value).ok().map(DateTime::from))
}

/// Not less than nothing, and a second where the clocks differ: the vendor's may be ahead.
fn until(then: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (then - now).to_std().unwrap_or(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::Value;

    use super::*;

    fn answer(headers: &[(&'static str, &str)]) -> Answer {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value"))).collect();
        Answer { status: 429, headers, body: Value::Null }
    }

    #[test]
    fn the_vendors_word_on_when_is_understood() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let limit = |unit| RateLimit { remaining: None, reset: Some("x-reset".to_owned()), unit };
        for (headers, unit, expected) in [
            (vec![("retry-after", "7")], ResetUnit::EpochSeconds, Some(7.0)),
            (vec![("retry-after", "0.5")], ResetUnit::EpochSeconds, Some(0.5)),
            (vec![("retry-after", "Tue, 14 Nov 2023 22:13:30 GMT")], ResetUnit::EpochSeconds, Some(10.0)),
            (vec![("x-reset", "1700000005")], ResetUnit::EpochSeconds, Some(5.0)),
            (vec![("x-reset", "1700000005000")], ResetUnit::EpochMilliseconds, Some(5.0)),
            (vec![("x-reset", "1699999999")], ResetUnit::EpochSeconds, Some(1.0)),
            (vec![("x-reset", "3")], ResetUnit::Seconds, Some(3.0)),
            (vec![("x-reset", "1500")], ResetUnit::Milliseconds, Some(1.5)),
            (vec![("x-reset", "2023-11-14T22:13:30Z")], ResetUnit::Date, Some(10.0)),
            (vec![("x-reset", "soon")], ResetUnit::EpochSeconds, None),
            (vec![("retry-after", "-5")], ResetUnit::EpochSeconds, None),
            (vec![], ResetUnit::EpochSeconds, None),
        ] {
            let got = wanted(&answer(&headers), &limit(unit), now).map(|pause| pause.as_secs_f64());
            assert_eq!(got, expected, "{headers:?}");
        }
    }

    #[test]
    fn what_may_have_happened_is_repeated_only_where_that_does_no_harm() {
        let failure = |category, may_have_happened| Failure { may_have_happened, ..Failure::new(category, "x", "x") };
        let post = Retry::new(document::GeneralRetry::default(), None, &Method::POST, false);
        let get = Retry::new(document::GeneralRetry::default(), None, &Method::GET, false);
        let world = (Duration::from_secs(10), 0);
        assert!(post.pause(&failure(Category::Unavailable, true), 1, world).is_none());
        assert!(post.pause(&failure(Category::Unavailable, false), 1, world).is_some());
        assert!(post.pause(&failure(Category::RateLimited, false), 1, world).is_some());
        assert!(get.pause(&failure(Category::Unavailable, true), 1, world).is_some());
        assert!(get.pause(&failure(Category::Validation, false), 1, world).is_none());
        assert!(get.pause(&failure(Category::Unavailable, true), 3, world).is_none(), "three requests in all");
        let late = Failure { retry_after: Some(Duration::from_secs(11)), ..failure(Category::RateLimited, false) };
        assert!(get.pause(&late, 1, world).is_none(), "the call has less time than that");
    }
}
