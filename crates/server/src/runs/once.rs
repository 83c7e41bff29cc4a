//! Executing at most once per idempotency key, and answering again what was answered before.

use std::{sync::Arc, time::Duration};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use weft_model::RunId;
use weft_workers::{CallError, Failure};

use super::{
    error::{Cause, Error},
    idempotency::{Answer, Answered, Claim, Claimed, Earlier, KeyName},
    invoke::{Invocation, Outcome, finish, told_left},
    prepared::Prepared,
    record::Record,
};
use crate::{
    apps::{self, Action, App},
    connections::Chosen,
    node::Node,
    secrets,
};

/// Executes unless the key was used before; then answers as it was answered.
pub async fn run_once(
    node: &Node,
    (app, action): (&Arc<App>, &Action),
    record: Record,
    call: Prepared,
) -> Result<Outcome, Error> {
    let key = call.invocation.idempotency_key.as_deref().unwrap_or_default();
    if key.is_empty() || key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Cause::InvalidKey.into());
    }
    let Some(principal) = record.principal.as_ref().map(|principal| principal.id) else {
        return Err(Cause::Internal("an idempotency key needs a caller".to_owned()).into());
    };
    let name = KeyName { tenant: app.tenant.clone(), principal, operation: record.operation(), key: key.to_owned() };
    let digest = digest(&call.invocation);
    let claim = Claim { name: name.clone(), digest: digest.clone(), record: record.clone() };
    match node.runs.claims.write(claim).await {
        Ok(Claimed::Lost(earlier)) => replay(node, &name, &digest, &earlier),
        Ok(Claimed::Won) => {
            let result = call.execute(node, app, action).await;
            if let Err(error) = keep_answer(node, name, record.id, &result).await {
                // The caller gets its answer all the same; the key then says that the first request broke off.
                tracing::error!(run.id = %record.id, %error, "the answer for an idempotency key is not kept");
            }
            told_left(finish(node, record, result).await, call.left())
        }
        Err(not_written) => {
            // The claim may be on disk all the same, when only the word of it was lost: nothing may be left of it.
            node.runs.answers.write_later(Answered { name, run: record.id, answer: None }).await;
            finish(node, record, Err(not_written.into())).await
        }
    }
}

/// Of what was asked for: the input, and the account where one was named.
fn digest(invocation: &Invocation) -> Vec<u8> {
    let mut digest = Sha256::new_with_prefix(invocation.input.get());
    if let Some(Chosen::Asked(id) | Chosen::Inherited(id)) = invocation.connection {
        // No JSON text holds a zero, so nothing else reads the same.
        digest.update([0]);
        digest.update(id.as_uuid());
    }
    digest.finalize().to_vec()
}

async fn keep_answer(node: &Node, name: KeyName, run: RunId, result: &Result<Box<RawValue>, Cause>) -> Result<(), Cause> {
    let Some(answer) = answer(result) else {
        let returned = Answered { name, run, answer: None };
        if node.runs.answers.write(returned.clone()).await.is_err() {
            node.runs.answers.write_later(returned).await;
        }
        return Ok(());
    };
    let answer = Some(seal(node, &name, &answer)?);
    Ok(node.runs.answers.write(Answered { name, run, answer }).await?)
}

/// What to keep: nothing when it is certain that nothing happened outside.
fn answer(result: &Result<Box<RawValue>, Cause>) -> Option<Answer> {
    let cause = match result {
        Ok(output) => return Some(Answer::Output(output.clone())),
        Err(cause) if cause.had_no_effect() => return None,
        Err(cause) => cause,
    };
    Some(match cause {
        Cause::InvalidOutput(faults) => Answer::InvalidOutput(faults.clone()),
        Cause::App(apps::Error::Call(CallError::Timeout(limit))) => Answer::Timeout { seconds: limit.as_secs_f64() },
        Cause::Failed(failure) => kept(failure.as_ref().clone()),
        // Whether a backend that stopped had done its work is not known, and trying again does not tell. It has no code of a vendor.
        Cause::App(apps::Error::Call(error)) => kept(Failure::new(error.to_string())),
        other => kept(Failure::new(other.to_string()).with_code(other.failed().code)),
    })
}

fn kept(failure: Failure) -> Answer {
    let retry_after = failure.retry_after.map(|delay| delay.as_secs_f64());
    Answer::Failure { code: failure.code, category: failure.category, message: failure.message, retry_after }
}

fn seal(node: &Node, name: &KeyName, answer: &Answer) -> Result<(i32, weft_vault::Sealed), secrets::Error> {
    let bytes = serde_json::to_vec(answer).map_err(|error| sqlx::Error::Encode(error.into()))?;
    node.vault.seal(&name.tenant, &place(name, &name.principal.to_string()), &bytes)
}

/// Where a sealed answer belongs: no other user, operation or key can be shown it.
fn place<'a>(name: &'a KeyName, principal: &'a str) -> [&'a str; 4] {
    ["idempotency", principal, &name.operation, &name.key]
}

fn replay(node: &Node, name: &KeyName, digest: &[u8], earlier: &Earlier) -> Result<Outcome, Error> {
    let failed = |cause: Cause| Error { run: Some(earlier.run), cause, left: None };
    if earlier.digest != digest {
        return Err(failed(Cause::KeyMismatch));
    }
    let Some((version, sealed)) = &earlier.answer else {
        return Err(failed(if earlier.running { Cause::InProgress } else { Cause::Interrupted }));
    };
    let principal = name.principal.to_string();
    let bytes =
        node.vault.open_sealed(&name.tenant, &place(name, &principal), *version, sealed).map_err(|error| failed(error.into()))?;
    match serde_json::from_slice(&bytes).map_err(|error| failed(Cause::Internal(error.to_string())))? {
        Answer::Output(output) => Ok(Outcome { run: earlier.run, left: None, output }),
        other => Err(failed(as_cause(other))),
    }
}

fn as_cause(answer: Answer) -> Cause {
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    match answer {
        Answer::Output(_) => Cause::Internal("an output is no failure".to_owned()),
        Answer::InvalidOutput(faults) => Cause::InvalidOutput(faults),
        Answer::Timeout { seconds: limit } => Cause::App(apps::Error::Call(CallError::Timeout(seconds(limit)))),
        Answer::Failure { code, category, message, retry_after } => {
            let mut failure = Failure::new(message).with_category(category);
            failure.code = code;
            failure.retry_after = retry_after.map(seconds);
            Cause::Failed(Box::new(failure))
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::Fault;
    use weft_workers::Category;

    use super::*;

    /// What a caller is told the second time is what it was told the first time.
    #[test]
    fn kept_failures_come_back_as_they_were() {
        let failure = |category| {
            let mut failure = Failure::new("no").with_code("x").with_category(category);
            failure.retry_after = Some(Duration::from_secs(7));
            Cause::Failed(Box::new(failure))
        };
        let causes = [
            failure(Category::Transient),
            failure(Category::Poison),
            Cause::InvalidOutput(vec![Fault::new("$.a", "is wrong")]),
            Cause::App(apps::Error::Call(CallError::Timeout(Duration::from_secs(2)))),
        ];
        for cause in causes {
            let text = format!("{cause:?}");
            let kept = answer(&Err(cause)).expect("kept");
            let again = serde_json::from_slice(&serde_json::to_vec(&kept).expect("JSON")).expect("the same type");
            assert_eq!(format!("{:?}", as_cause(again)), text);
        }
        for category in [Category::Validation, Category::Auth, Category::RateLimited] {
            assert!(answer(&Err(failure(category))).is_none(), "{category:?} gives the key back");
        }
    }
}
