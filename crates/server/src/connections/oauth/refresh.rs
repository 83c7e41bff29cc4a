//! Keeping tokens fresh: before they are over, after the vendor refused one, and when nobody used them for long.
//!
//! Whoever needs a new token takes the lease in the database, asks the vendor once and stores the answer; everybody else waits for
//! that, on whichever node. With tokens that change at each renewal, an answer that is lost loses the account: so the intent is
//! stored first. Who finds an intent without an end tries the old token once, and if the vendor does not take it any more, the
//! connection says what happened.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures::StreamExt;
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;
use weft_model::{
    AppId, ConfigurationId, ConnectionId, TenantId,
    connection::ConnectionStatus,
    manifest::{
        token_auth::TokenAuth,
        user_auth::{ExpiredWhen, OAuth2, Way},
    },
};
use weft_workers::{Category, Failure};

use super::{
    client::{NoToken, Tokens, Vendor},
    flow::CALLBACK,
    mint::Mint,
    store::{self, Claimed, Lease},
};
use crate::{
    apps::App,
    background::outlive,
    connections::{
        credential::{Connection, Content, Credential, Times},
        error::Error,
        service::Connections,
        ways::{self, renews},
    },
};

/// How long a renewal may take before somebody else tries: longer than the vendor may take, and a commit.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// After a vendor could not be asked.
const PAUSE: TimeDelta = TimeDelta::seconds(5);
/// Between two looks at a renewal that another node is at. Its end is also notified.
const LOOK: Duration = Duration::from_millis(200);
/// A token is renewed this long before it is over, or after four fifths of its life if that is later.
const MARGIN: TimeDelta = TimeDelta::minutes(5);
/// A token that was refused so soon after it was made is refused for another reason.
const YOUNG: TimeDelta = TimeDelta::seconds(10);
/// Tokens that nobody uses are renewed this often, so that the vendor does not forget them.
const IDLE: TimeDelta = TimeDelta::hours(24);
/// How long an idle token whose renewal came to nothing waits for the next attempt. Whoever needs it does not.
const IDLE_PAUSE: TimeDelta = TimeDelta::hours(1);
/// Idle tokens that are renewed in one go, and how many of them at the same time.
const BATCH: (i64, usize) = (50, 4);
/// How often the vendor's answer is offered to a database that does not take it.
const SAVES: u32 = 20;

impl Connections {
    /// The connection with a token that is good for now.
    pub(in crate::connections) async fn fresh(
        self: &Arc<Self>,
        app: &App,
        way: &Way,
        connection: Arc<Connection>,
    ) -> Result<Arc<Connection>, Error> {
        let (now, times) = (self.clock.now(), connection.times);
        let due = times.refresh_at.is_some_and(|at| at <= now);
        let over = times.expires_at.is_some_and(|at| at <= now);
        if !way.renews() || !(due || over) {
            return Ok(connection);
        }
        match Box::pin(self.renew(app, &connection)).await {
            // It is still good for a moment; whoever comes next tries again.
            Err(Error::Unreachable(cause)) if !over => {
                tracing::warn!(connection.id = %connection.id, cause, "connection.refresh: later");
                Ok(connection)
            }
            renewed => renewed,
        }
    }

    /// A newer credential than one that the vendor refused. `None`: there is none, and cannot be. For every executor.
    pub async fn renewed(self: &Arc<Self>, app: &App, refused: &Credential) -> Result<Option<Arc<Credential>>, Error> {
        if !renews(app, refused) {
            return Ok(None);
        }
        let connection = self.open(&app.tenant, refused.connection).await?;
        if connection.credential.version > refused.version {
            return Ok(Some(Arc::clone(&connection.credential)));
        }
        if connection.content.obtained_at.is_some_and(|at| self.clock.now() - at < YOUNG) {
            return Ok(None);
        }
        let renewed = self.renew(app, &connection).await?;
        Ok(Some(Arc::clone(&renewed.credential)))
    }

