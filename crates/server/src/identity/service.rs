//! Registering, logging in and out, and authenticating every request.

use std::sync::Arc;

use sqlx::PgPool;
use weft_model::{Fault, PermissionSet, Principal, Secret, SessionId, TenantId, UserId};

use super::{
    password, roles,
    store::{self, User},
    token::{ACCESS, Claims, REFRESH, Refused, SigningKey, Use},
};
use crate::{
    clock::Clock,
    db::{
        cache::Cache,
        notify::{self, Change},
    },
};

/// Sessions whose principal a node remembers.
const REMEMBERED_SESSIONS: u64 = 50_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the document has faults")]
    Invalid(Vec<Fault>),
    #[error("email '{0}' already taken")]
    EmailTaken(String),
    #[error("registration is closed on this server: ask an administrator for an account")]
    RegistrationClosed,
    #[error("invalid credentials")]
    InvalidCredentials,
    #[error("{0}")]
    Token(#[from] Refused),
    #[error("the session has ended or the account is disabled: log in again")]
    SessionEnded,
    #[error("user")]
    UnknownUser,
    #[error("cannot {0} the last administrator: make somebody else an administrator first")]
    LastAdministrator(&'static str),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The tokens of one login.
pub struct Login {
    pub access_token: String,
    pub refresh_token: String,
    pub user: User,
}

/// Users, sessions and what they may do.
pub struct Identity {
    pub(super) pool: PgPool,
    pub(super) clock: Clock,
    key: SigningKey,
    registration_open: bool,
    principals: Cache<SessionId, Arc<Principal>>,
}

impl Identity {
    pub fn new(pool: PgPool, clock: Clock, key: SigningKey, registration_open: bool) -> Self {
        Self { pool, clock, key, registration_open, principals: Cache::new(REMEMBERED_SESSIONS) }
    }

    /// Forgets what is remembered of sessions.
    pub fn forget(&self) {
        self.principals.clear();
    }

    /// The principal behind an access token.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Principal>, Error> {
        let claims = self.key.check(token, Use::Access, self.clock.now())?;
        self.principals.get_or_load(&claims.session, self.load_principal(&claims)).await
    }

    async fn load_principal(&self, claims: &Claims) -> Result<Arc<Principal>, Error> {
        let mut connection = self.pool.acquire().await?;
        let session = self.live_session(&mut connection, claims).await?;
        let granted = roles::store::effective(&mut connection, &claims.tenant, session.user.id).await?;
        Ok(Arc::new(Principal {
            tenant: claims.tenant.clone(),
            id: session.user.id,
            kind: session.kind.parse().map_err(|reason: String| sqlx::Error::Decode(reason.into()))?,
            email: session.user.email,
            roles: granted.roles,
            permissions: granted.permissions.into_iter().collect::<PermissionSet>(),
        }))
    }

    async fn live_session(&self, connection: &mut sqlx::PgConnection, claims: &Claims) -> Result<store::SessionUser, Error> {
        store::find_session_user(connection, &claims.tenant, claims.session, self.clock.now())
            .await?
            .filter(|session| !session.disabled && session.user.id == claims.sub)
            .ok_or(Error::SessionEnded)
    }

    /// Creates a user. The first one becomes administrator; later ones have no role until somebody gives them one.
    pub async fn register(&self, email: &str, password: Secret<String>, display_name: Option<String>) -> Result<User, Error> {
        let email = email.trim();
        let mut faults = password::faults(password.expose());
        if !is_email(email) {
            faults.push(Fault::new("$.email", "must be an e-mail address"));
        }
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let tenant = TenantId::default_tenant();
        self.admit_registration().await?;
        let hash = password::hash(password).await;
        let now = self.clock.now();
        let user = User { id: UserId::generate(now), email: email.to_owned(), display_name, created_at: now };
        let mut transaction = self.pool.begin().await?;
        // Serialises first registrations: exactly one of them finds the place empty.
        roles::store::lock_administrators(&mut transaction, &tenant).await?;
        let first = store::is_empty(&mut transaction).await?;
        if !first && !self.registration_open {
            return Err(Error::RegistrationClosed);
        }
        store::insert_user(&mut transaction, &tenant, &user, &hash).await.map_err(|error| taken(error, email))?;
        if first {
            roles::store::assign(&mut transaction, &tenant, user.id, roles::ADMIN, None, now).await?;
        }
        transaction.commit().await?;
        tracing::info!(user.id = %user.id, first, "identity.register");
        Ok(user)
    }

    async fn admit_registration(&self) -> Result<(), Error> {
        if self.registration_open || self.setup_required().await? { Ok(()) } else { Err(Error::RegistrationClosed) }
    }

    /// Whether nobody has registered yet.
    pub async fn setup_required(&self) -> Result<bool, Error> {
        Ok(store::is_empty(&mut *self.pool.acquire().await?).await?)
    }

    /// Starts a session.
    pub async fn login(&self, email: &str, password: Secret<String>) -> Result<Login, Error> {
        let tenant = TenantId::default_tenant();
        let found = store::find_credentials(&mut *self.pool.acquire().await?, &tenant, email.trim()).await?;
        let hash = found.as_ref().and_then(|credentials| credentials.password_hash.clone());
        let fits = password::verify(password, hash).await;
        let credentials = found.filter(|credentials| fits && !credentials.disabled).ok_or(Error::InvalidCredentials)?;

        let now = self.clock.now();
        let (user, session) = (credentials.user, SessionId::generate(now));
        store::insert_session(&mut *self.pool.acquire().await?, &tenant, session, user.id, now, now + REFRESH).await?;
        let access = self.claims(&tenant, &user, session, Use::Access);
        let refresh = self.claims(&tenant, &user, session, Use::Refresh);
        Ok(Login { access_token: self.key.sign(&access), refresh_token: self.key.sign(&refresh), user })
    }

    fn claims(&self, tenant: &TenantId, user: &User, session: SessionId, purpose: Use) -> Claims {
        let now = self.clock.now();
        let (email, lifetime) = match purpose {
            Use::Access => (user.email.clone(), ACCESS),
            Use::Refresh => (String::new(), REFRESH),
        };
        let (iat, exp) = (now.timestamp(), (now + lifetime).timestamp());
        Claims { sub: user.id, email, session, tenant: tenant.clone(), purpose, iat, exp }
    }

    /// A new access token for a live session, which it does not outlive, and its seconds to live.
    pub async fn refresh(&self, refresh_token: &str) -> Result<(String, i64), Error> {
        let claims = self.key.check(refresh_token, Use::Refresh, self.clock.now())?;
        let session = self.live_session(&mut *self.pool.acquire().await?, &claims).await?;
        let mut access = self.claims(&claims.tenant, &session.user, claims.session, Use::Access);
        access.exp = access.exp.min(claims.exp);
        Ok((self.key.sign(&access), access.exp - access.iat))
    }

    /// Ends the session of a refresh token, and with it every access token made from it.
    pub async fn logout(&self, refresh_token: &str) -> Result<(), Error> {
        let claims = self.key.check(refresh_token, Use::Refresh, self.clock.now())?;
        let mut transaction = self.pool.begin().await?;
        store::delete_session(&mut transaction, &claims.tenant, claims.session).await?;
        self.commit(transaction).await
    }

    pub async fn user(&self, tenant: &TenantId, id: UserId) -> Result<User, Error> {
        store::find_user(&mut *self.pool.acquire().await?, tenant, id).await?.ok_or(Error::UnknownUser)
    }

    pub async fn users(&self, tenant: &TenantId) -> Result<Vec<User>, Error> {
        Ok(store::list_users(&mut *self.pool.acquire().await?, tenant).await?)
    }

    /// Deletes a user with sessions and roles.
    pub async fn delete_user(&self, tenant: &TenantId, id: UserId) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        let administrators = roles::store::lock_administrators(&mut transaction, tenant).await?;
        if administrators == [id] {
            return Err(Error::LastAdministrator("delete"));
        }
        if !store::delete_user(&mut transaction, tenant, id).await? {
            return Err(Error::UnknownUser);
        }
        tracing::info!(user.id = %id, "identity.delete_user");
        self.commit(transaction).await
    }

    /// Removes sessions whose time is over. Run now and then.
    pub async fn prune_sessions(&self) -> Result<u64, Error> {
        Ok(store::delete_expired_sessions(&mut *self.pool.acquire().await?, self.clock.now()).await?)
    }

    /// Commits a change that other nodes have to learn of, and applies it here at once.
    pub(super) async fn commit(&self, mut transaction: sqlx::Transaction<'_, sqlx::Postgres>) -> Result<(), Error> {
        notify::announce(&mut transaction, &Change::Identity).await?;
        transaction.commit().await?;
        self.forget();
        Ok(())
    }
}

fn is_email(text: &str) -> bool {
    text.len() <= 254
        && !text.chars().any(|character| character.is_whitespace() || character.is_control())
        && text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

fn taken(error: sqlx::Error, email: &str) -> Error {
    match &error {
        sqlx::Error::Database(cause) if cause.constraint() == Some("users_email_unique") => Error::EmailTaken(email.to_owned()),
        _ => Error::Database(error),
    }
}
