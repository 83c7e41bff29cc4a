//! Making and opening links.

use chrono::{DateTime, Duration, Utc};
use sqlx::{Connection, PgConnection};
use url::Url;
use weft_model::{Fault, PermissionSet, Principal, TenantId, UserId};

use super::{
    Error,
    store::{self, Link},
};
use crate::{
    audit::{self, Action, Event},
    identity::{
        Identity,
        delivery::{Delivered, Delivery, Destination},
        roles,
        service::{is_email, taken},
        store::{self as people, User},
        ticket,
    },
};

/// How long a link that can no longer be used is kept.
pub const KEPT: Duration = Duration::days(7);
const MOST_ROLES: usize = 32;
/// Seconds that a link is good for: unless said otherwise, at least, at most.
const LIFETIME: i64 = 900;
const LIFETIMES: std::ops::RangeInclusive<i64> = 60..=86_400;

/// What a link is to do.
pub struct Wanted {
    pub email: String,
    pub roles: Vec<String>,
    pub redirect_uri: Option<String>,
    pub expires_in: Option<i64>,
    pub delivery: Delivery,
}

/// A link that was made. The token is known nowhere else.
pub struct Made {
    pub token: String,
    pub expires_at: DateTime<Utc>,
}

/// What came of opening a link.
pub struct Opened {
    pub delivered: Delivered,
    /// Where the link wanted its user to go.
    pub redirect_uri: Option<Url>,
}

impl Identity {
    /// Makes a link. Says the same whether or not somebody has the e-mail address.
    pub async fn make_link(&self, by: &Principal, wanted: Wanted) -> Result<Made, Error> {
        let mut connection = self.pool.acquire().await?;
        let known = roles::store::list(&mut connection, &by.tenant).await?;
        let email = wanted.email.trim().to_lowercase();
        let faults = faults(&email, &wanted, &known);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let foreign = not_held(&wanted.roles, &by.roles);
        if !by.permissions.is_administrator() && !foreign.is_empty() {
            return Err(Error::NotHeld(foreign));
        }
        let lifetime = wanted.expires_in.unwrap_or(LIFETIME).clamp(*LIFETIMES.start(), *LIFETIMES.end());
        let (token, expires_at) = (ticket::generate(), self.clock.now() + Duration::seconds(lifetime));
        let link = Link {
            tenant: by.tenant.clone(),
            email,
            roles: wanted.roles,
            redirect_uri: wanted.redirect_uri.filter(|address| !address.is_empty()),
            delivery: wanted.delivery.as_str().to_owned(),
            created_by: by.id,
            expires_at,
        };
        let event = Event::by(by, Action::LinkMade).with("for", link.email.clone()).with("roles", link.roles.clone());
        let mut transaction = connection.begin().await?;
        store::insert(&mut transaction, &ticket::digest(&token), &link).await?;
        audit::record(&mut transaction, &event, self.clock.now()).await?;
        transaction.commit().await?;
        tracing::info!(by.id = %by.id, expires = %expires_at, "identity.make_link");
        Ok(Made { token, expires_at })
    }

    /// Uses a link up and lets its user in, who is made if nobody has the e-mail address. With `stay` the tokens are the answer,
    /// wherever the link wanted to go.
    pub async fn open_link(&self, token: &str, stay: bool) -> Result<Opened, Error> {
        if !ticket::is_well_formed(token) {
            return Err(Error::Malformed);
        }
        let mut transaction = self.pool.begin().await?;
        let Some(link) = store::take(&mut transaction, &ticket::digest(token), self.clock.now()).await? else {
            drop(transaction);
            return Err(self.gone(&TenantId::default_tenant(), "unknown link").await);
        };
        let (user, joined) = match self.admit(&mut transaction, &link).await {
            Err(Error::Gone) => {
                drop(transaction);
                return Err(self.gone(&link.tenant, "whoever made the link may no longer give that").await);
            }
            admitted => admitted?,
        };
        let redirect_uri = link.redirect_uri.as_deref().and_then(|address| Url::parse(address).ok());
        let to =
            Destination { redirect_uri: redirect_uri.clone().filter(|_| !stay), delivery: Delivery::asked(Some(&link.delivery)) };
        let user_id = user.id;
        let event = Event::new(&link.tenant, Action::LoginSucceeded).by_user(user.id, &user.email);
        let event = event.with("by", "link").with("madeBy", link.created_by.to_string()).with("roles", link.roles.clone());
        let added = Event::new(&link.tenant, Action::UserAdded).on("user", user_id).with("email", user.email.clone());
        let delivered = self.deliver(&mut transaction, &link.tenant, user, to).await?;
        if joined {
            let added = added.with("by", "link").with("madeBy", link.created_by.to_string());
            audit::record(&mut transaction, &added, self.clock.now()).await?;
        }
        self.commit(transaction, event).await?;
        tracing::info!(user.id = %user_id, by.id = %link.created_by, "identity.open_link");
        Ok(Opened { delivered, redirect_uri })
    }

