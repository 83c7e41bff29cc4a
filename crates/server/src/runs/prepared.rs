//! A call of an action that is ready to be executed: once, and once more with a newer token when the vendor refuses the first.

use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde_json::value::RawValue;
use weft_model::{AppId, ConnectionId, Principal, UserId};

use super::{
    admission::{Asked, Asker, Audience, Left, Place, Question},
    convention::{lacks_rights, refusal},
    error::Cause,
    invoke::{Invocation, execute, execute_recipe},
    recipe::Given,
    record::Record,
};
use crate::{
    apps::{Action, App, CallContext, CallRequest, Pinned},
    connections::{Account, Credential, Wish, answers_expired, says_expired, way_name},
    integrations::Config,
    node::Node,
};

/// Everything that executors need besides the action itself.
pub struct Prepared {
    pub invocation: Invocation,
    /// Before anything was read that the answer depends on.
    asked: Asked,
    with: With,
    context: Arc<CallContext>,
}

/// What a call is made with: the configuration, and whose account at the vendor; `None` where the integration knows none.
pub struct With {
    pub config: Arc<Config>,
    account: Option<Account>,
    /// What was left of the vendor's budget when the call went out.
    left: OnceLock<Left>,
}

impl With {
    /// A configuration that lacks nothing, and the account that the caller may use.
    pub async fn wished(node: &Node, wish: &Wish<'_>) -> Result<Self, Cause> {
        let account = node.connections.for_call(wish).await;
        let named = account.as_ref().ok().and_then(|found| found.as_ref()?.credential.origin.configuration);
        let config = node.integrations.config_by(wish.app, named).await?;
        if !config.missing.is_empty() {
            return Err(Cause::NotConfigured(config.missing.clone()));
        }
        Ok(Self { config, account: account?, left: OnceLock::new() })
    }

    pub fn credential(&self) -> Option<&Arc<Credential>> {
        self.account.as_ref().map(|account| &account.credential)
    }

    pub fn connection(&self) -> Option<ConnectionId> {
        self.credential().map(|credential| credential.connection)
    }

    /// Whose calls it is counted with.
    pub fn place(&self, app: &App) -> Place {
        Place { tenant: app.tenant.clone(), integration: app.id.clone(), connection: self.connection() }
    }

    /// Lets a call go out, if it may now, and takes it off what was delegated.
    pub async fn admit(&self, node: &Node, app: &App, (place, asker): (&Place, Asker)) -> Result<(), Cause> {
        if let Some(left) = node.admission.admit(place, asker, app.manifest.content.rate_limit.as_ref()).await? {
            let _ = self.left.set(left);
        }
        let Some(account) = &self.account else { return Ok(()) };
        let spent = Box::pin(node.connections.spend(&app.tenant, account)).await;
        if spent.is_err() {
            node.admission.learnt(place, None);
        }
        Ok(spent?)
    }

    /// What was left of the vendor's budget, where there is one and the call went out.
    pub fn left(&self) -> Option<Left> {
        self.left.get().copied()
    }

