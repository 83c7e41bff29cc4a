//! The promises about what is done later, as rules over what callers saw and what the books say. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::{
    app::{EVERY, MINUTELY},
    books::{Books, Cause, Change, Effect, Job, Tick},
};
use crate::history::{Attempt, Operation, Outcome};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;

/// Every promise that was broken. `outages` is when nobody could fire ticks, in microseconds.
pub fn violations(attempts: &[Attempt], books: &Books, outages: &[(u64, u64)]) -> Vec<String> {
    let rules = [
        asked_for(attempts, books),
        over(books),
        effects(books),
        committed(attempts, books),
        hooks(books),
        order(books),
        ticks_and_jobs(books),
        ticks(books, outages),
    ];
    rules.into_iter().flatten().collect()
}

fn answers(attempts: &[Attempt]) -> impl Iterator<Item = (&Attempt, &Value)> {
    attempts.iter().filter_map(|attempt| match &attempt.outcome {
        Outcome::Ok { body, .. } => Some((attempt, body)),
        _ => None,
    })
}

/// An acknowledged job is there, under the number that was said; a key gives one job, however often it was sent.
fn asked_for(attempts: &[Attempt], books: &Books) -> Vec<String> {
    let mut jobs: HashMap<&str, Vec<i64>> = HashMap::new();
    for job in &books.jobs {
        if let Cause::Asked(nonce) = &job.cause {
            jobs.entry(nonce).or_default().push(job.id);
        }
    }
    let twice = jobs.iter().filter(|(_, ids)| ids.len() > 1).map(|(nonce, ids)| format!("{nonce} became {} jobs", ids.len()));
    let lost = answers(attempts).filter(|(attempt, _)| attempt.operation == Operation::Enqueue).filter_map(|(attempt, body)| {
        let said = body.get("msg_id").and_then(Value::as_i64);
        let known = jobs.get(attempt.nonce.as_str()).is_some_and(|ids| ids.iter().any(|id| Some(*id) == said));
        (!known).then(|| format!("job {} was acknowledged as {said:?} and is not there", attempt.nonce))
    });
    twice.chain(lost).collect()
}

/// Every job has come to its end, and to the one that it should.
fn over(books: &Books) -> Vec<String> {
    let open = books.jobs.iter().filter(|job| job.id <= books.horizon || matches!(job.cause, Cause::Change(..)));
    let wrong = open.filter(|job| job.outcome.as_deref() != Some("completed") && !job.was_given_up());
    wrong.map(|job| format!("{} is {}: {:?}", named(job), job.outcome.as_deref().unwrap_or("not over"), job.note)).collect()
}

fn named(job: &Job) -> String {
    format!("job {} ({:?})", job.id, job.cause)
}

/// A handler that goes by the job's number has its effect once, for what the job is about.
fn effects(books: &Books) -> Vec<String> {
    let mut by_job: HashMap<i64, Vec<&Effect>> = HashMap::new();
    for effect in &books.effects {
        by_job.entry(effect.job).or_default().push(effect);
    }
    let mut found = Vec::new();
    for job in &books.jobs {
        let had = by_job.remove(&job.id).unwrap_or_default();
        match (had.as_slice(), job.outcome.as_deref()) {
            ([effect], _) if effect.cause == job.cause => {}
            ([], Some("completed")) => found.push(format!("{} is completed without an effect", named(job))),
            ([], _) => {}
            ([effect], _) => found.push(format!("{} had the effect of {:?}", named(job), effect.cause)),
            (many, _) => found.push(format!("{} had its effect {} times", named(job), many.len())),
        }
    }
    found.extend(by_job.keys().map(|job| format!("job {job} had an effect and is not there")));
    found
}

