//! Beginning the session, or the nonce that begins it, and the address that carries it.

use chrono::Duration;
use sqlx::PgConnection;
use url::Url;
use weft_model::TenantId;

use super::store;
use crate::identity::{
    Error, Identity,
    service::Login,
    sessions::Proved,
    store::{User, find_active_person},
    ticket,
    token::ACCESS,
};

/// How long a nonce may be exchanged.
const NONCE: Duration = Duration::seconds(30);

/// What the address that a browser is sent on to carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// A nonce that is exchanged for tokens: nothing of worth stays in the browser's history.
    Nonce,
    /// The tokens themselves, in query and fragment.
    Legacy,
}

impl Delivery {
    /// As clients ask for it. Whatever is not known is the older way.
    pub fn asked(parameter: Option<&str>) -> Self {
        if parameter == Some("nonce") { Self::Nonce } else { Self::Legacy }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nonce => "nonce",
            Self::Legacy => "legacy",
        }
    }
}

/// Where somebody wants to be after the sign-on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Absent: the tokens are the answer.
    pub redirect_uri: Option<Url>,
    pub delivery: Delivery,
}

/// What the browser gets.
pub enum Delivered {
    Here(Login),
    /// An address with something of worth in it: not for logs.
    Redirect(Url),
}

impl Identity {
    /// Lets a user in who has just proved to a tenant to be that user.
    pub(in crate::identity) async fn deliver(
        &self,
        connection: &mut PgConnection,
        tenant: &TenantId,
        user: User,
        to: Destination,
    ) -> Result<Delivered, Error> {
        match (to.redirect_uri, to.delivery) {
            (None, _) => Ok(Delivered::Here(self.start_session(connection, tenant.clone(), user, Proved::ToTheTenant).await?)),
            (Some(mut address), Delivery::Nonce) => {
                let nonce = ticket::generate();
                store::insert(connection, tenant, &ticket::digest(&nonce), user.id, self.clock.now() + NONCE).await?;
                address.query_pairs_mut().append_pair("auth_nonce", &nonce);
                Ok(Delivered::Redirect(address))
            }
            (Some(address), Delivery::Legacy) => {
                let login = self.start_session(connection, tenant.clone(), user, Proved::ToTheTenant).await?;
                Ok(Delivered::Redirect(with_tokens(address, &login)))
            }
        }
    }

    /// The tokens for a nonce, which ends by this.
    pub async fn exchange_nonce(&self, nonce: &str) -> Result<Login, Error> {
        let mut transaction = self.pool.begin().await?;
        let (tenant, user) =
            store::take(&mut transaction, &ticket::digest(nonce), self.clock.now()).await?.ok_or(Error::UnknownNonce)?;
        let user = find_active_person(&mut transaction, &tenant, user).await?.ok_or(Error::UnknownNonce)?;
        let login = self.start_session(&mut transaction, tenant, user, Proved::ToTheTenant).await?;
        transaction.commit().await?;
        Ok(login)
    }
}

fn with_tokens(mut address: Url, login: &Login) -> Url {
    let expires_in = ACCESS.num_seconds().to_string();
    let tokens =
        [("access_token", login.access_token.as_str()), ("refresh_token", &login.refresh_token), ("expires_in", &expires_in)];
    address.query_pairs_mut().extend_pairs(tokens);
    let fragment = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(tokens).finish();
    address.set_fragment(Some(&fragment));
    address
}
