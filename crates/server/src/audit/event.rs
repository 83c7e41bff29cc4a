//! An event, and the text that it becomes.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use weft_model::{CredentialId, Principal, PrincipalKind, Proof, TenantId, UserId};

use crate::http::trace::{self, Origin};

macro_rules! actions {
    // A token, not a literal: the description of the API does not see through the latter.
    ($($name:ident $word:tt),* $(,)?) => {
        /// Everything that gets into the audit log.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[schema(as = AuditAction)]
        pub enum Action {
            $(#[serde(rename = $word)] $name),*
        }

        impl Action {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

actions! {
    LoginSucceeded "login.succeeded",
    LoginFailed "login.failed",
    SessionEnded "session.ended",
    PasswordChanged "password.changed",
    TokenIssued "token.issued",
    TokenRefused "token.refused",
    LinkMade "link.made",
    UserRegistered "user.registered",
    UserAdded "user.added",
    UserRemoved "user.removed",
    UserDisabled "user.disabled",
    UserEnabled "user.enabled",
    RoleCreated "role.created",
    RoleUpdated "role.updated",
    RoleDeleted "role.deleted",
    RoleAssigned "role.assigned",
    RoleRevoked "role.revoked",
    ProviderSaved "provider.saved",
    ProviderDeleted "provider.deleted",
    AccountCreated "service_account.created",
    AccountDeleted "service_account.deleted",
    AccountDisabled "service_account.disabled",
    AccountEnabled "service_account.enabled",
    AccountTransferred "service_account.transferred",
    CredentialCreated "credential.created",
    CredentialRevoked "credential.revoked",
    ActAsGranted "act_as.granted",
    ActAsRevoked "act_as.revoked",
    SecretSet "secret.set",
    SecretDeleted "secret.deleted",
    ConfigurationSaved "configuration.saved",
    ConnectionCreated "connection.created",
    ConnectionRenewed "connection.renewed",
    ConnectionRenamed "connection.renamed",
    ConnectionDelegated "connection.delegated",
    ConnectionDeleted "connection.deleted",
    AppBound "app.bound",
    AppUnbound "app.unbound",
    ConfigurationDeleted "configuration.deleted",
    AppInstalled "app.installed",
    AppUninstalled "app.uninstalled",
    AppDeployed "app.deployed",
    FrontendDeployed "app.frontend_deployed",
    AppRolledBack "app.rolled_back",
    CronCreated "cron.created",
    CronChanged "cron.changed",
    CronDeleted "cron.deleted",
    CronTriggered "cron.triggered",
    HookCreated "hook.created",
    HookChanged "hook.changed",
    HookDeleted "hook.deleted",
    SyncRun "sync.run",
    SyncPaused "sync.paused",
    SyncResumed "sync.resumed",
    SyncReset "sync.reset",
    SyncInputSaved "sync.input_saved",
    FileDeleted "file.deleted",
    BucketCreated "bucket.created",
    BucketDeleted "bucket.deleted",
    ObjectDeleted "object.deleted",
    TenantCreated "tenant.created",
    TenantDisabled "tenant.disabled",
    TenantEnabled "tenant.enabled",
    TenantDeleted "tenant.deleted",
    NamespaceCreated "namespace.created",
    NamespaceRenamed "namespace.renamed",
    NamespaceDeleted "namespace.deleted",
    DepartmentCreated "department.created",
    DepartmentChanged "department.changed",
    DepartmentDeleted "department.deleted",
    DepartmentMemberAdded "department.member_added",
    DepartmentMemberRemoved "department.member_removed",
    VaultKeyRotated "vault.key_rotated",
    SigningKeyRotated "signing_key.rotated",
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Actor {
    pub id: UserId,
    pub kind: &'static str,
    pub name: String,
    /// The key with which a machine got its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialId>,
}

impl Actor {
    pub fn person(id: UserId, email: &str) -> Self {
        Self { id, kind: PrincipalKind::User.as_str(), name: email.to_owned(), credential: None }
    }
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Target {
    kind: &'static str,
    id: String,
}

/// Something that was done.
#[derive(Debug, Clone)]
pub struct Event {
    pub(super) tenant: TenantId,
    action: Action,
    actor: Option<Actor>,
    /// The person who answers for the machine that did it.
    pub(super) on_behalf_of: Option<Actor>,
    target: Option<Target>,
    details: Map<String, Value>,
    origin: Origin,
    /// How often, where several were counted together.
    pub(super) count: u32,
}

impl Event {
    /// Something in a tenant that nobody who is known did.
    pub fn new(tenant: &TenantId, action: Action) -> Self {
        let (tenant, origin) = (tenant.clone(), trace::origin());
        Self { tenant, action, actor: None, on_behalf_of: None, target: None, details: Map::new(), origin, count: 1 }
    }

    /// Something that a caller did in its tenant.
    pub fn by(caller: &Principal, action: Action) -> Self {
        let credential = match caller.proof {
            Proof::Credential(id) => Some(id),
            Proof::Session { .. } | Proof::Standing => None,
        };
        let actor = Actor { id: caller.id, kind: caller.kind.as_str(), name: caller.email.clone(), credential };
        Self { actor: Some(actor), ..Self::new(&caller.tenant, action) }
    }

    /// The same, done by a person who is not a caller yet: one who registers or logs in.
    #[must_use]
    pub fn by_user(mut self, id: UserId, email: &str) -> Self {
        self.actor = Some(Actor::person(id, email));
        self
    }

    /// The same, in another tenant than the caller's.
    #[must_use]
    pub fn within(mut self, tenant: &TenantId) -> Self {
        self.tenant = tenant.clone();
        self
    }

    /// What it was done to.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "ids and names are handed over as they are")]
    pub fn on(mut self, kind: &'static str, id: impl ToString) -> Self {
        self.target = Some(Target { kind, id: id.to_string() });
        self
    }

    /// Something worth knowing about it. Never a secret.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Whether both tell the same, apart from when and with which details.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.action == other.action && self.target == other.target && self.origin.address == other.origin.address
    }

    /// The machine that did it, if it was one.
    pub(super) fn machine(&self) -> Option<UserId> {
        self.actor.as_ref().filter(|actor| actor.kind == PrincipalKind::ServiceAccount.as_str()).map(|actor| actor.id)
    }

    /// What is left of many that are too different to be told one by one.
    pub(super) fn anonymous(mut self) -> Self {
        (self.actor, self.target, self.origin.address) = (None, None, None);
        self.details = Map::from_iter([("several".to_owned(), Value::Bool(true))]);
        self
    }

    /// The text that is hashed and stored.
    pub(super) fn text(&self, seq: i64, now: DateTime<Utc>) -> serde_json::Result<String> {
        serde_json::to_string(&Entry {
            chain: &self.tenant,
            seq,
            at: now.to_rfc3339_opts(SecondsFormat::Micros, true),
            action: self.action,
            actor: self.actor.as_ref(),
            on_behalf_of: self.on_behalf_of.as_ref(),
            target: self.target.as_ref(),
            address: self.origin.address.map(|address| address.to_string()),
            trace_id: self.origin.trace.to_string(),
            count: self.count,
            details: &self.details,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    chain: &'a TenantId,
    seq: i64,
    at: String,
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a Actor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<&'a Actor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    trace_id: String,
    #[serde(skip_serializing_if = "is_one")]
    count: u32,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: &'a Map<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_one(count: &u32) -> bool {
    *count == 1
}
