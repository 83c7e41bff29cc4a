//! The way of a login: to the provider and back, or with an ID token that a program brings along.

use chrono::Duration;
use openidconnect::{
    AccessToken, AuthorizationCode, CsrfToken, ErrorResponse, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier,
    RequestTokenError, Scope, TokenResponse as _, core::CoreAuthenticationFlow,
};
use sqlx::{Postgres, Transaction};
use url::Url;
use weft_model::TenantId;

use super::{
    Error, Oidc, address,
    discovery::Published,
    provider::Provider,
    store::{self, Pending},
    token::{self, Client, IdToken, Person, Refused, TokenResponse, UserInfo},
};
use crate::{
    audit::{self, Action, Event},
    http::outbound,
    identity::{
        Error as IdentityError,
        delivery::{Delivered, Delivery, Destination},
        service::Login,
        sessions::Proved,
        store::User,
        ticket,
    },
};

/// How long somebody may take at the provider.
const PENDING: Duration = Duration::minutes(10);

/// What a client asks a login to lead to.
pub struct Wanted<'a> {
    pub redirect_uri: Option<&'a str>,
    pub delivery: Delivery,
    /// The browser's own secret from an earlier login, if it has one.
    pub browser: Option<String>,
}

/// A login that was begun.
pub struct Begun {
    /// The provider's page.
    pub address: Url,
    /// What the browser has to show when it comes back.
    pub browser: String,
}

/// What the browser came back with.
pub struct Returned {
    pub state: String,
    pub code: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
    pub issuer: Option<String>,
    pub browser: Option<String>,
    /// Whether it is a browser that came, which must have its secret with it.
    pub is_browser: bool,
}

/// Somebody who is let in, in the transaction that makes it so.
struct Entered {
    transaction: Transaction<'static, Postgres>,
    user: User,
    /// The event to record last, when they became a member of the tenant just now.
    joined: Option<Event>,
}

/// Why a login failed, and where its client waits to hear of it.
pub struct Failed {
    pub cause: Error,
    pub redirect_uri: Option<Url>,
}

