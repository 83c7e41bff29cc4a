//! The promises, as rules over a round's history and evidence. Pure; each rule says what it found in a sentence.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::{
    evidence::{Effect, Evidence},
    history::{Attempt, Operation, Outcome},
};

/// What a round looked like from the outside.
pub struct Round<'a> {
    pub attempts: &'a [Attempt],
    pub evidence: &'a Evidence,
    /// The user behind each caller.
    pub users: &'a [String],
    /// Whether a server was killed: it may have forgotten records that nobody was promised.
    pub lost_a_server: bool,
}

impl Round<'_> {
    /// Every promise that was broken.
    pub fn violations(&self) -> Vec<String> {
        let rules = [
            self.wrong_answers(),
            self.forbidden_answers(),
            self.odd_failures(),
            self.repeated_executions(),
            self.unsettled(),
            self.lost_webhooks(),
            self.unrecorded_destruction(),
            self.unrecorded_runs(),
        ];
        rules.into_iter().flatten().collect()
    }

    /// The calls that were answered. What is done later has a check of its own.
    fn answered(&self) -> impl Iterator<Item = (&Attempt, &Value, Option<&str>)> {
        self.attempts.iter().filter(|attempt| !attempt.operation.is_later()).filter_map(|attempt| match &attempt.outcome {
            Outcome::Ok { body, run, .. } => Some((attempt, body, run.as_deref())),
            _ => None,
        })
    }

    fn effects(&self) -> HashMap<(&str, &str), Vec<&Effect>> {
        let mut by_nonce: HashMap<_, Vec<_>> = HashMap::new();
        for effect in &self.evidence.effects {
            by_nonce.entry((effect.kind.as_str(), effect.nonce.as_str())).or_default().push(effect);
        }
        by_nonce
    }

    /// No answer goes to the wrong caller.
    fn wrong_answers(&self) -> Vec<String> {
        let user = |attempt: &Attempt| self.users.get(attempt.caller).map_or("", String::as_str);
        let fits = |attempt: &Attempt, body: &Value| {
            let own = body.get("nonce").and_then(Value::as_str) == Some(&attempt.nonce);
            let by = body.get("userId").and_then(Value::as_str) == Some(user(attempt));
            own && (by || attempt.operation == Operation::Webhook)
        };
        let wrong = self.answered().filter(|(attempt, body, _)| {
            let inner = if attempt.operation == Operation::Nested { body.get("inner").unwrap_or(&Value::Null) } else { body };
            !fits(attempt, body) || !fits(attempt, inner)
        });
        wrong.map(|(attempt, body, _)| format!("{} got the answer of somebody else: {body}", attempt.nonce)).collect()
    }

    /// Nobody gets through without the right.
    fn forbidden_answers(&self) -> Vec<String> {
        let through = self.answered().filter(|(attempt, ..)| attempt.operation == Operation::Forbidden);
        through.map(|(attempt, ..)| format!("{} was answered without the right", attempt.nonce)).collect()
    }

    /// Failures are those that the documentation names for such a time; never a fault of the caller, never a 500.
    fn odd_failures(&self) -> Vec<String> {
        let expected = |attempt: &Attempt, status: u16| match attempt.operation {
            Operation::Forbidden => [403, 503].contains(&status),
            Operation::Once => [409, 502, 503, 504].contains(&status),
            Operation::Refused => [409, 503].contains(&status),
            _ => [502, 503, 504].contains(&status),
        };
        let odd = self.attempts.iter().filter_map(|attempt| match &attempt.outcome {
            Outcome::Fail { status, code, error } if !expected(attempt, *status) => {
                Some(format!("{} {:?} failed with {status} {code}: {error}", attempt.nonce, attempt.operation))
            }
            _ => None,
        });
        odd.collect()
    }

    /// A wish with a key and a destructive action are executed once at most, and an answer is that of the one execution.
    fn repeated_executions(&self) -> Vec<String> {
        let mut found = Vec::new();
        let effects = self.effects();
        for ((kind, nonce), executions) in &effects {
            if *kind != "webhook" && executions.len() > 1 {
                found.push(format!("{nonce} ({kind}) was executed {} times", executions.len()));
            }
        }
        let mut answers: BTreeMap<&str, &Value> = BTreeMap::new();
        for (attempt, body, _) in self.answered() {
            let kind = match attempt.operation {
                Operation::Once => "once",
                Operation::Destroy => "destroy",
                _ => continue,
            };
            let execution = body.get("execution").and_then(Value::as_str).unwrap_or_default();
            let known = effects.get(&(kind, attempt.nonce.as_str()));
            if !known.is_some_and(|known| known.iter().any(|effect| effect.execution == execution)) {
                found.push(format!("{} was answered with an execution that never was: {execution}", attempt.nonce));
            }
            if *answers.entry(&attempt.nonce).or_insert(body) != body {
                found.push(format!("{} was answered in two ways", attempt.nonce));
            }
        }
        found
    }

    /// Nothing is left half done.
    fn unsettled(&self) -> Vec<String> {
        let left = [
            (self.evidence.running, "runs stay in the state running"),
            (self.evidence.unhandled, "deliveries have no finished run"),
        ];
        left.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }

    /// An acknowledged webhook is on disk and was handled.
    fn lost_webhooks(&self) -> Vec<String> {
        let effects = self.effects();
        let acknowledged = self.answered().filter(|(attempt, ..)| attempt.operation == Operation::Webhook);
        let lost = acknowledged.filter_map(|(attempt, _, run)| {
            let stored = run.is_some_and(|run| self.evidence.deliveries.contains(run));
            let handled = effects.contains_key(&("webhook", attempt.nonce.as_str()));
            (!stored || !handled)
                .then(|| format!("webhook {} was acknowledged; stored: {stored}, handled: {handled}", attempt.nonce))
        });
        lost.collect()
    }

    /// What destroyed something left its run, even when everything broke down afterwards.
    fn unrecorded_destruction(&self) -> Vec<String> {
        let traces: HashMap<&str, &str> =
            self.attempts.iter().map(|attempt| (attempt.nonce.as_str(), attempt.trace.as_str())).collect();
        let unrecorded = self.evidence.effects.iter().filter(|effect| effect.kind != "webhook").filter(|effect| {
            let runs = traces.get(effect.nonce.as_str()).and_then(|trace| self.evidence.runs_by_trace.get(*trace));
            runs.is_none_or(Vec::is_empty)
        });
        unrecorded.map(|effect| format!("{} ({}) had its effect without a record", effect.nonce, effect.kind)).collect()
    }

    /// Unless a server was killed, every answered call is in the history.
    fn unrecorded_runs(&self) -> Vec<String> {
        if self.lost_a_server {
            return Vec::new();
        }
        let missing = self.answered().filter(|(_, _, run)| run.is_none_or(|run| !self.evidence.recorded.contains(run)));
        missing.map(|(attempt, ..)| format!("{} was answered and is not in the history", attempt.nonce)).collect()
    }

    /// How many executions there were beyond the first of each webhook.
    pub fn repeated_webhooks(&self) -> usize {
        self.effects().iter().filter(|((kind, _), _)| *kind == "webhook").map(|(_, executions)| executions.len() - 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attempt(operation: Operation, outcome: Outcome) -> Attempt {
        let (nonce, trace) = ("n".to_owned(), "t".to_owned());
        Attempt { round: 0, invoked: 0, ended: 1, caller: 0, node: 0, operation, nonce, trace, outcome }
    }

    fn ok(body: Value) -> Outcome {
        Outcome::Ok { status: 200, body, run: Some("r".to_owned()) }
    }

    fn fail(status: u16) -> Outcome {
        Outcome::Fail { status, code: String::new(), error: String::new() }
    }

    fn effect(kind: &str, execution: &str) -> Effect {
        Effect { kind: kind.to_owned(), nonce: "n".to_owned(), execution: execution.to_owned() }
    }

    /// Evidence of a round in which everything was recorded.
    fn evidence(effects: Vec<Effect>) -> Evidence {
        Evidence {
            effects,
            runs_by_trace: HashMap::from([("t".to_owned(), vec!["succeeded".to_owned()])]),
            recorded: ["r".to_owned()].into(),
            deliveries: ["r".to_owned()].into(),
            ..Evidence::default()
        }
    }

    fn violations(attempts: &[Attempt], evidence: &Evidence) -> Vec<String> {
        let users = ["u".to_owned()];
        Round { attempts, evidence, users: &users, lost_a_server: false }.violations()
    }

    #[track_caller]
    fn assert_found(attempts: &[Attempt], evidence: &Evidence, what: &str) {
        let found = violations(attempts, evidence);
        assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
    }

    fn own(execution: &str) -> Value {
        json!({ "nonce": "n", "userId": "u", "execution": execution })
    }

    #[test]
    fn a_good_round_breaks_nothing() {
        let attempts = [
            attempt(Operation::Echo, ok(json!({ "nonce": "n", "userId": "u" }))),
            attempt(Operation::Nested, ok(json!({ "nonce": "n", "userId": "u", "inner": { "nonce": "n", "userId": "u" } }))),
            attempt(Operation::Once, ok(own("1"))),
            attempt(Operation::Once, ok(own("1"))),
            attempt(Operation::Destroy, Outcome::Unknown { error: String::new() }),
            attempt(Operation::Webhook, ok(json!({ "nonce": "n" }))),
            attempt(Operation::Forbidden, fail(403)),
            attempt(Operation::Echo, fail(503)),
        ];
        let evidence =
            evidence(vec![effect("once", "1"), effect("destroy", "2"), effect("webhook", "3"), effect("webhook", "4")]);
        assert_eq!(violations(&attempts, &evidence), Vec::<String>::new());
    }

    #[test]
    fn an_answer_for_somebody_else_is_found() {
        for body in [json!({ "nonce": "m", "userId": "u" }), json!({ "nonce": "n", "userId": "v" }), Value::Null] {
            assert_found(&[attempt(Operation::Echo, ok(body))], &evidence(vec![]), "somebody else");
        }
        let inner = json!({ "nonce": "n", "userId": "u", "inner": { "nonce": "n", "userId": "v" } });
        assert_found(&[attempt(Operation::Nested, ok(inner))], &evidence(vec![]), "somebody else");
    }

    #[test]
    fn a_caller_that_gets_through_and_odd_failures_are_found() {
        let through = json!({ "nonce": "n", "userId": "u" });
        assert_found(&[attempt(Operation::Forbidden, ok(through))], &evidence(vec![]), "without the right");
        for status in [500, 404, 401, 400] {
            assert_found(&[attempt(Operation::Echo, fail(status))], &evidence(vec![]), "failed with");
        }
        assert_found(&[attempt(Operation::Destroy, fail(409))], &evidence(vec![]), "failed with");
    }

    #[test]
    fn second_executions_and_invented_answers_are_found() {
        let twice = evidence(vec![effect("once", "1"), effect("once", "2")]);
        assert_found(&[attempt(Operation::Once, ok(own("1")))], &twice, "2 times");
        let silent = attempt(Operation::Destroy, Outcome::Unknown { error: String::new() });
        assert_found(&[silent], &evidence(vec![effect("destroy", "1"), effect("destroy", "2")]), "2 times");
        assert_found(&[attempt(Operation::Once, ok(own("9")))], &evidence(vec![effect("once", "1")]), "never was");
    }

    #[test]
    fn what_is_lost_or_left_half_done_is_found() {
        let webhook = [attempt(Operation::Webhook, ok(json!({ "nonce": "n" })))];
        assert_found(&webhook, &evidence(vec![]), "handled: false");
        let mut lost = evidence(vec![effect("webhook", "1")]);
        lost.deliveries.clear();
        assert_found(&webhook, &lost, "stored: false");
        assert_found(&[], &Evidence { running: 2, ..evidence(vec![]) }, "2 runs stay");
        assert_found(&[], &Evidence { unhandled: 1, ..evidence(vec![]) }, "1 deliveries");
        let echo = [attempt(Operation::Echo, ok(json!({ "nonce": "n", "userId": "u" })))];
        assert_found(
            &echo,
            &Evidence { recorded: std::collections::HashSet::default(), ..evidence(vec![]) },
            "not in the history",
        );
        let destroyed = [attempt(Operation::Destroy, Outcome::Unknown { error: String::new() })];
        let mut unrecorded = evidence(vec![effect("destroy", "1")]);
        unrecorded.runs_by_trace.clear();
        assert_found(&destroyed, &unrecorded, "without a record");
    }
}
