//! A call of an action that is ready to be executed: once, and once more with a newer token when the vendor refuses the first.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, value::RawValue};
use weft_model::{AppId, ConnectionId, Principal, UserId};

use super::{
    admission::{Place, Question},
    error::Cause,
    invoke::{Invocation, execute},
    record::Record,
};
use crate::{
    apps::{Action, App, CallContext, CallRequest, Pinned},
    connections::{Credential, answers_expired, says_expired},
    integrations::Config,
    node::Node,
};

/// The name by which integrations say that an account lacks rights.
const INSUFFICIENT: &str = "INSUFFICIENT_PERMISSIONS";

/// Everything that executors need besides the action itself.
pub struct Prepared {
    pub invocation: Invocation,
    pub config: Arc<Config>,
    /// With whose account at the vendor; `None` where the integration knows none.
    pub credential: Option<Arc<Credential>>,
    context: CallContext,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActionParams<'a> {
    action: &'a str,
    input: &'a RawValue,
    config: &'a RawValue,
    user_credentials: Option<&'a RawValue>,
    user_id: UserId,
    connection_id: Option<ConnectionId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallerParams<'a> {
    user_id: String,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<ConnectionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<&'a AppId>,
}

/// Who calls, as backends see it.
pub fn caller(
    principal: &Principal,
    app_id: Option<&AppId>,
    connection_id: Option<ConnectionId>,
) -> Result<Box<RawValue>, Cause> {
    raw(&CallerParams { user_id: principal.id.to_string(), email: &principal.email, connection_id, app_id })
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, Cause> {
    serde_json::value::to_raw_value(value).map_err(|error| Cause::Internal(error.to_string()))
}

impl Prepared {
    pub fn new(invocation: Invocation, config: Arc<Config>, credential: Option<Arc<Credential>>, record: &Record) -> Self {
        let connection = credential
            .as_ref()
            .map(|credential| Pinned { integration: invocation.provider.clone(), connection: credential.connection });
        let context = CallContext {
            principal: Some(Arc::clone(&invocation.principal)),
            depth: invocation.depth,
            hops: invocation.hops,
            contacts: record.contacts.clone(),
            connection,
            ..CallContext::of_platform(record.id, record.trace)
        };
        Self { invocation, config, credential, context }
    }

    fn request(&self, action: &Action, credential: Option<&Credential>) -> Result<CallRequest, Cause> {
        let invocation = &self.invocation;
        let owner = credential.and_then(|credential| credential.owner).unwrap_or(invocation.principal.id);
        let connection_id = credential.map(|credential| credential.connection);
        let params = raw(&ActionParams {
            action: &invocation.action,
            input: &invocation.input,
            config: self.config.json(),
            user_credentials: credential.map(Credential::json),
            user_id: owner,
            connection_id,
        })?;
        Ok(CallRequest {
            method: "__integration".to_owned(),
            job: None,
            params,
            caller: Some(caller(&invocation.principal, invocation.calling_app.as_ref(), connection_id)?),
            context: self.context.clone(),
            timeout: action.timeout,
        })
    }

    /// Executes it, if it may go out now. An answer that may be given again is.
    pub async fn execute(&self, node: &Node, app: &Arc<App>, action: &Action) -> Result<Box<RawValue>, Cause> {
        let place = Place {
            tenant: app.tenant.clone(),
            integration: app.id.clone(),
            connection: self.credential.as_ref().map(|credential| credential.connection),
        };
        let answers = &node.admission.answers;
        let question = action.cached.map(|_| {
            let Invocation { principal, action: name, input, .. } = &self.invocation;
            let version = self.credential.as_ref().map(|credential| credential.version);
            (Question::new(place.clone(), (principal.id, version), name, input), answers.asked())
        });
        if let Some(known) = question.as_ref().and_then(|(question, _)| answers.get(question)) {
            return Ok(known);
        }
        node.admission.admit(&place, app.manifest.content.rate_limit.as_ref()).await?;
        let result = self.attempt(node, app, action).await;
        node.admission.heard(&place, &result);
        if let (Some(question), Some(lasts), Ok(output)) = (question, action.cached, &result) {
            answers.keep(question, output, lasts);
        }
        result
    }

    /// A token that the vendor refuses is renewed, and the call made once more: a refusal has had no effect.
    async fn attempt(&self, node: &Node, app: &Arc<App>, action: &Action) -> Result<Box<RawValue>, Cause> {
        let Some(credential) = &self.credential else {
            return execute(node, app, Some(action), self.request(action, None)?).await;
        };
        let refused = match self.execute_with(node, app, action, credential).await {
            Err(Cause::Failed(failure)) if says_expired(app, &failure) => Err(Cause::Failed(failure)),
            Ok(output) if answers_expired(app, &output) => Ok(output),
            other => return other,
        };
        match node.connections.renewed(app, credential).await? {
            Some(newer) => self.execute_with(node, app, action, &newer).await,
            None => refused,
        }
    }

    async fn execute_with(
        &self,
        node: &Node,
        app: &Arc<App>,
        action: &Action,
        credential: &Credential,
    ) -> Result<Box<RawValue>, Cause> {
        let request = self.request(action, Some(credential))?;
        let result = execute(node, app, Some(action), request)
            .await
            .map_err(|cause| cause.masked(self.config.masks()).masked(&credential.masks));
        if let Ok(output) = &result
            && let Some(message) = lacks_rights(output)
        {
            let message = credential.masks.text(&message);
            if let Err(error) = node.connections.lacks_rights(app, credential, &message).await {
                tracing::warn!(connection.id = %credential.connection, %error, "connection.fail: not noted");
            }
        }
        result
    }
}

/// What a result says that an account lacks rights: `{ok: false, error: {code: "INSUFFICIENT_PERMISSIONS", message}}`.
fn lacks_rights(output: &RawValue) -> Option<String> {
    if !output.get().contains(INSUFFICIENT) {
        return None;
    }
    let result: Value = serde_json::from_str(output.get()).ok()?;
    if result["ok"] != false || result["error"]["code"] != INSUFFICIENT {
        return None;
    }
    Some(result["error"]["message"].as_str().unwrap_or("the account lacks rights at the vendor").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_convention_for_lacking_rights_counts() {
        let found = |text: &str| lacks_rights(&RawValue::from_string(text.to_owned()).expect("JSON"));
        let told = r#"{"ok":false,"error":{"code":"INSUFFICIENT_PERMISSIONS","message":"no scope mail.send"}}"#;
        assert_eq!(found(told).as_deref(), Some("no scope mail.send"));
        for other in [
            r#"{"ok":true,"error":{"code":"INSUFFICIENT_PERMISSIONS"}}"#,
            r#"{"ok":false,"error":{"code":"NOT_FOUND"}}"#,
            r#""INSUFFICIENT_PERMISSIONS""#,
            "null",
        ] {
            assert!(found(other).is_none(), "{other}");
        }
    }
}