impl Oidc {
    /// Sends somebody to a provider.
    pub async fn begin(&self, tenant: &TenantId, provider: &str, wanted: Wanted<'_>) -> Result<Begun, Error> {
        let mut connection = self.identity.pool.acquire().await?;
        let provider = self.enabled(&mut connection, tenant, provider).await?;
        let redirect_uri = address::redirect_uri(wanted.redirect_uri, &self.public_url)?;
        drop(connection);
        let published = self.published(&provider).await?;
        let [state, nonce, verifier] = std::array::from_fn(|_| ticket::generate());
        let browser = wanted.browser.unwrap_or_else(ticket::generate);
        let pending = Pending {
            tenant: tenant.clone(),
            provider_id: provider.id.clone(),
            nonce: nonce.clone(),
            pkce_verifier: verifier.clone(),
            redirect_uri: redirect_uri.map(String::from),
            delivery: wanted.delivery.as_str().to_owned(),
            browser_hash: ticket::digest(&browser),
            expires_at: self.identity.clock.now() + PENDING,
        };
        store::insert_pending(&mut *self.identity.pool.acquire().await?, &ticket::digest(&state), &pending).await?;
        let client = self.client(&provider, &published, None)?;
        let (state, nonce) = (CsrfToken::new(state), Nonce::new(nonce));
        let (address, ..) = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || state, || nonce)
            .add_scopes(provider.scopes.iter().filter(|scope| *scope != "openid").cloned().map(Scope::new))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier)))
            .url();
        Ok(Begun { address, browser })
    }

    /// Lets in who comes back from a provider.
    pub async fn finish(&self, returned: Returned) -> Result<Delivered, Failed> {
        let lost = |cause: Error| Failed { cause, redirect_uri: None };
        let taken = async {
            let mut connection = self.identity.pool.acquire().await?;
            store::take_pending(&mut connection, &ticket::digest(&returned.state)).await
        };
        let pending = taken.await.map_err(|error| lost(error.into()))?.ok_or_else(|| lost(Error::InvalidState))?;
        if !returned.belongs_to(&pending) {
            return Err(lost(Error::OtherBrowser));
        }
        let redirect_uri = pending.redirect_uri.as_deref().and_then(|address| Url::parse(address).ok());
        let destination = Destination { redirect_uri: redirect_uri.clone(), delivery: Delivery::asked(Some(&pending.delivery)) };
        let (tenant, provider) = (pending.tenant.clone(), pending.provider_id.clone());
        let redeemed = self.redeem(returned, pending, destination).await;
        self.noticed(&tenant, &provider, redeemed).await.map_err(|cause| Failed { cause, redirect_uri })
    }

    /// Counts a login that failed.
    async fn noticed<T>(&self, tenant: &TenantId, provider: &str, result: Result<T, Error>) -> Result<T, Error> {
        if let Some(reason) = result.as_ref().err().and_then(Error::refusal) {
            let event = Event::new(tenant, Action::LoginFailed).on("provider", provider).with("reason", reason);
            self.identity.audit.notice(event).await;
        }
        result
    }

    async fn redeem(&self, returned: Returned, pending: Pending, to: Destination) -> Result<Delivered, Error> {
        if pending.expires_at <= self.identity.clock.now() {
            return Err(Error::StateExpired);
        }
        let mut connection = self.identity.pool.acquire().await?;
        let provider = self.enabled(&mut connection, &pending.tenant, &pending.provider_id).await?;
        let secret = self.secret(&mut connection, &pending.tenant, &provider).await?;
        drop(connection);
        let code = returned.code(&provider)?;
        let published = self.published(&provider).await?;
        let client = self.client(&provider, &published, secret.as_ref())?;
        let answer: TokenResponse = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| Error::CodeRefused(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(pending.pkce_verifier))
            .request_async(self.discovery.http())
            .await
            .map_err(|error| code_refused(&provider, error))?;
        let token = answer.id_token().ok_or_else(|| Error::Token("the provider sent none".into()))?;
        let person = self.read(&provider, published, token, Some(&Nonce::new(pending.nonce))).await?;
        let person = self.complete(&provider, &client, answer.access_token(), person).await?;
        let Entered { mut transaction, user, joined } = self.enter(&pending.tenant, &provider, &person).await?;
        let event = signed_on(&pending.tenant, &user, &provider);
        let delivered = self.identity.deliver(&mut transaction, &pending.tenant, user, to).await?;
        self.record(&mut transaction, joined).await?;
        self.identity.commit(transaction, event).await?;
        Ok(delivered)
    }

    /// The tokens of a short session for an ID token that a program got from the provider itself.
    pub async fn exchange(&self, tenant: &TenantId, provider: &str, token: &str) -> Result<Login, Error> {
        let exchanged = self.exchange_token(tenant, provider, token).await;
        self.noticed(tenant, provider, exchanged).await
    }

    async fn exchange_token(&self, tenant: &TenantId, provider: &str, token: &str) -> Result<Login, Error> {
        let provider = self.enabled(&mut *self.identity.pool.acquire().await?, tenant, provider).await?;
        let token: IdToken =
            token.parse().map_err(|_| Error::Token("it is not a JSON Web Token with the claims of one".into()))?;
        let published = self.published(&provider).await?;
        let person = self.read(&provider, published, &token, None).await?;
        let Entered { mut transaction, user, joined } = self.enter(tenant, &provider, &person).await?;
        let event = signed_on(tenant, &user, &provider).with("exchanged", true);
        let login = self.identity.start_session(&mut transaction, tenant.clone(), user, Proved::Elsewhere).await?;
        self.record(&mut transaction, joined).await?;
        self.identity.commit(transaction, event).await?;
        Ok(login)
    }

    /// Checks a token and reads it, with newer keys if those that are known do not fit.
    async fn read(
        &self,
        provider: &Provider,
        published: Published,
        token: &IdToken,
        nonce: Option<&Nonce>,
    ) -> Result<Person, Error> {
        let check = |published: &Published| token::check(token, published, &provider.client_id, nonce, self.identity.clock.now());
        let claims = match check(&published) {
            Err(Refused::Key) => match self.discovery.newer(&provider.issuer_url, &published).await {
                Some(newer) => check(&newer),
                None => Err(Refused::Key),
            },
            checked => checked,
        };
        let claims = claims.map_err(|refused| Error::Token(refused.to_string()))?;
        Ok(Person::from_token(claims, provider.role_claim.as_deref()))
    }

    /// Asks the provider for what the token does not say. Many leave e-mail and name to this endpoint.
    async fn complete(
        &self,
        provider: &Provider,
        client: &Client,
        access_token: &AccessToken,
        person: Person,
    ) -> Result<Person, Error> {
        let lacks = person.email.is_none() || (provider.role_claim.is_some() && person.roles.is_empty());
        if !lacks || client.user_info_url().is_none() {
            return Ok(person);
        }
        let subject = openidconnect::SubjectIdentifier::new(person.subject.clone());
        let request = client.user_info(access_token.clone(), Some(subject)).map_err(|error| Error::Token(error.to_string()))?;
        let asked: Result<UserInfo, _> = request.request_async(self.discovery.http()).await;
        match asked {
            Ok(info) => Ok(person.or(Person::from_user_info(&info, provider.role_claim.as_deref()))),
            Err(error) => {
                tracing::warn!(provider = provider.id, %error, "oidc.user_info: no answer");
                Ok(person)
            }
        }
    }

    /// Finds or makes the account of a person, in a transaction that also is to hold what it is let in with.
    async fn enter(&self, tenant: &TenantId, provider: &Provider, person: &Person) -> Result<Entered, Error> {
        let entered = |transaction, (user, is_new): (User, bool)| {
            let event = Event::new(tenant, Action::UserAdded).on("user", user.id).with("email", user.email.clone());
            let joined = is_new.then(|| event.with("by", "sign-on").with("provider", provider.id.clone()));
            Entered { transaction, user, joined }
        };
        let mut transaction = self.identity.pool.begin().await?;
        match self.admit(&mut transaction, tenant, provider, person).await {
            Err(error) if was_overtaken(&error) => {}
            admitted => return admitted.map(|admitted| entered(transaction, admitted)),
        }
        // The same person came in a second window at the same moment: there is an account now.
        drop(transaction);
        let mut transaction = self.identity.pool.begin().await?;
        let admitted = self.admit(&mut transaction, tenant, provider, person).await?;
        Ok(entered(transaction, admitted))
    }

    async fn record(&self, transaction: &mut Transaction<'_, Postgres>, joined: Option<Event>) -> Result<(), Error> {
        if let Some(event) = joined {
            audit::record(transaction, &event, self.identity.clock.now()).await?;
        }
        Ok(())
    }
}

