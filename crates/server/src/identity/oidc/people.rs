//! Which account somebody is whom a provider vouches for.
//!
//! In this order: the account that the provider's subject is linked to; the account with the e-mail address, if the provider
//! has verified the address and nothing else is linked; a new account, if the provider may make some. Only what concerns the
//! provider's own tenant is touched: an account that is a member elsewhere too keeps its name and address.

use sqlx::PgConnection;
use weft_model::{TenantId, UserId};

use super::{Error, Oidc, provider::Provider, store, token::Person};
use crate::identity::{
    roles,
    service::{is_email, taken},
    store::{User, find_credentials, find_disabled, insert_account, insert_membership},
};

impl Oidc {
    /// The account of a person, linked or made where that is allowed, and whether it became a member of the tenant just now.
    pub(super) async fn admit(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        provider: &Provider,
        person: &Person,
    ) -> Result<(User, bool), Error> {
        let email = person.email.as_deref().filter(|email| is_email(email));
        if let Some(user) = store::find_linked(connection, tenant, provider, &person.subject).await? {
            let joined = self.join(connection, tenant, provider, (&user, person)).await?;
            // An address that is not verified must not take the place of one that may be.
            let email = email.filter(|email| person.email_verified && *email != user.email);
            return Ok((store::update_user(connection, tenant, user, email, person.name.as_deref()).await?, joined));
        }
        let email = email.ok_or(Error::NoEmail)?;
        let (user, joined) = match find_credentials(connection, email).await? {
            Some(_) if !person.email_verified => return Err(Error::EmailUnverified(email.to_owned())),
            Some(found) if store::is_linked(connection, tenant, found.user.id).await? => {
                return Err(Error::LinkedElsewhere(email.to_owned()));
            }
            Some(found) => {
                let joined = self.join(connection, tenant, provider, (&found.user, person)).await?;
                (store::update_user(connection, tenant, found.user, None, person.name.as_deref()).await?, joined)
            }
            None => {
                let user = self.register(connection, provider, (email, person)).await?;
                let joined = self.join(connection, tenant, provider, (&user, person)).await?;
                (user, joined)
            }
        };
        let now = self.identity.clock.now();
        store::insert_link(connection, tenant, provider, &person.subject, user.id, now).await?;
        tracing::info!(user.id = %user.id, provider = provider.id, "oidc.link");
        Ok((user, joined))
    }

    /// Lets a member in who is not switched off, and makes others members if the provider may do that. Whether it did.
    async fn join(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        provider: &Provider,
        (user, person): (&User, &Person),
    ) -> Result<bool, Error> {
        match find_disabled(connection, tenant, user.id).await? {
            Some(true) => return Err(Error::Disabled),
            Some(false) => return Ok(false),
            None if provider.auto_register => {}
            None => return Err(Error::NotProvisioned(user.email.clone())),
        }
        let now = self.identity.clock.now();
        insert_membership(connection, tenant, user.id, now).await?;
        let known = roles::store::list(connection, tenant).await?;
        for role in granted(provider, person, &known) {
            roles::store::assign(connection, tenant, user.id, role, None, now).await?;
        }
        tracing::info!(user.id = %user.id, provider = provider.id, "oidc.register");
        Ok(true)
    }

    async fn register(
        &self,
        connection: &mut PgConnection,
        provider: &Provider,
        (email, person): (&str, &Person),
    ) -> Result<User, Error> {
        if !provider.auto_register {
            return Err(Error::NotProvisioned(email.to_owned()));
        }
        let (id, email) = (UserId::generate(self.identity.clock.now()), email.to_owned());
        let user = User { id, email, display_name: person.name.clone(), created_at: self.identity.clock.now() };
        insert_account(connection, &user, None).await.map_err(|error| taken(error, &user.email))?;
        Ok(user)
    }
}

/// The roles of a new account: those that the claim names and that exist, else the provider's default.
fn granted<'a>(provider: &Provider, person: &Person, known: &'a [roles::store::Role]) -> Vec<&'a str> {
    let named = |wanted: &[String]| -> Vec<&'a str> {
        known.iter().map(|role| role.name.as_str()).filter(|name| wanted.iter().any(|wanted| wanted == name)).collect()
    };
    let claimed = named(&person.roles);
    if claimed.is_empty() { named(std::slice::from_ref(&provider.default_role)) } else { claimed }
}