    /// Counts a login that failed.
    async fn gone(&self, tenant: &TenantId, reason: &str) -> Error {
        self.audit.notice(Event::new(tenant, Action::LoginFailed).with("by", "link").with("reason", reason)).await;
        Error::Gone
    }

    /// The user of a link, with its roles, and whether it became a member of the tenant just now.
    async fn admit(&self, connection: &mut PgConnection, link: &Link) -> Result<(User, bool), Error> {
        let maker = Maker::find(connection, link).await?.ok_or(Error::Gone)?;
        if !maker.may_confer(&link.roles) {
            return Err(Error::Gone);
        }
        let user = match people::find_credentials(connection, &link.email).await? {
            Some(known) => known.user,
            None => self.invite(connection, link).await?,
        };
        let joined = people::insert_membership(connection, &link.tenant, user.id, self.clock.now()).await?;
        let user = people::find_active_person(connection, &link.tenant, user.id).await?.ok_or(Error::Gone)?;
        let held = roles::store::effective(connection, &link.tenant, user.id).await?;
        if !maker.may_be(&held) {
            let (user, maker) = (user.id, link.created_by);
            tracing::warn!(user.id = %user, by.id = %maker, "identity.open_link: refused, the user may do more than the maker");
            return Err(Error::Gone);
        }
        let known = roles::store::list(connection, &link.tenant).await?;
        for role in link.roles.iter().filter(|role| known.iter().any(|known| known.name == **role)) {
            roles::store::assign(connection, &link.tenant, user.id, role, Some(link.created_by), self.clock.now()).await?;
        }
        Ok((user, joined))
    }

    async fn invite(&self, connection: &mut PgConnection, link: &Link) -> Result<User, Error> {
        let now = self.clock.now();
        let user = User { id: UserId::generate(now), email: link.email.clone(), display_name: None, created_at: now };
        people::insert_account(connection, &user, None).await.map_err(|error| taken(error, &link.email))?;
        Ok(user)
    }
}

/// Who made a link, with what they may do now.
struct Maker {
    roles: Vec<String>,
    permissions: PermissionSet,
}

impl Maker {
    /// Nobody, when the account is disabled or may no longer make links.
    async fn find(connection: &mut PgConnection, link: &Link) -> Result<Option<Self>, Error> {
        if people::find_enabled_member(connection, &link.tenant, link.created_by).await?.is_none() {
            return Ok(None);
        }
        let held = roles::store::effective(connection, &link.tenant, link.created_by).await?;
        let maker = Self { roles: held.roles, permissions: held.permissions.into_iter().collect() };
        Ok(Some(maker).filter(|maker| maker.permissions.allows("auth.invite")))
    }

    fn may_confer(&self, roles: &[String]) -> bool {
        self.permissions.is_administrator() || not_held(roles, &self.roles).is_empty()
    }

    /// Whether somebody who holds `held` may do nothing that the maker may not.
    fn may_be(&self, held: &roles::store::Effective) -> bool {
        held.permissions.iter().all(|permission| self.permissions.allows(permission))
    }
}

fn not_held(wanted: &[String], held: &[String]) -> Vec<String> {
    wanted.iter().filter(|role| !held.contains(role)).cloned().collect()
}

fn faults(email: &str, wanted: &Wanted, known: &[roles::store::Role]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !is_email(email) {
        faults.push(Fault::new("$.email", "valid email required"));
    }
    if wanted.roles.len() > MOST_ROLES {
        faults.push(Fault::new("$.roles", format!("must have at most {MOST_ROLES} roles")));
    }
    if wanted.roles.iter().any(|role| role.trim().is_empty()) {
        faults.push(Fault::new("$.roles", "must not have an empty name"));
    }
    let is_unknown = |role: &&String| !role.trim().is_empty() && !known.iter().any(|known| known.name == **role);
    let unknown: Vec<_> = wanted.roles.iter().filter(is_unknown).map(String::as_str).collect();
    if !unknown.is_empty() {
        faults.push(Fault::new("$.roles", format!("unknown role(s): {}", unknown.join(", "))));
    }
    if wanted.redirect_uri.as_deref().is_some_and(|address| !address.is_empty() && !is_web_address(address)) {
        faults.push(Fault::new("$.redirectUri", "must be an http or https address without user name and password"));
    }
    faults
}

fn is_web_address(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty() && url.password().is_none()
    })
}
