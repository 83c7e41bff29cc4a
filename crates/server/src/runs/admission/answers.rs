//! Answers of reading actions that the manifest lets the platform give again for a while.
//!
//! The same answer goes to the same question of the same account only. Whoever asks was authorised before and is recorded as ever.
//! In memory, per node, bounded in bytes; a changed app or configuration forgets everything.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{Expiry, sync::Cache};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use weft_model::UserId;

use super::Place;

/// Bytes of answers that are kept.
const REMEMBERED: u64 = 64 * 1024 * 1024;
/// An answer larger than this is not kept.
const LARGEST: usize = 1024 * 1024;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    place: Place,
    /// Who asks, where no account of the vendor stands for it: a backend may answer by its caller.
    caller: Option<UserId>,
    action: String,
    input: [u8; 32],
}

impl Question {
    pub fn new(place: Place, caller: UserId, action: &str, input: &RawValue) -> Self {
        let caller = place.connection.is_none().then_some(caller);
        Self { place, caller, action: action.to_owned(), input: Sha256::digest(input.get()).into() }
    }
}

#[derive(Clone)]
struct Answer {
    output: Arc<str>,
    lasts: Duration,
}

pub struct Answers {
    kept: Cache<Question, Answer>,
}

struct AsLongAsSaid;

impl Expiry<Question, Answer> for AsLongAsSaid {
    fn expire_after_create(&self, _question: &Question, answer: &Answer, _now: Instant) -> Option<Duration> {
        Some(answer.lasts)
    }
}

impl Answers {
    pub fn new() -> Self {
        let weigh = |_: &Question, answer: &Answer| u32::try_from(answer.output.len() + 256).unwrap_or(u32::MAX);
        Self { kept: Cache::builder().max_capacity(REMEMBERED).weigher(weigh).expire_after(AsLongAsSaid).build() }
    }

    pub fn get(&self, question: &Question) -> Option<Box<RawValue>> {
        let answer = self.kept.get(question)?;
        RawValue::from_string(answer.output.as_ref().to_owned()).ok()
    }

    pub fn keep(&self, question: Question, output: &RawValue, lasts: Duration) {
        if output.get().len() <= LARGEST {
            self.kept.insert(question, Answer { output: output.get().into(), lasts });
        }
    }

    pub fn forget(&self) {
        self.kept.invalidate_all();
    }
}