    /// The same without what the executor was given and nobody else may see.
    pub fn masked(&self, cause: Cause) -> Cause {
        let cause = cause.masked(self.config.masks());
        match self.credential() {
            Some(credential) => cause.masked(&credential.masks),
            None => cause,
        }
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_way: Option<&'a str>,
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
    pub fn new((invocation, asked): (Invocation, Asked), with: With, record: &Record) -> Self {
        let connection = with.connection().map(|connection| Pinned { integration: invocation.provider.clone(), connection });
        let context = Arc::new(CallContext {
            principal: Some(Arc::clone(&invocation.principal)),
            depth: invocation.depth,
            hops: invocation.hops,
            contacts: record.contacts.clone(),
            connection,
            ..CallContext::of_platform(record.id, record.trace)
        });
        Self { invocation, asked, with, context }
    }

    /// What was left of the vendor's budget, where there is one and the call went out.
    pub fn left(&self) -> Option<Left> {
        self.with.left()
    }

    /// Once, by the action's recipe or on the app's worker.
    async fn carry_out(
        &self,
        node: &Node,
        app: &Arc<App>,
        action: &Action,
        credential: Option<&Credential>,
    ) -> Result<Box<RawValue>, Cause> {
        let Some(recipe) = &action.recipe else {
            return execute(node, app, Some(action), self.request(app, action, credential)?).await;
        };
        let given = Given {
            input: &self.invocation.input,
            config: self.with.config.json(),
            credentials: credential.map(Credential::json),
            way: credential.and_then(|credential| way_name(app, credential)),
            context: &self.context,
            timeout: action.timeout,
        };
        Box::pin(execute_recipe(node, app, (action, recipe), given)).await
    }

    fn request(&self, app: &App, action: &Action, credential: Option<&Credential>) -> Result<CallRequest, Cause> {
        let invocation = &self.invocation;
        let owner = credential.and_then(|credential| credential.owner).unwrap_or(invocation.principal.id);
        let connection_id = credential.map(|credential| credential.connection);
        let params = raw(&ActionParams {
            action: &invocation.action,
            input: &invocation.input,
            config: self.with.config.json(),
            user_credentials: credential.map(Credential::json),
            user_id: owner,
            connection_id,
            connection_way: credential.and_then(|credential| way_name(app, credential)),
        })?;
        Ok(CallRequest {
            method: "__integration".into(),
            job: None,
            params,
            caller: Some(caller(&invocation.principal, invocation.calling_app.as_ref(), connection_id)?),
            context: Arc::clone(&self.context),
            timeout: action.timeout,
        })
    }

    /// Executes it, if it may go out now. An answer that may be given again is.
    pub async fn execute(&self, node: &Node, app: &Arc<App>, action: &Action) -> Result<Box<RawValue>, Cause> {
        let answers = &node.admission.answers;
        let question = action.cached.map(|lasts| (self.question(app, action), lasts));
        if let Some(known) = question.as_ref().and_then(|(question, _)| answers.get(question)) {
            return Ok(known);
        }
        let place = self.with.place(app);
        let asker = Asker::of(self.invocation.calling_app.as_ref(), self.invocation.principal.id);
        self.with.admit(node, app, (&place, asker)).await?;
        let result = self.attempt(node, app, action).await;
        node.admission.heard(&place, &result);
        if let (Some((question, lasts)), Ok(output)) = (question, &result)
            && refusal(output).is_none()
            && !answers_expired(app, self.with.credential().map(AsRef::as_ref), output)
        {
            answers.keep((question, self.asked), output, lasts);
        }
        result
    }

    fn question(&self, app: &App, action: &Action) -> Question {
        let Invocation { principal, calling_app, action: name, input, .. } = &self.invocation;
        let version = self.with.credential().map(|credential| credential.version);
        let audience = match &action.recipe {
            Some(_) => Audience::Anybody,
            None => Audience::Caller(principal.id, calling_app.clone()),
        };
        Question::new((self.with.place(app), version), audience, (name, input))
    }

    /// A token that the vendor refuses is renewed, and the call made once more: a refusal has had no effect.
    async fn attempt(&self, node: &Node, app: &Arc<App>, action: &Action) -> Result<Box<RawValue>, Cause> {
        let Some(credential) = self.with.credential() else {
            return self.carry_out(node, app, action, None).await;
        };
        let refused = match self.execute_with(node, app, action, credential).await {
            Err(Cause::Failed(failure)) if says_expired(app, credential, &failure) => Err(Cause::Failed(failure)),
            Ok(output) if answers_expired(app, Some(credential), &output) => Ok(output),
            other => return other,
        };
        match Box::pin(node.connections.renewed(app, credential)).await? {
            Some(newer) => Box::pin(self.execute_with(node, app, action, &newer)).await,
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
        let result = self.carry_out(node, app, action, Some(credential)).await.map_err(|cause| {
            let cause = self.with.masked(cause).masked(&credential.masks);
            self.context.told.seen().iter().fold(cause, |cause, told| cause.masked(&told.masks))
        });
        if let Ok(output) = &result
            && let Some(message) = lacks_rights(output)
        {
            let message = self.with.config.masks().text(&credential.masks.text(&message));
            let message = self.context.told.seen().iter().fold(message, |text, told| told.masks.text(&text));
            if let Err(error) = Box::pin(node.connections.lacks_rights(app, credential, &message)).await {
                tracing::warn!(connection.id = %credential.connection, %error, "connection.fail: not noted");
            }
        }
        result
    }
}
