//! Accounts of people and their memberships; and what all of identity shares.

use std::sync::Arc;

use chrono::Duration;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use weft_model::{CredentialId, Fault, PermissionSet, Principal, Proof, Secret, SessionId, TenantId, UserId};

use super::{
    accounts::{self, Verified},
    delivery, links,
    network::ClientNetwork,
    password::{self, Passwords},
    roles,
    store::{self, User},
    throttle::{Throttle, TooMany},
    token::{Claims, Refused, SigningKey},
};
use crate::{
    audit::{self, Action, Audit, Event},
    authority::{self, Authority},
    clock::Clock,
    db::{
        breaks,
        cache::Cache,
        notify::{self, Change},
    },
};

/// Sessions, and tokens of machines, whose principal a node remembers.
const REMEMBERED_PRINCIPALS: u64 = 50_000;
/// How long it is remembered from where somebody logged in.
const FAMILIAR: Duration = Duration::days(90);
/// Tokens of sessions that a node remembers, and for how long: no access token lives longer.
const REMEMBERED_TOKENS: u64 = 20_000;
const REMEMBERED_FOR: std::time::Duration = std::time::Duration::from_mins(15);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the document has faults")]
    Invalid(Vec<Fault>),
    #[error("email '{0}' already taken")]
    EmailTaken(String),
    #[error("registration is closed on this server: ask an administrator for an account")]
    RegistrationClosed,
    #[error("password registration is disabled on this server: sign on through a provider")]
    PasswordRegistrationOff,
    #[error("password login is disabled on this server: sign on through a provider")]
    PasswordLoginOff,
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("invalid credentials")]
    InvalidCredentials,
    #[error("{0}")]
    Token(#[from] Refused),
    #[error("invalid or expired nonce: sign on again")]
    UnknownNonce,
    #[error("the session has ended or the account is disabled: log in again")]
    SessionEnded,
    #[error("the key of the service account was revoked or has expired, or the account is disabled")]
    CredentialEnded,
    #[error(
        "there is no tenant '{0}' that you could use: it does not exist, is switched off, you are no member of it, or your password \
             was chosen by an administrator of another one: log in there and change it first"
    )]
    NotAMember(TenantId),
    #[error("this login is good for one tenant only: log in to '{0}' itself")]
    BoundToTenant(TenantId),
    #[error("'{0}' is a member already")]
    AlreadyMember(String),
    #[error("role '{0}' not defined")]
    RoleNotDefined(String),
    #[error("only a person who logged in can do this")]
    PeopleOnly,
    #[error(
        "this user answers for service accounts: hand them over first (POST /api/v1/service-accounts/<id>/transfer-ownership)"
    )]
    OwnsAccounts,
    #[error("user")]
    UnknownUser,
    #[error("cannot {0} the last administrator: make somebody else an administrator first")]
    LastAdministrator(&'static str),
    #[error(transparent)]
    Authority(#[from] authority::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The tokens of one login.
pub struct Login {
    pub access_token: String,
    pub refresh_token: String,
    pub user: User,
    pub tenant: TenantId,
}

impl Login {
    /// The event of this login, by what it was.
    pub(super) fn event(&self, by: &str) -> Event {
        Event::new(&self.tenant, Action::LoginSucceeded).by_user(self.user.id, &self.user.email).with("by", by)
    }
}

/// What a principal is remembered by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Shown {
    Session(SessionId),
    /// With the scopes that narrow the token.
    Machine(CredentialId, Option<String>),
    /// Nothing: something that it left acts for it.
    Standing(TenantId, UserId),
}

/// What the settings say about passwords.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Anybody may register, not only the first user.
    pub registration_open: bool,
    /// Passwords serve to log in. While there are no users they always do.
    pub password_login: bool,
}

/// Users, sessions and what they may do.
pub struct Identity {
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    pub(super) authority: Arc<Authority>,
    pub(super) audit: Arc<Audit>,
    /// The name of this server in tokens of machines.
    pub(super) issuer: String,
    pub(super) key: SigningKey,
    policy: Policy,
    pub(super) passwords: Passwords,
    pub(super) throttle: Throttle,
    pub(super) principals: Cache<Shown, Arc<Principal>>,
    pub(super) verified: Verified,
    /// The claims of session tokens whose signature was checked, by the digest of the whole token.
    pub(super) checked: moka::sync::Cache<[u8; 32], Arc<Claims>, ahash::RandomState>,
    /// Changes whenever what is remembered is forgotten.
    changes: watch::Sender<()>,
}