    /// Waits until the token of this version was renewed, by whomever.
    async fn renew(self: &Arc<Self>, app: &App, seen: &Connection) -> Result<Arc<Connection>, Error> {
        let turn = self.turns.get_with(seen.id, Arc::default);
        let _one_at_a_time = turn.lock().await;
        let version = seen.credential.version;
        // Most of those who waited for their turn find the work done.
        let known = self.open(&app.tenant, seen.id).await?;
        if known.credential.version > version && known.status == ConnectionStatus::Active {
            return Ok(known);
        }
        let give_up = self.clock.now() + LEASE;
        loop {
            let changed = self.changed.notified();
            let now = self.clock.now();
            let lease = Lease { holder: Uuid::new_v7(uuid_time(now)), until: now + LEASE, longest: now + LEASE * 2 };
            let which = (&app.tenant, seen.id, version);
            let claimed = store::claim(&mut *self.pool.acquire().await?, which, &lease, now).await?;
            match claimed {
                Claimed::Won { interrupted } => return self.exchange(app, seen.id, (lease.holder, interrupted)).await,
                Claimed::Changed => {
                    let current = self.reopen(&app.tenant, seen.id).await?;
                    return if current.status == ConnectionStatus::Active { Ok(current) } else { Err(self.dead(&current)) };
                }
                Claimed::Busy if now >= give_up => {
                    return Err(Error::Unreachable("the token is being renewed, and that takes too long".to_owned()));
                }
                Claimed::Busy => _ = tokio::time::timeout(LOOK, changed).await,
            }
        }
    }

    /// Asks the vendor and stores what it says. Goes on when whoever asked goes away: the answer must not be lost.
    async fn exchange(
        self: &Arc<Self>,
        app: &App,
        id: ConnectionId,
        (holder, interrupted): (Uuid, bool),
    ) -> Result<Arc<Connection>, Error> {
        let (connections, app) = (Arc::clone(self), self.integrations.get(&app.tenant, &app.id).await?);
        let work = async move {
            let connection = connections.reopen(&app.tenant, id).await?;
            let way = connections.way_of(&app, &connection).await?;
            let attempt = Attempt { connections: &connections, app: &app, way, connection: &connection, holder, interrupted };
            attempt.run().await?;
            let current = connections.reopen(&app.tenant, id).await?;
            if current.status == ConnectionStatus::Active { Ok(current) } else { Err(connections.dead(&current)) }
        };
        outlive(&self.background, work).await
    }

    /// This server's client at the vendor of an integration.
    pub(super) async fn vendor<'a>(
        &'a self,
        app: &App,
        oauth: &'a OAuth2,
        callback: String,
        named: Option<ConfigurationId>,
    ) -> Result<Vendor<'a>, Error> {
        let config = self.integrations.config_by(app, named).await?;
        let config: Map<String, Value> = serde_json::from_str(config.json().get()).unwrap_or_default();
        Ok(Vendor::new(oauth, &self.outbound, config, callback))
    }

    /// What a token is got with, of what was entered.
    pub(super) async fn mint<'a>(
        &'a self,
        app: &App,
        auth: &'a TokenAuth,
        (entered, named): (&'a Map<String, Value>, Option<ConfigurationId>),
    ) -> Result<Mint<'a>, Error> {
        let config = self.integrations.config_by(app, named).await?;
        let values = serde_json::from_str(config.json().get()).unwrap_or_default();
        let (outbound, now) = (&*self.outbound, self.clock.now());
        let vouches = auth.vouches(&app.manifest.content.config_fields());
        Ok(Mint { auth, outbound, vouches, config: values, config_masks: config.masks().clone(), entered, now })
    }

    pub(super) fn callback_url(&self) -> String {
        self.url(CALLBACK)
    }

    /// Removes flows that nobody finished, and begins to renew tokens that nobody used for long. Run now and then.
    pub async fn tidy(self: &Arc<Self>) -> Result<(), Error> {
        let now = self.clock.now();
        store::delete_expired_flows(&mut *self.pool.acquire().await?, now).await?;
        // The round before may still wait for vendors.
        let Ok(turn) = Arc::clone(&self.idling).try_lock_owned() else { return Ok(()) };
        let idle = store::list_idle(&mut *self.pool.acquire().await?, now - IDLE, now - IDLE_PAUSE, BATCH.0).await?;
        if idle.is_empty() {
            return Ok(());
        }
        let connections = Arc::clone(self);
        self.background.spawn(async move {
            let _one_round_at_a_time = turn;
            let renew = |(tenant, integration, id)| {
                let connections = Arc::clone(&connections);
                async move { connections.renew_idle(&tenant, &integration, id).await }
            };
            futures::stream::iter(idle).for_each_concurrent(BATCH.1, renew).await;
        });
        Ok(())
    }

    async fn renew_idle(self: &Arc<Self>, tenant: &TenantId, integration: &AppId, id: ConnectionId) {
        // A server that stops waits for what it began, so it begins nothing more.
        if self.background.is_closed() {
            return;
        }
        let renewed = async {
            let app = self.integrations.get(tenant, integration).await?;
            let connection = self.open(tenant, id).await?;
            self.renew(&app, &connection).await
        };
        let Err(error) = renewed.await else { return };
        tracing::warn!(connection.id = %id, %error, "connection.refresh: an idle token is not renewed");
        let noted = async {
            let mut connection = self.pool.acquire().await?;
            store::note_attempt(&mut connection, (tenant, id), self.clock.now()).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(connection.id = %id, %error, "connection.refresh: the attempt is not noted");
        }
    }
}

