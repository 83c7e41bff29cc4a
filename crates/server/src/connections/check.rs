//! Looking whether a connection serves, and saying what is wrong and what to do about it.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use weft_model::{
    AppId, ConnectionId, Principal,
    connection::ConnectionStatus,
    manifest::user_auth::{Grant, Way},
};

use super::{credential::Connection, error::Error, service::Connections, ways};
use crate::apps::App;

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConnectionCheck)]
pub struct Checked {
    /// Whether calls can be made with it.
    pub ok: bool,
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConnectionFinding)]
pub struct Finding {
    /// `configuration`, `status` or `token`.
    pub what: &'static str,
    pub ok: bool,
    pub detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Finding {
    fn good(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, ok: true, detail: detail.into(), cure: None }
    }

    fn bad(what: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what, ok: false, detail: detail.into(), cure: Some(cure.into()) }
    }
}

impl Connections {
    /// Looks at everything that a call with this connection depends on. A token that can be renewed is renewed, which is the proof.
    pub async fn check(self: &Arc<Self>, caller: &Principal, integration: &AppId, id: ConnectionId) -> Result<Checked, Error> {
        let app = self.integrations.get(&caller.tenant, integration).await?;
        let found = self.for_change(&mut *self.pool.acquire().await?, caller, integration, id).await?;
        let source = found.source_id.map_or(id, ConnectionId::from);
        let mut connection = self.reopen(&caller.tenant, source).await?;
        let way = match self.way_of(&app, &connection).await {
            Ok(way) => Some(way),
            // Its status says so by now.
            Err(Error::Dead { .. }) => None,
            Err(error) => return Err(error),
        };
        if way.is_none() {
            connection = self.reopen(&caller.tenant, source).await?;
        }
        let mut findings = vec![self.configuration(&app, &connection).await?, status(&app, &connection)];
        if let Some(way) = way.filter(|_| connection.status == ConnectionStatus::Active) {
            findings.extend(self.token((&app, way), &connection).await?);
        }
        Ok(Checked { ok: findings.iter().all(|finding| finding.ok), findings })
    }

    async fn configuration(&self, app: &App, connection: &Connection) -> Result<Finding, Error> {
        let origin = &connection.credential.origin;
        let config = self.integrations.config_by(app, origin.configuration).await?;
        let mut missing = config.missing.clone();
        let lacks = ways::kept(app, origin.way.as_ref()).map(|named| config.lacks(&app.manifest.content, named));
        missing.extend(lacks.unwrap_or_default());
        missing.sort();
        missing.dedup();
        Ok(if missing.is_empty() {
            Finding::good("configuration", "every required field has a value")
        } else {
            let cure = format!("an administrator saves it: weft config {}", app.id);
            Finding::bad("configuration", format!("{} missing", missing.join(", ")), cure)
        })
    }

    async fn token(self: &Arc<Self>, (app, way): (&App, &Way), connection: &Arc<Connection>) -> Result<Option<Finding>, Error> {
        if !way.renews() {
            return Ok(None);
        }
        let times = connection.times;
        let token = if let Way::Token(auth) = way { Some(auth) } else { None };
        if token.is_some_and(|auth| auth.request.is_none()) {
            let detail = "the server signs it by itself; the next call shows whether the vendor takes it";
            return Ok(Some(Finding::good("token", detail)));
        }
        let asks = token.is_none();
        if asks && (times.refresh_at.is_none() || (times.refreshed_at.is_none() && connection.refresh_token.is_none())) {
            return Ok(Some(lifetime(way, connection)));
        }
        Ok(Some(match self.renewed(app, &connection.credential).await {
            Ok(Some(_)) => Finding::good("token", "the vendor has just renewed it"),
            Ok(None) => Finding::good("token", "the vendor renewed it a moment ago"),
            Err(error) if error.is_internal() => return Err(error),
            Err(error @ Error::Dead { .. }) => Finding::bad("token", error.to_string(), again(app)),
            Err(error @ Error::Unreachable(_)) => {
                Finding::bad("token", error.to_string(), "look whether the vendor is up, and try again")
            }
            Err(error) => Finding::bad("token", error.to_string(), "compare the configuration with the vendor's settings"),
        }))
    }
}

fn status(app: &App, connection: &Connection) -> Finding {
    match connection.status {
        ConnectionStatus::Active => Finding::good("status", "it serves"),
        other => {
            let reason = connection.message.clone().unwrap_or_else(|| super::error::reason(other).to_owned());
            Finding::bad("status", reason, again(app))
        }
    }
}

/// What is to be said of a token that the server does not renew.
fn lifetime(way: &Way, connection: &Connection) -> Finding {
    match connection.times.expires_at {
        None => Finding::good("token", "the vendor does not say that it ends"),
        Some(_) if matches!(way, Way::Oauth2(oauth) if oauth.grant == Grant::ClientCredentials) => {
            Finding::good("token", "the client gets another one when it is over")
        }
        Some(at) => Finding::bad(
            "token",
            format!("it is over at {at}, and the vendor gave no refresh token to renew it with"),
            "let the manifest ask for one (`access_type=offline` at Google, the scope `offline_access` elsewhere) and connect again",
        ),
    }
}

fn again(app: &App) -> String {
    format!("connect again: weft connect {}", app.id)
}
