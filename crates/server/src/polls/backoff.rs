//! What becomes of a poll whose question failed. Pure.

use std::time::Duration;

use weft_model::run::ErrorCategory;

/// The pause after the first failure; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_hours(1);
/// However long a vendor says, it is asked again within a day.
const DAY: Duration = Duration::from_hours(24);
/// The code of a full run that would delete most of what is there.
pub const TOO_MANY_DELETIONS: &str = "too_many_deletions";

/// Why a question came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
    pub category: ErrorCategory,
    pub message: String,
    /// When the vendor wants to be asked again.
    pub retry_after: Option<Duration>,
    pub run: Option<uuid::Uuid>,
}

impl Failure {
    pub fn new(code: &str, category: ErrorCategory, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), category, message: message.into(), retry_after: None, run: None }
    }

    /// Whether asking again is of no use until somebody does something.
    pub fn stops(&self) -> bool {
        self.category == ErrorCategory::Auth
            || matches!(self.code.as_str(), "denied" | "unknown_connection" | "owner_gone" | TOO_MANY_DELETIONS)
    }

    /// Whether the vendor does not know the cursor any more, by the words that integrations have for it.
    pub fn is_about_cursor(&self) -> bool {
        matches!(self.code.as_str(), "SYNC_CURSOR_ERROR" | "cursor_expired")
    }

    /// The pause after so many failures in a row. `chance` is from 0 to 1: what failed together is not all asked again together.
    pub fn pause(&self, failures: i32, chance: f64) -> Duration {
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(16);
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST);
        let pause = pause.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0);
        pause.max(self.retry_after.unwrap_or_default()).min(DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_the_vendors_word_counts() {
        let mut failure = Failure::new("vendor_unavailable", ErrorCategory::Transient, "no");
        let seconds = |failure: &Failure| [1, 2, 3, 20].map(|failures| failure.pause(failures, 0.0).as_secs());
        assert_eq!(seconds(&failure), [30, 60, 120, 3600]);
        failure.retry_after = Some(Duration::from_secs(90));
        assert_eq!(seconds(&failure), [90, 90, 120, 3600]);
        assert_eq!(failure.pause(1, 1.0), Duration::from_secs(90));
    }

    #[test]
    fn what_only_people_can_mend_stops() {
        let stops = |code: &str, category| Failure::new(code, category, "no").stops();
        assert!(stops("reconnect_required", ErrorCategory::Auth) && stops("denied", ErrorCategory::Validation));
        assert!(stops(TOO_MANY_DELETIONS, ErrorCategory::Validation));
        assert!(!stops("rate_limited", ErrorCategory::RateLimited) && !stops("invalid_output", ErrorCategory::Poison));
    }
}