/// One renewal, under its lease.
struct Attempt<'a> {
    connections: &'a Connections,
    app: &'a App,
    /// The way that the connection was made by, as the manifest has it now.
    way: &'a Way,
    connection: &'a Connection,
    holder: Uuid,
    /// Whether an earlier one broke off.
    interrupted: bool,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<(), Error> {
        match self.ask().await {
            Ok(None) if matches!(self.way, Way::Token(_)) => {
                self.end(ConnectionStatus::Expired, "entered_incomplete", INCOMPLETE).await
            }
            Ok(None) => self.end(ConnectionStatus::Expired, "no_refresh_token", NO_REFRESH_TOKEN).await,
            Ok(Some(Ok(tokens))) => self.save(tokens).await,
            Ok(Some(Err(no_token))) => self.refused(no_token).await,
            Err(error) => {
                self.postpone(false).await?;
                Err(error)
            }
        }
    }

    /// Gets a new token from the vendor. `None`: there is no way to.
    async fn ask(&self) -> Result<Option<Result<Tokens, NoToken>>, Error> {
        let (connections, configuration) = (self.connections, self.connection.credential.origin.configuration);
        if let Way::Token(auth) = self.way {
            let entered = self.connection.content.entered.clone().unwrap_or_default();
            let mint = connections.mint(self.app, auth, (&entered, configuration)).await?;
            return match mint.token().await {
                // The integration has come to ask for something else since.
                Err(Error::Invalid(_)) => Ok(None),
                asked => asked.map(Some),
            };
        }
        let Way::Oauth2(oauth) = self.way else { return Err(Error::NothingToConnect(self.app.id.clone())) };
        let vendor = connections.vendor(self.app, oauth, connections.callback_url(), configuration).await?;
        if self.connection.refresh_token.is_none() && !vendor.mints() {
            return Ok(None);
        }
        vendor.renew(self.connection.refresh_token.as_ref()).await.map(Some)
    }

    /// The vendor has changed the token: from here on nothing may lose it.
    async fn save(&self, tokens: Tokens) -> Result<(), Error> {
        let connections = self.connections;
        let now = connections.clock.now();
        let before = &self.connection.content;
        let (content, times) = match self.way {
            Way::Token(auth) => minted(auth, tokens, before.entered.clone().unwrap_or_default(), now),
            _ => content(tokens, before.refresh_token.clone(), now),
        };
        let id = (self.connection.id, self.connection.credential.version + 1);
        let sealing = connections.seal(&self.app.tenant, id, (&content, times, &self.connection.credential.origin))?;
        for _ in 0..SAVES {
            let saved = async {
                let mut connection = connections.pool.acquire().await?;
                store::finish(&mut connection, self.connection.id, &sealing).await
            };
            match saved.await {
                Ok(stored) => {
                    // What is not stored was overtaken: somebody connected again, or was quicker.
                    tracing::info!(connection.id = %self.connection.id, stored, "connection.refresh");
                    return Ok(());
                }
                Err(error) => tracing::error!(connection.id = %self.connection.id, %error, "a renewed token is not stored yet"),
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Error::Unreachable("the renewed token could not be stored".to_owned()))
    }

    async fn refused(&self, no_token: NoToken) -> Result<(), Error> {
        match no_token {
            NoToken::Refused { code, .. } if self.interrupted && self.connection.refresh_token.is_some() => {
                let message = format!("{INTERRUPTED} The vendor says: {code}");
                self.end(ConnectionStatus::Error, "refresh_interrupted", &message).await
            }
            NoToken::Refused { code, description } => {
                let message = format!("the vendor does not renew its token: {code}{description}");
                self.end(ConnectionStatus::Expired, "refresh_refused", &message).await
            }
            // Nothing is wrong with the connection: it serves again as soon as the client does.
            NoToken::Client(_) => {
                self.postpone(false).await?;
                Err(no_token.into())
            }
            NoToken::Unknown(_) | NoToken::Garbled(_) => {
                self.postpone(true).await?;
                Err(no_token.into())
            }
        }
    }

    async fn postpone(&self, unknown: bool) -> Result<(), Error> {
        let mut connection = self.connections.pool.acquire().await?;
        let until = self.connections.clock.now() + PAUSE;
        // Whoever finds that an earlier one broke off keeps finding it.
        let unknown = unknown || self.interrupted;
        Ok(store::postpone(&mut connection, (self.connection.id, self.holder), until, unknown).await?)
    }

    async fn end(&self, status: ConnectionStatus, cause: &str, message: &str) -> Result<(), Error> {
        let id = (self.connection.id, self.connection.credential.version);
        self.connections.mark(&self.app.tenant, id, (status, cause, message)).await?;
        let current = self.connections.reopen(&self.app.tenant, self.connection.id).await?;
        Err(self.connections.dead(&current))
    }
}