/// What was answered as done is done, and what was refused is not.
fn committed(attempts: &[Attempt], books: &Books) -> Vec<String> {
    let changes: HashSet<(&str, &str, i64)> =
        books.changes.iter().map(|change| (change.operation.as_str(), change.nonce.as_str(), change.step)).collect();
    let mut found = Vec::new();
    for (attempt, body) in answers(attempts) {
        #[expect(clippy::cast_possible_truncation, reason = "steps are small whole numbers")]
        let step = body.get("step").and_then(Value::as_f64).unwrap_or(-1.0) as i64;
        let is_there = match attempt.operation {
            Operation::Create => changes.contains(&("INSERT", attempt.nonce.as_str(), 0)),
            Operation::Update => changes.contains(&("UPDATE", attempt.nonce.as_str(), step)),
            Operation::Delete => books.changes.iter().any(|change| change.operation == "DELETE" && change.nonce == attempt.nonce),
            Operation::Refused => {
                found.push(format!("{} was answered as done and cannot be", attempt.nonce));
                continue;
            }
            _ => continue,
        };
        if !is_there {
            found.push(format!("{:?} of {} was acknowledged and is not there", attempt.operation, attempt.nonce));
        }
    }
    let refused: HashSet<&str> =
        attempts.iter().filter(|attempt| attempt.operation == Operation::Refused).map(|attempt| attempt.nonce.as_str()).collect();
    let through = books.changes.iter().filter(|change| refused.contains(change.nonce.as_str()));
    found.extend(through.map(|change| format!("{} was taken back and is there", change.nonce)));
    found
}

/// Every committed change gave one job, and nothing else did.
fn hooks(books: &Books) -> Vec<String> {
    let mut balance: BTreeMap<Cause, (usize, usize)> = BTreeMap::new();
    for change in &books.changes {
        balance.entry(change.cause()).or_default().0 += 1;
    }
    for job in books.jobs.iter().filter(|job| matches!(job.cause, Cause::Change(..))) {
        balance.entry(job.cause.clone()).or_default().1 += 1;
    }
    let wrong = balance.into_iter().filter(|(_, (changes, jobs))| changes != jobs);
    wrong.map(|(cause, (changes, jobs))| format!("{changes} changes {cause:?} gave {jobs} jobs of its hook")).collect()
}

/// The jobs of a hook for a record were done in the order of its changes: each found the one before it done.
fn order(books: &Books) -> Vec<String> {
    let found_before: HashMap<&Cause, Option<i64>> =
        books.effects.iter().map(|effect| (&effect.cause, effect.previous)).collect();
    let mut of_records: HashMap<&str, Vec<&Change>> = HashMap::new();
    for change in books.changes.iter().filter(|change| change.operation == "UPDATE") {
        of_records.entry(&change.record).or_default().push(change);
    }
    let mut found = Vec::new();
    for changes in of_records.values() {
        let mut before = None;
        for change in changes {
            // What was given up is out of the order.
            let Some(previous) = found_before.get(&change.cause()) else { continue };
            if *previous != before {
                found.push(format!(
                    "{} at step {} was handled after {previous:?} instead of {before:?}",
                    change.nonce, change.step
                ));
            }
            before = Some(change.step);
        }
    }
    found
}

