//! What becomes of a job whose attempt came to nothing. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use weft_model::run::ErrorCategory;
use weft_queue::Settlement;
use weft_workers::{CallError, DeathKind};

use crate::{
    apps,
    runs::{Cause, Error},
};

/// The pause after the first attempt; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(1);
/// The pause when the backend could not take the job for reasons that are not the job's.
const MOMENT: Duration = Duration::from_secs(1);
/// The same when the backend does not come up.
const A_WHILE: Duration = Duration::from_secs(30);
/// The longest reason that is kept, in characters.
const NOTE: usize = 2000;

const NO_HANDLER: &str = "unknown_method: the backend has no `onJob`: deploy one that has, then try the job again";

/// Which attempt it was, of how many.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    pub number: i32,
    pub most: i32,
}

/// Decides after a failure. `chance` is from 0 to 1: jobs that failed together are not all tried again together.
pub fn after(error: &Error, attempt: Attempt, now: DateTime<Utc>, chance: f64) -> Settlement {
    let failed = error.cause.failed();
    let run = error.run.map_or_else(String::new, |run| format!(" [run {run}]"));
    // The run stays readable however long the message is.
    let reason = |why: &str| format!("{}{run}", note(&format!("{why}{}: {}", failed.code, failed.message)));
    match &error.cause {
        cause if was_not_tried(cause) => {
            Settlement::Release { at: later(now, until_tried(cause), chance), note: Some(reason("")) }
        }
        Cause::App(apps::Error::Call(CallError::UnknownMethod { .. })) => {
            Settlement::Bury { note: format!("{}{run}", note(NO_HANDLER)) }
        }
        // It is asked for what it cannot do, or without a right: the next attempt would end the same way.
        _ if matches!(failed.category, ErrorCategory::Validation | ErrorCategory::Auth) => Settlement::Bury { note: reason("") },
        _ if attempt.number >= attempt.most => {
            Settlement::Bury { note: reason(&format!("given up after {} of {} attempts; ", attempt.number, attempt.most)) }
        }
        cause => {
            let pause = pause(attempt.number).max(asked_for(cause).unwrap_or_default());
            Settlement::Retry { at: later(now, pause, chance), note: reason("") }
        }
    }
}

/// Whether nothing was sent to the backend, or the server itself broke the attempt off as it stopped.
fn was_not_tried(cause: &Cause) -> bool {
    match cause {
        Cause::App(apps::Error::Call(error)) => match error {
            CallError::Busy { .. } | CallError::NotRunning { .. } | CallError::NotReady { .. } | CallError::DoesNotStart(_) => {
                true
            }
            CallError::Died(death) => death.kind == DeathKind::Stopped,
            _ => false,
        },
        Cause::App(
            apps::Error::NotDeployed(_) | apps::Error::Stopped(_) | apps::Error::NotComingUp { .. } | apps::Error::Database(_),
        ) => true,
        _ => false,
    }
}

/// A backend that does not start is not better off for being started every second.
fn until_tried(cause: &Cause) -> Duration {
    match cause {
        Cause::App(apps::Error::NotComingUp { .. } | apps::Error::Call(CallError::DoesNotStart(_))) => A_WHILE,
        _ => MOMENT,
    }
}

fn asked_for(cause: &Cause) -> Option<Duration> {
    match cause {
        Cause::Failed(failure) => failure.retry_after,
        Cause::App(apps::Error::Call(error)) => error.retry_after(),
        _ => None,
    }
}

/// The pause after so many attempts.
fn pause(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(20);
    FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST)
}

/// After the pause, or up to half of it later.
fn later(now: DateTime<Utc>, pause: Duration, chance: f64) -> DateTime<Utc> {
    let longest = Duration::from_hours(24);
    let pause = pause.min(longest).mul_f64(1.0 + chance.clamp(0.0, 1.0) / 2.0);
    now + TimeDelta::from_std(pause).unwrap_or_default()
}

/// A reason as it can be stored.
pub fn note(text: &str) -> String {
    text.chars().filter(|character| *character != '\0').take(NOTE).collect()
}

#[cfg(test)]
mod tests {
    use weft_workers::{Category, Failure};

    use super::*;

    fn failed(category: Category, retry_after: Option<Duration>) -> Error {
        let mut failure = Failure::new("no").with_code("x").with_category(category);
        failure.retry_after = retry_after;
        Cause::Failed(Box::new(failure)).into()
    }

    fn decide(error: &Error, number: i32, chance: f64) -> Settlement {
        after(error, Attempt { number, most: 5 }, DateTime::UNIX_EPOCH, chance)
    }

    fn pause_of(settlement: &Settlement) -> f64 {
        match settlement {
            Settlement::Retry { at, .. } | Settlement::Release { at, .. } => {
                f64::from(i32::try_from(at.timestamp_millis()).expect("soon")) / 1000.0
            }
            other => panic!("no pause: {other:?}"),
        }
    }

    #[test]
    fn pauses_double_and_vary_by_half_at_most() {
        let error = failed(Category::Poison, None);
        let pauses: Vec<_> = (1..5).map(|number| pause_of(&decide(&error, number, 0.0))).collect();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0]);
        assert!((pause_of(&decide(&error, 3, 1.0)) - 6.0).abs() < 0.001);
        assert_eq!(pause(100), LONGEST);
    }

    #[test]
    fn a_vendor_that_asks_for_more_time_gets_it() {
        let error = failed(Category::RateLimited, Some(Duration::from_secs(90)));
        assert!((pause_of(&decide(&error, 1, 0.0)) - 90.0).abs() < 0.001);
    }

    #[test]
    fn what_cannot_get_better_and_the_last_attempt_end_with_the_dead_letters_and_say_why() {
        for (error, number) in
            [(failed(Category::Validation, None), 1), (failed(Category::Auth, None), 1), (failed(Category::Transient, None), 5)]
        {
            match decide(&error, number, 0.5) {
                Settlement::Bury { note } => assert!(note.contains("x: no"), "{note}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_was_not_tried_does_not_count() {
        let busy = CallError::Busy { app: "crm".into() };
        let not_running = CallError::NotRunning { app: "crm".into() };
        for error in [busy, not_running] {
            let settlement = decide(&Cause::App(apps::Error::Call(error)).into(), 5, 0.0);
            assert!(matches!(settlement, Settlement::Release { .. }), "{settlement:?}");
        }
        let cause = Box::new(apps::Error::NotDeployed("crm".parse().expect("an app")));
        let not_coming_up = apps::Error::NotComingUp { app: "crm".parse().expect("an app"), cause };
        let settlement = decide(&Cause::App(not_coming_up).into(), 5, 0.0);
        assert!(matches!(settlement, Settlement::Release { .. }) && pause_of(&settlement) > 20.0, "{settlement:?}");
    }

    #[test]
    fn a_long_reason_still_names_its_run() {
        let mut error = failed(Category::Poison, None);
        if let Cause::Failed(failure) = &mut error.cause {
            failure.message = "x".repeat(5000);
        }
        error.run = Some(weft_model::RunId::generate(DateTime::UNIX_EPOCH));
        match decide(&error, 1, 0.0) {
            Settlement::Retry { note, .. } => assert!(note.ends_with(']') && note.contains("[run "), "{note}"),
            other => panic!("{other:?}"),
        }
    }
}