const NO_REFRESH_TOKEN: &str = "its token is over, and the vendor gave no refresh token to get another one with. \
    Many give one only when asked: for `access_type=offline` (Google), for the scope `offline_access` (Microsoft, OpenID)";
const INCOMPLETE: &str = "its integration has changed, and what was entered is not enough for a token any more";
const INTERRUPTED: &str = "renewing its token broke off after the vendor was asked, by a stop of the server or of the line. \
    The vendor had already replaced the token, and the new one never arrived.";

/// What is kept of a token response. A vendor that sends no new refresh token means the one before.
pub(super) fn content(tokens: Tokens, refresh_before: Option<String>, now: chrono::DateTime<chrono::Utc>) -> (Content, Times) {
    let lifetime = tokens.lifetime.and_then(|lifetime| TimeDelta::from_std(lifetime).ok());
    let expires_at = lifetime.and_then(|lifetime| now.checked_add_signed(lifetime));
    let refresh_at = lifetime.and_then(|lifetime| now.checked_add_signed((lifetime - MARGIN).max(lifetime * 4 / 5)));
    let refresh_token = tokens.refresh.or(refresh_before);
    let mut values = Map::new();
    values.insert("accessToken".to_owned(), tokens.access.into());
    values.insert("tokenType".to_owned(), tokens.kind.into());
    if let Some(scope) = tokens.scope {
        values.insert("scope".to_owned(), scope.into());
    }
    if let Some(at) = expires_at {
        values.insert("expiresAt".to_owned(), at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).into());
    }
    if !tokens.response.is_empty() {
        values.insert("response".to_owned(), Value::Object(tokens.response));
    }
    // Kept alive are those that live as long as somebody renews them.
    let refreshed_at = refresh_token.is_some().then_some(now);
    (
        Content { values, refresh_token, secret_fields: None, entered: None, obtained_at: Some(now) },
        Times { expires_at, refresh_at, refreshed_at },
    )
}