/// A tick gave one job, and every job of a cron belongs to a tick.
fn ticks_and_jobs(books: &Books) -> Vec<String> {
    let mut of_crons: HashMap<i64, &str> = books
        .jobs
        .iter()
        .filter_map(|job| match &job.cause {
            Cause::Tick(cron) => Some((job.id, cron.as_str())),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    for tick in &books.ticks {
        let job = tick.job.and_then(|job| of_crons.remove(&job));
        if tick.outcome != "enqueued" || job != Some(tick.cron.as_str()) {
            found.push(format!("a tick of {} was {} with job {:?}", tick.name, tick.outcome, tick.job));
        }
    }
    found.extend(of_crons.iter().map(|(job, cron)| format!("job {job} of cron {cron} belongs to no tick, or one fired twice")));
    found
}

/// Ticks come one after the other. One is left out only when nobody could fire it before the next was due.
fn ticks(books: &Books, outages: &[(u64, u64)]) -> Vec<String> {
    let mut found = Vec::new();
    let was_out = |from: i64, until: i64| outages.iter().any(|(begin, end)| until > micros(*begin) && from < micros(*end));
    let crons = EVERY.iter().map(|seconds| (format!("every{seconds}"), i64::try_from(*seconds).unwrap_or(1) * SECOND));
    for (name, every) in crons {
        let fired: Vec<&Tick> = books.ticks.iter().filter(|tick| tick.name == name).collect();
        for pair in fired.windows(2) {
            let [before, after] = pair else { continue };
            let apart = after.due - before.fired;
            if apart % every != 0 || apart < every || !(0..every).contains(&(after.fired - after.due)) {
                found.push(format!("{name} fired for {} at {} after {}", after.due, after.fired, before.fired));
            }
            let left_out = (1..apart / every).map(|number| before.fired + number * every);
            found.extend(
                left_out.filter(|tick| !was_out(*tick, tick + every)).map(|tick| format!("{name} lost its tick at {tick}")),
            );
        }
        let last = fired.last().map_or(0, |tick| tick.fired);
        if books.now - last > 3 * every && !was_out(last, books.now) {
            found.push(format!("{name} has not fired since {last}, and it is {}", books.now));
        }
    }
    let minutes: Vec<&Tick> = books.ticks.iter().filter(|tick| tick.name == MINUTELY).collect();
    for pair in minutes.windows(2) {
        if let [before, after] = pair
            && after.due - before.due != MINUTE
        {
            found.push(format!("{MINUTELY} fired for {} and next for {}", before.due, after.due));
        }
    }
    found
}

fn micros(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attempt(operation: Operation, body: Value) -> Attempt {
        let (nonce, trace) = ("n".to_owned(), String::new());
        let outcome = Outcome::Ok { status: 200, body, run: None };
        Attempt { round: 0, invoked: 0, ended: 1, caller: 0, node: 0, operation, nonce, trace, outcome }
    }

    fn job(id: i64, cause: &Cause) -> Job {
        Job { id, outcome: Some("completed".to_owned()), attempts: 1, cause: cause.clone(), note: None }
    }

    fn effect(job: i64, cause: &Cause, previous: Option<i64>) -> Effect {
        Effect { job, cause: cause.clone(), previous }
    }

    fn change(operation: &str, step: i64) -> Change {
        Change { operation: operation.to_owned(), record: "r".to_owned(), nonce: "n".to_owned(), step }
    }

    fn tick(tick: i64, job: i64) -> Tick {
        let (tick, outcome) = (tick * SECOND, "enqueued".to_owned());
        Tick { cron: "c".to_owned(), name: "every5".to_owned(), due: tick, fired: tick + SECOND / 10, outcome, job: Some(job) }
    }

    /// A job that was asked for, a record with two changes, and nothing of crons.
    fn books() -> Books {
        let changes = vec![change("INSERT", 0), change("UPDATE", 1), change("UPDATE", 2)];
        let mut books = Books { horizon: 100, changes, ..Books::default() };
        let causes: Vec<_> = books.changes.iter().map(Change::cause).collect();
        let asked = Cause::Asked("n".to_owned());
        let all = [(1, &asked, None), (2, &causes[0], None), (3, &causes[1], None), (4, &causes[2], Some(1))];
        for (id, cause, previous) in all {
            books.jobs.push(job(id, cause));
            books.effects.push(effect(id, cause, previous));
        }
        books
    }

    fn attempts() -> Vec<Attempt> {
        vec![
            attempt(Operation::Enqueue, json!({ "msg_id": 1 })),
            attempt(Operation::Create, json!({ "step": 0 })),
            attempt(Operation::Update, json!({ "step": 2 })),
        ]
    }

    #[track_caller]
    fn assert_found(attempts: &[Attempt], books: &Books, what: &str) {
        let found = violations(attempts, books, &[(0, u64::MAX)]);
        assert!(found.iter().any(|found| found.contains(what)), "{what}: {found:?}");
    }

    #[test]
    fn good_books_break_nothing() {
        assert_eq!(violations(&attempts(), &books(), &[(0, u64::MAX)]), Vec::<String>::new());
    }

    #[test]
    fn a_lost_job_a_doubled_one_and_one_that_never_ends_are_found() {
        assert_found(&[attempt(Operation::Enqueue, json!({ "msg_id": 9 }))], &books(), "acknowledged as Some(9)");
        let mut doubled = books();
        doubled.jobs.push(job(5, &Cause::Asked("n".to_owned())));
        assert_found(&[], &doubled, "n became 2 jobs");
        let mut open = books();
        open.jobs[0].outcome = None;
        assert_found(&[], &open, "is not over");
    }

    #[test]
    fn a_job_whose_attempts_were_all_broken_off_may_be_given_up_if_it_says_so() {
        let mut books = books();
        books.effects.pop();
        let given_up = books.jobs.last_mut().expect("a job");
        (given_up.outcome, given_up.attempts) = (Some("dead".to_owned()), 5);
        assert_found(&[], &books, "is dead");
        books.jobs.last_mut().expect("a job").note = Some("given up after 5 of 5 attempts; x: y".to_owned());
        assert_eq!(violations(&attempts(), &books, &[(0, u64::MAX)]), Vec::<String>::new());
        books.jobs.last_mut().expect("a job").attempts = 4;
        assert_found(&[], &books, "is dead");
    }

    #[test]
    fn an_effect_that_is_missing_doubled_or_of_something_else_is_found() {
        let mut none = books();
        none.effects.remove(0);
        assert_found(&[], &none, "without an effect");
        let mut twice = books();
        twice.effects.push(effect(1, &Cause::Asked("n".to_owned()), None));
        assert_found(&[], &twice, "had its effect 2 times");
        let mut other = books();
        other.effects[0].cause = Cause::Asked("m".to_owned());
        assert_found(&[], &other, "had the effect of");
        let mut stray = books();
        stray.effects.push(effect(77, &Cause::Asked("n".to_owned()), None));
        assert_found(&[], &stray, "job 77 had an effect");
    }

    #[test]
    fn a_change_that_is_lost_taken_back_unheard_or_invented_is_found() {
        assert_found(&[attempt(Operation::Update, json!({ "step": 9 }))], &books(), "acknowledged and is not there");
        assert_found(&[attempt(Operation::Refused, json!([]))], &books(), "cannot be");
        assert_found(&[attempt(Operation::Refused, json!([]))], &books(), "was taken back and is there");
        let mut unheard = books();
        unheard.jobs.pop();
        assert_found(&[], &unheard, "gave 0 jobs");
        let mut invented = books();
        invented.changes.pop();
        assert_found(&[], &invented, "0 changes");
    }

    #[test]
    fn hooks_that_overtake_each_other_are_found() {
        let mut overtaken = books();
        overtaken.effects[3].previous = None;
        assert_found(&[], &overtaken, "was handled after None instead of Some(1)");
    }

    #[test]
    fn a_tick_that_fired_twice_or_without_a_job_is_found() {
        let cron = Cause::Tick("c".to_owned());
        let with = |ticks: Vec<Tick>, jobs: &[i64]| Books {
            ticks,
            jobs: jobs.iter().map(|id| job(*id, &cron)).collect(),
            ..Books::default()
        };
        assert_found(&[], &with(vec![tick(5, 1)], &[1, 2]), "belongs to no tick");
        assert_found(&[], &with(vec![tick(5, 1)], &[]), "was enqueued with job Some(1)");
        let early = Tick { fired: 4 * SECOND, ..tick(5, 1) };
        assert_found(&[], &with(vec![tick(0, 2), early], &[1, 2]), "every5 fired for");
    }

    #[test]
    fn a_tick_may_be_left_out_while_nobody_can_fire_it_and_not_otherwise() {
        let after = |previous: Tick, number: i64| Tick {
            due: previous.fired + number * 5 * SECOND,
            fired: previous.fired + number * 5 * SECOND + 1,
            ..previous
        };
        let lost = |outages: &[(u64, u64)]| {
            let ticks = vec![tick(5, 1), after(tick(5, 1), 3)];
            let books = Books { ticks, now: 21 * SECOND, ..Books::default() };
            violations(&[], &books, outages).into_iter().filter(|found| found.contains("lost its tick")).count()
        };
        assert_eq!(lost(&[]), 2);
        assert_eq!(lost(&[(11_000_000, 12_000_000)]), 1);
        assert_eq!(lost(&[(11_000_000, 16_000_000)]), 0);
    }
}