impl Identity {
    pub fn new(
        (pool, clock): (PgPool, Clock),
        key: SigningKey,
        (authority, audit, issuer): (Arc<Authority>, Arc<Audit>, String),
        policy: Policy,
    ) -> Self {
        let (passwords, throttle) = (Passwords::new(), Throttle::new(clock.clone()));
        let principals = Cache::new(REMEMBERED_PRINCIPALS);
        let (verified, changes) = (Cache::new(REMEMBERED_PRINCIPALS), watch::Sender::default());
        let builder = moka::sync::Cache::builder().max_capacity(REMEMBERED_TOKENS).time_to_live(REMEMBERED_FOR);
        let checked = builder.build_with_hasher(ahash::RandomState::new());
        Self { pool, clock, authority, audit, issuer, key, policy, passwords, throttle, principals, verified, checked, changes }
    }

    /// Forgets what is remembered of sessions and tokens.
    pub fn forget(&self) {
        self.principals.clear();
        self.verified.clear();
        self.changes.send_replace(());
    }

    /// Waits until what a caller showed is no longer good: for answers that go on for as long as somebody listens.
    pub async fn until_ended(&self, caller: &Principal) {
        let mut changes = self.changes.subscribe();
        loop {
            match self.is_live(caller).await {
                Ok(true) => {}
                Ok(false) => return,
                // While the database is away nobody can say; the next change asks again.
                Err(error) => tracing::warn!(%error, "cannot tell whether a session still lives"),
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn is_live(&self, caller: &Principal) -> Result<bool, Error> {
        let mut connection = self.pool.acquire().await?;
        let (tenant, now) = (&caller.tenant, self.clock.now());
        Ok(match caller.proof {
            Proof::Session { id, .. } => store::find_session_user(&mut connection, tenant, id, now).await?.is_some(),
            Proof::Standing => store::find_enabled_member(&mut connection, tenant, caller.id).await?.is_some(),
            Proof::Credential(id) => {
                accounts::store::find_key_user(&mut connection, (tenant, caller.id), id, now).await?.is_some()
            }
        })
    }

    /// A member of a tenant with everything that it may do there.
    pub(super) async fn principal(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        (user, kind): (User, &str),
        proof: Proof,
    ) -> Result<Principal, Error> {
        let granted = roles::store::effective(connection, tenant, user.id).await?;
        Ok(Principal {
            tenant: tenant.clone(),
            id: user.id,
            kind: kind.parse().map_err(|reason: String| sqlx::Error::Decode(reason.into()))?,
            email: user.email,
            roles: granted.roles,
            permissions: granted.permissions.into_iter().collect::<PermissionSet>(),
            proof,
        })
    }

    /// Creates a user. The first one becomes administrator; later ones have no role until somebody gives them one.
    pub async fn register(&self, email: &str, password: Secret<String>, display_name: Option<String>) -> Result<User, Error> {
        if !self.password_login_enabled().await? {
            return Err(Error::PasswordRegistrationOff);
        }
        let email = email.trim();
        let mut faults = password::faults(password.expose(), "$.password");
        if !is_email(email) {
            faults.push(Fault::new("$.email", "must be an e-mail address"));
        }
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let tenant = TenantId::default_tenant();
        self.admit_registration().await?;
        let hash = self.passwords.hash(password).await;
        let now = self.clock.now();
        let user = User { id: UserId::generate(now), email: email.to_owned(), display_name, created_at: now };
        let mut transaction = self.pool.begin().await?;
        // Serialises first registrations: exactly one of them finds the place empty.
        roles::store::lock_administrators(&mut transaction, &tenant).await?;
        let first = store::is_empty(&mut transaction).await?;
        if !first && !self.policy.registration_open {
            return Err(Error::RegistrationClosed);
        }
        store::insert_account(&mut transaction, &user, Some(&hash)).await.map_err(|error| taken(error, email))?;
        store::insert_membership(&mut transaction, &tenant, user.id, now).await?;
        if first {
            roles::store::assign(&mut transaction, &tenant, user.id, roles::ADMIN, None, now).await?;
        }
        let event = Event::new(&tenant, Action::UserRegistered).by_user(user.id, &user.email).with("administrator", first);
        audit::record(&mut transaction, &event, now).await?;
        transaction.commit().await?;
        tracing::info!(user.id = %user.id, first, "identity.register");
        Ok(user)
    }

    async fn admit_registration(&self) -> Result<(), Error> {
        if self.policy.registration_open || self.setup_required().await? { Ok(()) } else { Err(Error::RegistrationClosed) }
    }

    /// Whether nobody has registered yet.
    pub async fn setup_required(&self) -> Result<bool, Error> {
        Ok(store::is_empty(&mut *self.pool.acquire().await?).await?)
    }

    /// Whether passwords serve to log in.
    pub async fn password_login_enabled(&self) -> Result<bool, Error> {
        Ok(self.policy.password_login || self.setup_required().await?)
    }

    /// Counts a costly request of somebody who has not logged in.
    pub fn knock(&self, from: ClientNetwork) -> Result<(), Error> {
        Ok(self.throttle.knock(from)?)
    }

    /// How many passwords were checked. For tests.
    pub fn password_checks(&self) -> u64 {
        self.passwords.checks()
    }

    /// A person who is a member of the tenant.
    pub async fn user(&self, tenant: &TenantId, id: UserId) -> Result<User, Error> {
        store::find_user(&mut *self.pool.acquire().await?, tenant, id).await?.ok_or(Error::UnknownUser)
    }

    /// A member of the tenant, person or machine.
    pub async fn member(&self, tenant: &TenantId, id: UserId) -> Result<User, Error> {
        store::find_member(&mut *self.pool.acquire().await?, tenant, id).await?.ok_or(Error::UnknownUser)
    }

    pub async fn users(&self, tenant: &TenantId) -> Result<Vec<User>, Error> {
        Ok(store::list_users(&mut *self.pool.acquire().await?, tenant).await?)
    }

    /// Removes a person from the caller's tenant with sessions and roles, and the account with its last membership.
    pub async fn delete_user(&self, by: &Principal, id: UserId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        let administrators = roles::store::lock_administrators(&mut transaction, &by.tenant).await?;
        if administrators == [id] {
            return Err(Error::LastAdministrator("delete"));
        }
        let user = store::find_user(&mut transaction, &by.tenant, id).await?.ok_or(Error::UnknownUser)?;
        store::delete_membership(&mut transaction, &by.tenant, id).await.map_err(owns_accounts)?;
        store::delete_homeless(&mut transaction, id).await?;
        tracing::info!(user.id = %id, "identity.delete_user");
        self.commit(transaction, Event::by(by, Action::UserRemoved).on("user", id).with("email", user.email)).await
    }

    /// Switches a member of the caller's tenant off, which ends its sessions, or on again.
    pub async fn set_user_disabled(&self, by: &Principal, id: UserId, disabled: bool) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        let administrators = roles::store::lock_administrators(&mut transaction, &by.tenant).await?;
        if disabled && administrators == [id] {
            return Err(Error::LastAdministrator("disable"));
        }
        store::find_user(&mut transaction, &by.tenant, id).await?.ok_or(Error::UnknownUser)?;
        store::set_disabled(&mut transaction, &by.tenant, id, disabled.then(|| self.clock.now())).await?;
        tracing::info!(user.id = %id, disabled, "identity.set_user_disabled");
        let action = if disabled { Action::UserDisabled } else { Action::UserEnabled };
        self.commit(transaction, Event::by(by, action).on("user", id)).await
    }

    /// Removes what has expired. Run now and then.
    pub async fn tidy(&self) -> Result<(), Error> {
        self.throttle.tidy();
        let (mut connection, now) = (self.pool.acquire().await?, self.clock.now());
        store::delete_expired_sessions(&mut connection, now).await?;
        store::delete_old_networks(&mut connection, now - FAMILIAR).await?;
        delivery::store::delete_expired(&mut connection, now).await?;
        links::store::delete_expired(&mut connection, now - links::KEPT).await?;
        Ok(())
    }

    /// Commits a change together with its event. Other nodes learn of it, and it applies here at once.
    pub(super) async fn commit(&self, mut transaction: sqlx::Transaction<'_, sqlx::Postgres>, event: Event) -> Result<(), Error> {
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        notify::announce(&mut transaction, &Change::Identity).await?;
        transaction.commit().await?;
        self.forget();
        Ok(())
    }
}

pub(super) fn is_email(text: &str) -> bool {
    text.len() <= 254
        && !text.chars().any(|character| character.is_whitespace() || character.is_control())
        && text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

pub(super) fn taken(error: sqlx::Error, email: &str) -> Error {
    if breaks(&error, "users_email_unique") { Error::EmailTaken(email.to_owned()) } else { error.into() }
}

fn owns_accounts(error: sqlx::Error) -> Error {
    if breaks(&error, "service_accounts_owner") { Error::OwnsAccounts } else { error.into() }
}
