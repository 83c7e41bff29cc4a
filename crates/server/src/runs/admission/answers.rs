//! Answers of reading actions that the manifest lets the platform give again for a while.
//!
//! The same answer goes to the same question of the same account; where a backend answers, who sees its caller, of the same caller too.
//! Whoever asks was authorised before and is recorded as ever. In memory, per node, bounded in bytes; a changed app or configuration
//! forgets everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::{Expiry, sync::Cache};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use weft_model::{AppId, UserId};

use super::Place;

/// Bytes of answers that are kept.
const REMEMBERED: u64 = 64 * 1024 * 1024;
/// An answer larger than this is not kept.
const LARGEST: usize = 1024 * 1024;

/// To whom an answer may be given again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Whoever may ask: a recipe does not know its caller.
    Anybody,
    /// Somebody, through the app they came through: a backend sees both and may answer by them.
    Caller(UserId, Option<AppId>),
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    place: Place,
    /// Of what the connection holds: another account may have been entered into it.
    version: Option<i64>,
    audience: Audience,
    action: String,
    input: [u8; 32],
}

impl Question {
    pub fn new((place, version): (Place, Option<i64>), audience: Audience, (action, input): (&str, &RawValue)) -> Self {
        Self { place, version, audience, action: action.to_owned(), input: Sha256::digest(input.get()).into() }
    }
}

#[derive(Clone)]
struct Answer {
    output: Arc<str>,
    lasts: Duration,
}

pub struct Answers {
    kept: Cache<Question, Answer>,
    generation: AtomicU64,
}

/// When a question was asked: what is forgotten meanwhile is not kept afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked(u64);

struct AsLongAsSaid;

impl Expiry<Question, Answer> for AsLongAsSaid {
    fn expire_after_create(&self, _question: &Question, answer: &Answer, _now: Instant) -> Option<Duration> {
        Some(answer.lasts)
    }
}

impl Answers {
    pub fn new() -> Self {
        let weigh = |_: &Question, answer: &Answer| u32::try_from(answer.output.len() + 256).unwrap_or(u32::MAX);
        Self {
            kept: Cache::builder().max_capacity(REMEMBERED).weigher(weigh).expire_after(AsLongAsSaid).build(),
            generation: AtomicU64::new(0),
        }
    }

    pub fn asked(&self) -> Asked {
        Asked(self.generation.load(Ordering::SeqCst))
    }

    pub fn get(&self, question: &Question) -> Option<Box<RawValue>> {
        let answer = self.kept.get(question)?;
        RawValue::from_string(answer.output.as_ref().to_owned()).ok()
    }

    pub fn keep(&self, (question, asked): (Question, Asked), output: &RawValue, lasts: Duration) {
        if output.get().len() > LARGEST || self.asked() != asked {
            return;
        }
        self.kept.insert(question.clone(), Answer { output: output.get().into(), lasts });
        if self.asked() != asked {
            self.kept.invalidate(&question);
        }
    }

    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.kept.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use weft_model::TenantId;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    fn question(version: Option<i64>, audience: Audience) -> Question {
        let place = Place {
            tenant: TenantId::try_from("acme".to_owned()).expect("a name"),
            integration: "mail".parse::<AppId>().expect("a name"),
            connection: None,
        };
        Question::new((place, version), audience, ("list", &raw("{}")))
    }

    fn user(number: u128) -> UserId {
        UserId::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn an_answer_that_was_on_its_way_when_all_were_forgotten_is_not_kept() {
        let (answers, hour) = (Answers::new(), Duration::from_hours(1));
        let before = answers.asked();
        answers.forget();
        answers.keep((question(None, Audience::Anybody), before), &raw("1"), hour);
        assert!(answers.get(&question(None, Audience::Anybody)).is_none());
        answers.keep((question(None, Audience::Anybody), answers.asked()), &raw("2"), hour);
        assert_eq!(answers.get(&question(None, Audience::Anybody)).expect("kept").get(), "2");
        assert!(answers.get(&question(Some(2), Audience::Anybody)).is_none(), "another account, another answer");
    }

    #[test]
    fn what_was_answered_to_one_caller_is_no_answer_to_another() {
        let (answers, hour) = (Answers::new(), Duration::from_hours(1));
        let through = |app: &str| Some(app.parse::<AppId>().expect("a name"));
        let alice = Audience::Caller(user(1), None);
        answers.keep((question(None, alice.clone()), answers.asked()), &raw("1"), hour);
        assert!(answers.get(&question(None, alice)).is_some());
        let others = [Audience::Caller(user(2), None), Audience::Caller(user(1), through("crm")), Audience::Anybody];
        for other in others {
            assert!(answers.get(&question(None, other.clone())).is_none(), "{other:?}");
        }
    }
}