fn signed_on(tenant: &TenantId, user: &User, provider: &Provider) -> Event {
    let event = Event::new(tenant, Action::LoginSucceeded).by_user(user.id, &user.email);
    event.with("by", "sign-on").with("provider", provider.id.clone())
}

impl Returned {
    /// Whether this is the browser that began. Programs that are no browsers follow no one's links.
    fn belongs_to(&self, pending: &Pending) -> bool {
        match &self.browser {
            Some(browser) => ticket::digest(browser) == pending.browser_hash,
            None => !self.is_browser,
        }
    }

    fn code(self, provider: &Provider) -> Result<String, Error> {
        if self.issuer.is_some_and(|issuer| issuer != provider.issuer_url) {
            return Err(Error::WrongIssuer);
        }
        match (self.error, self.code) {
            (Some(code), _) => Err(Error::Refused {
                code: code.chars().filter(char::is_ascii_graphic).take(80).collect(),
                description: self.error_description.map(|text| plain(&text)),
            }),
            (None, Some(code)) => Ok(code),
            (None, None) => Err(Error::NoCode),
        }
    }
}

fn code_refused<T: ErrorResponse>(provider: &Provider, error: RequestTokenError<outbound::Error, T>) -> Error {
    match error {
        RequestTokenError::Request(cause) => Error::unreachable(&provider.id, &cause),
        RequestTokenError::ServerResponse(answer) => Error::CodeRefused(plain(&answer.to_string())),
        RequestTokenError::Parse(cause, _) => {
            Error::CodeRefused(format!("the provider's answer is not understood: {}", cause.path()))
        }
        RequestTokenError::Other(cause) => Error::CodeRefused(plain(&cause)),
    }
}

/// Somebody else's text, fit to be shown.
fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}

fn was_overtaken(error: &Error) -> bool {
    match error {
        Error::Identity(IdentityError::EmailTaken(_)) => true,
        Error::Identity(IdentityError::Database(sqlx::Error::Database(cause))) => cause.is_unique_violation(),
        _ => false,
    }
}
