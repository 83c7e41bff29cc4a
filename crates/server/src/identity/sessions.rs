//! Logging in and out, moving between tenants, and authenticating every request.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use weft_model::{Fault, Principal, Proof, Secret, SessionId, TenantId, UserId};

use super::{
    accounts::AccessClaims,
    network::ClientNetwork,
    password,
    service::{Error, Identity, Login, Shown},
    store::{self, Membership, NewSession, SessionUser, User},
    token::{self, ACCESS, Claims, REFRESH, Refused, Use},
};
use crate::audit::{self, Action, Event};

/// To whom somebody has proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proved {
    /// To the whole server, as a password does.
    ToTheServer,
    /// To one tenant, as its single sign-on does, or a link that its administrator made.
    ToTheTenant,
    /// To a program, which vouches for it with a provider's token. The session ends with its only access token.
    Elsewhere,
}

impl Identity {
    /// The principal behind an access token. A signature that was good stays good, so that of a session's token is checked once;
    /// whether its time is over, always.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Principal>, Error> {
        let (digest, now) = (<[u8; 32]>::from(Sha256::digest(token.as_bytes())), self.clock.now());
        let claims = match self.checked.get(&digest) {
            Some(claims) => claims.still_valid(now).map(|()| claims)?,
            None if token::family(token)? == token::Family::Machine => {
                return Box::pin(self.authenticate_machine(token)).await;
            }
            None => {
                let claims = Arc::new(self.key.check(token, Use::Access, now)?);
                self.checked.insert(digest, Arc::clone(&claims));
                claims
            }
        };
        self.principals.get_or_load(&Shown::Session(claims.session), || self.load_session(&claims)).await
    }

    async fn authenticate_machine(&self, token: &str) -> Result<Arc<Principal>, Error> {
        let claims = self.check_machine_token(token).await?;
        let shown = Shown::Machine(claims.credential, claims.scope.clone());
        self.principals.get_or_load(&shown, || self.load_machine(&claims)).await
    }

    async fn load_session(&self, claims: &Claims) -> Result<Arc<Principal>, Error> {
        let mut connection = self.pool.acquire().await?;
        let session = self.live_session(&mut connection, claims).await?;
        let proof = Proof::Session { id: claims.session, spans_tenants: session.spans_tenants };
        self.principal(&mut connection, &claims.tenant, (session.user, &session.kind), proof).await.map(Arc::new)
    }

    async fn load_machine(&self, claims: &AccessClaims) -> Result<Arc<Principal>, Error> {
        let mut connection = self.pool.acquire().await?;
        let (user, kind) = self.live_credential(&mut connection, claims).await?;
        let mut principal =
            self.principal(&mut connection, &claims.tenant, (user, &kind), Proof::Credential(claims.credential)).await?;
        if let Some(scope) = &claims.scope {
            let scopes = weft_model::scope::permissions(scope).map_err(|_| Refused::Invalid)?;
            principal.permissions = principal.permissions.intersection(&scopes);
            // What the token is narrowed to is no role any more.
            principal.roles.clear();
        }
        Ok(Arc::new(principal))
    }

    /// Somebody for whom a job or a cron acts, with what it may do now. Nobody who is switched off or gone.
    pub async fn standing(&self, tenant: &TenantId, user: UserId) -> Result<Option<Arc<Principal>>, Error> {
        let shown = Shown::Standing(tenant.clone(), user);
        let found = self.principals.get_or_load(&shown, || async {
            let mut connection = self.pool.acquire().await?;
            let member = store::find_enabled_member(&mut connection, tenant, user).await?.ok_or(Error::UnknownUser)?;
            self.principal(&mut connection, tenant, (member.0, &member.1), Proof::Standing).await.map(Arc::new)
        });
        match found.await {
            Ok(principal) => Ok(Some(principal)),
            Err(Error::UnknownUser) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn live_session(&self, connection: &mut PgConnection, claims: &Claims) -> Result<store::SessionUser, Error> {
        store::find_session_user(connection, &claims.tenant, claims.session, self.clock.now())
            .await?
            .filter(|session| session.user.id == claims.sub)
            .ok_or(Error::SessionEnded)
    }

    /// Starts a session in a tenant: the one that is asked for, else the one used last. An account that does not exist, is switched
    /// off everywhere or has no password costs the same work and gives the same answer as a wrong password.
    pub async fn login(
        &self,
        email: &str,
        password: Secret<String>,
        tenant: Option<&TenantId>,
        from: ClientNetwork,
    ) -> Result<Login, Error> {
        if !self.password_login_enabled().await? {
            return Err(Error::PasswordLoginOff);
        }
        let (email, network) = (email.trim(), from.to_string());
        let mut turn = self.throttle.turn(email, from).await?;
        let mut connection = self.pool.acquire().await?;
        let found = store::find_credentials(&mut connection, email).await?;
        let familiar = store::is_familiar(&mut connection, email, &network).await?;
        drop(connection);
        self.throttle.count(&mut turn, email, familiar)?;
        let hash = found.as_ref().and_then(|credentials| credentials.password_hash.clone());
        let fits = self.passwords.verify(password, hash).await;
        let Some(user) = found.as_ref().filter(|_| fits).map(|found| found.user.clone()) else {
            self.notice_failed_login(found.map(|found| found.user.id), tenant, "wrong password").await?;
            return Err(Error::InvalidCredentials);
        };
        let mut transaction = self.pool.begin().await?;
        let chosen = match self.choose_tenant(&mut transaction, user.id, tenant).await {
            Err(refused @ (Error::InvalidCredentials | Error::NotAMember(_))) => {
                drop(transaction);
                self.notice_failed_login(Some(user.id), tenant, "no membership to use").await?;
                return Err(refused);
            }
            chosen => chosen?,
        };
        store::upsert_network(&mut transaction, user.id, &network, self.clock.now()).await?;
        let login = self.start_session(&mut transaction, chosen, user, Proved::ToTheServer).await?;
        audit::record(&mut transaction, &login.event("password"), self.clock.now()).await?;
        transaction.commit().await?;
        turn.succeeded();
        Ok(login)
    }

    /// Counts a login that failed, in the tenant that it was meant for. An address that has no account is not written down: people
    /// type their password into the wrong field.
    async fn notice_failed_login(&self, user: Option<UserId>, wanted: Option<&TenantId>, reason: &str) -> Result<(), Error> {
        let memberships = match user {
            Some(user) => store::list_memberships(&mut *self.pool.acquire().await?, user).await?,
            None => Vec::new(),
        };
        let tenants = || memberships.iter().map(|membership| &membership.tenant);
        let meant = tenants().find(|tenant| Some(*tenant) == wanted).or_else(|| tenants().next()).cloned();
        let event = Event::new(&meant.unwrap_or_else(TenantId::default_tenant), Action::LoginFailed);
        let event = match user {
            Some(user) => event.on("user", user).with("reason", reason),
            None => event.with("reason", "unknown account"),
        };
        self.audit.notice(event).await;
        Ok(())
    }

    /// Stores a session of somebody whose identity was proved just now, and signs its tokens.
    pub(super) async fn start_session(
        &self,
        connection: &mut PgConnection,
        tenant: TenantId,
        user: User,
        proved: Proved,
    ) -> Result<Login, Error> {
        let now = self.clock.now();
        let id = SessionId::generate(now);
        let spans_tenants = proved == Proved::ToTheServer;
        let lasts = if proved == Proved::Elsewhere { ACCESS } else { REFRESH };
        let session = NewSession { id, tenant: &tenant, user: user.id, created_at: now, expires_at: now + lasts, spans_tenants };
        store::insert_session(connection, &session).await?;
        // What one tenant's sign-on says must not decide where a login to the whole server leads.
        if spans_tenants {
            store::update_last_login(connection, &tenant, user.id, now).await?;
        }
        let access_token = self.key.sign(&self.claims(&tenant, &user, id, Use::Access));
        let refresh_token = self.key.sign(&self.claims(&tenant, &user, id, Use::Refresh));
        Ok(Login { access_token, refresh_token, user, tenant })
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
        let found = store::find_session_user(&mut transaction, &claims.tenant, claims.session, self.clock.now()).await?;
        store::delete_session(&mut transaction, &claims.tenant, claims.session).await?;
        // One that had ended already is no mistake, and no event.
        let Some(SessionUser { user, .. }) = found else { return Ok(transaction.commit().await?) };
        self.commit(transaction, Event::new(&claims.tenant, Action::SessionEnded).by_user(user.id, &user.email)).await
    }

    /// The tenant that a person wants to work in, or the one used last, or joined first.
    async fn choose_tenant(
        &self,
        connection: &mut PgConnection,
        user: UserId,
        wanted: Option<&TenantId>,
    ) -> Result<TenantId, Error> {
        let mut usable = store::list_memberships(connection, user).await?.into_iter().filter(|membership| membership.usable);
        match wanted {
            None => usable.next().map(|membership| membership.tenant).ok_or(Error::InvalidCredentials),
            Some(wanted) => {
                let chosen = usable.map(|membership| membership.tenant).find(|tenant| tenant == wanted);
                chosen.ok_or_else(|| Error::NotAMember(wanted.clone()))
            }
        }
    }

    /// Starts a session of the same person in another tenant. The one that asks stays.
    pub async fn switch_tenant(&self, by: &Principal, tenant: &TenantId) -> Result<Login, Error> {
        match by.proof {
            Proof::Session { spans_tenants: true, .. } => {}
            Proof::Session { .. } => return Err(Error::BoundToTenant(tenant.clone())),
            Proof::Credential(_) | Proof::Standing => return Err(Error::PeopleOnly),
        }
        let mut transaction = self.pool.begin().await?;
        let user = store::find_user(&mut transaction, &by.tenant, by.id).await?.ok_or(Error::UnknownUser)?;
        let tenant = self.choose_tenant(&mut transaction, by.id, Some(tenant)).await?;
        let login = self.start_session(&mut transaction, tenant, user, Proved::ToTheServer).await?;
        audit::record(&mut transaction, &login.event("switching tenants"), self.clock.now()).await?;
        transaction.commit().await?;
        Ok(login)
    }

    /// The tenants that a caller may see itself in: all of a person that is known to the whole server, else the one of the token.
    pub async fn memberships(&self, by: &Principal) -> Result<Vec<Membership>, Error> {
        let mut all = store::list_memberships(&mut *self.pool.acquire().await?, by.id).await?;
        if !matches!(by.proof, Proof::Session { spans_tenants: true, .. }) {
            all.retain(|membership| membership.tenant == by.tenant);
        }
        Ok(all)
    }

    /// Replaces a person's password, which ends every other session of that person.
    /// Guessing the current one is slowed like logging in.
    pub async fn change_password(
        &self,
        by: &Principal,
        (current, new): (Secret<String>, Secret<String>),
        from: ClientNetwork,
    ) -> Result<(), Error> {
        let kept = match by.proof {
            Proof::Session { id, spans_tenants: true } => id,
            Proof::Session { .. } => return Err(Error::BoundToTenant(by.tenant.clone())),
            Proof::Credential(_) | Proof::Standing => return Err(Error::PeopleOnly),
        };
        let faults = password::faults(new.expose(), "$.newPassword");
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let mut turn = self.throttle.turn(&by.email, from).await?;
        self.throttle.count(&mut turn, &by.email, true)?;
        let known = store::find_credentials(&mut *self.pool.acquire().await?, &by.email).await?;
        let hash = known.filter(|known| known.user.id == by.id).and_then(|known| known.password_hash);
        if !self.passwords.verify(current, hash).await {
            let event = Event::by(by, Action::LoginFailed).on("user", by.id);
            self.audit.notice(event.with("reason", "wrong current password")).await;
            return Err(Error::Invalid(vec![Fault::new("$.currentPassword", "is not your password")]));
        }
        turn.succeeded();
        let hash = self.passwords.hash(new).await;
        let mut transaction = self.pool.begin().await?;
        store::update_password(&mut transaction, by.id, &hash, kept).await?;
        tracing::info!(user.id = %by.id, "identity.change_password");
        self.commit(transaction, Event::by(by, Action::PasswordChanged).on("user", by.id)).await
    }
}