/// The same for a token that was got with what somebody entered, which is kept for the next one.
pub(super) fn minted(
    auth: &TokenAuth,
    tokens: Tokens,
    entered: Map<String, Value>,
    now: chrono::DateTime<chrono::Utc>,
) -> (Content, Times) {
    let (content, times) = content(tokens, None, now);
    let mut secret_fields = auth.withheld();
    let mut values = entered.clone();
    values.retain(|name, _| !secret_fields.contains(name));
    values.extend(content.values);
    secret_fields.extend(["accessToken", "response"].map(str::to_owned));
    (Content { values, secret_fields: Some(secret_fields), entered: Some(entered), ..content }, times)
}

/// Whether a result that counts as one means the same, by the rule of the manifest: some vendors answer 200 all the same.
pub fn answers_expired(app: &App, credential: Option<&Credential>, output: &RawValue) -> bool {
    let rule = expired_when(app, credential);
    // A rule about a status is for errors, which have one.
    let Some(rule) = rule.filter(|rule| rule.status.is_none()) else { return false };
    serde_json::from_str(output.get()).is_ok_and(|output: Value| rule.holds(None, &output))
}

/// Whether what a backend reports means that the vendor does not take the token any more.
pub fn says_expired(app: &App, credential: &Credential, failure: &Failure) -> bool {
    if !renews(app, credential) {
        return false;
    }
    let details = failure.details.clone().unwrap_or_default();
    let status = details.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    let code = failure.code.as_deref().unwrap_or_default();
    let status = status.or_else(|| code.strip_prefix("http_")?.parse().ok());
    if let Some(rule) = expired_when(app, Some(credential)) {
        let told = serde_json::json!({ "message": failure.message, "code": failure.code, "details": details });
        if rule.holds(status, &told) || rule.holds(status, &details) {
            return true;
        }
    }
    failure.category == Category::Auth && status.is_none_or(|status| status == 401)
}

/// The same of an answer that is passed on as it comes: only its status can say so.
pub fn status_expired(app: &App, credential: &Credential, status: u16) -> bool {
    let rule = || expired_when(app, Some(credential));
    let told = || rule().is_some_and(|rule| rule.pointer.is_none() && rule.holds(Some(status), &Value::Null));
    renews(app, credential) && (status == 401 || told())
}

/// The rule of the way that the connection was made by; without a connection, of the first one.
fn expired_when<'a>(app: &'a App, credential: Option<&Credential>) -> Option<&'a ExpiredWhen> {
    let way = credential.and_then(|credential| credential.origin.way.as_ref());
    ways::kept(app, way).ok()?.way.expired_when()
}

fn uuid_time(now: chrono::DateTime<chrono::Utc>) -> uuid::Timestamp {
    uuid::Timestamp::from_unix(uuid::NoContext, u64::try_from(now.timestamp()).unwrap_or(0), now.timestamp_subsec_nanos())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn tokens(lifetime: Option<u64>, refresh: Option<&str>) -> Tokens {
        Tokens {
            access: "t".to_owned(),
            refresh: refresh.map(str::to_owned),
            kind: "bearer".to_owned(),
            lifetime: lifetime.map(Duration::from_secs),
            scope: None,
            label: None,
            response: Map::new(),
        }
    }

    #[test]
    fn a_token_is_renewed_in_the_last_fifth_of_its_life_and_five_minutes_before_its_end_at_most() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        for (lifetime, refresh_after) in [(3600, 3300), (60, 48), (1500, 1200), (86_400, 86_100)] {
            let (_, times) = content(tokens(Some(lifetime), Some("r")), None, now);
            let seconds = times.refresh_at.map(|at| (at - now).num_seconds());
            assert_eq!(seconds, Some(refresh_after), "{lifetime}");
        }
        let (_, times) = content(tokens(None, None), None, now);
        assert!(times.refresh_at.is_none() && times.expires_at.is_none() && times.refreshed_at.is_none());
    }

    #[test]
    fn a_vendor_that_sends_no_new_refresh_token_means_the_one_before() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let refresh = |new, before: &str| content(tokens(None, new), Some(before.to_owned()), now).0.refresh_token;
        assert_eq!(refresh(None, "old").as_deref(), Some("old"));
        assert_eq!(refresh(Some("new"), "old").as_deref(), Some("new"));
    }
}
