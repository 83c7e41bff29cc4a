//! Which of an integration's ways a connection was made by, and what becomes of it when there is no such way any more.
//!
//! A connection keeps the name of its way. Whatever is done with it (renewing, placing, taking back) goes by that way of the manifest
//! that is in force, so a manifest that drops a way ends the connections by it, and one that brings it back wakes them.

mod store;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use weft_model::{
    AppId, TenantId, WayName,
    connection::ConnectionStatus,
    manifest::{Content, NamedWay, UserAuth, user_auth::Way},
};

use super::{
    credential::{Connection, Credential},
    error::Error,
    service::Connections,
};
use crate::apps::App;

/// The cause that such a connection tells.
const REMOVED: &str = "way_removed";

/// The way that somebody asks for. Who names none means the first.
pub fn asked<'a>(app: &'a App, name: Option<&str>) -> Result<&'a NamedWay, Error> {
    let auth = user_auth(app)?;
    let Some(name) = name else { return Ok(&auth.first) };
    auth.ways().find(|way| way.name() == name).ok_or_else(|| Error::UnknownWay {
        integration: app.id.clone(),
        way: name.chars().filter(|character| !character.is_control()).take(80).collect(),
        known: names(auth),
    })
}

/// The way of that name, as connections and people on their way keep it.
pub fn kept<'a>(app: &'a App, name: Option<&WayName>) -> Result<&'a NamedWay, Error> {
    let auth = user_auth(app)?;
    auth.find(name).ok_or_else(|| Error::WayRemoved { way: name.map(WayName::to_string).unwrap_or_default(), known: names(auth) })
}

/// The way that a connection was made by.
pub fn of<'a>(app: &'a App, credential: &Credential) -> Result<&'a Way, Error> {
    kept(app, credential.origin.way.as_ref()).map(|named| &named.way)
}

/// What executors call the way of a connection by.
pub fn name_of<'a>(app: &'a App, credential: &Credential) -> Option<&'a str> {
    kept(app, credential.origin.way.as_ref()).ok().map(NamedWay::name)
}

/// Whether the server itself gets and renews the tokens of a connection.
pub fn renews(app: &App, credential: &Credential) -> bool {
    of(app, credential).is_ok_and(Way::renews)
}

fn user_auth(app: &App) -> Result<&UserAuth, Error> {
    app.manifest.content.user_auth.as_ref().ok_or_else(|| Error::NothingToConnect(app.id.clone()))
}

fn names(auth: &UserAuth) -> String {
    auth.ways().map(NamedWay::name).collect::<Vec<_>>().join(", ")
}

impl Connections {
    /// The way that a connection was made by. One that is gone ends the connection, which says so.
    pub(super) async fn way_of<'a>(&self, app: &'a App, connection: &Connection) -> Result<&'a Way, Error> {
        match of(app, &connection.credential) {
            Err(error @ Error::WayRemoved { .. }) => {
                if connection.status != ConnectionStatus::Active {
                    return Err(self.dead(connection));
                }
                let id = (connection.id, connection.credential.version);
                Box::pin(self.mark(&app.tenant, id, (ConnectionStatus::Error, REMOVED, &error.to_string()))).await?;
                let current: Arc<Connection> = self.reopen(&app.tenant, connection.id).await?;
                Err(self.dead(&current))
            }
            found => found,
        }
    }
}

/// A manifest offers these ways from now on: connections by others end, and those wake that had ended by that alone.
pub async fn declare(
    connection: &mut PgConnection,
    (tenant, integration): (&TenantId, &AppId),
    content: &Content,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    // Without any way there are no accounts, and nobody uses a connection.
    let Some(auth) = &content.user_auth else { return Ok(()) };
    let known: Vec<_> = auth.ways().map(|way| way.name().to_owned()).collect();
    // The database puts each connection's own way in its place.
    let message = Error::WayRemoved { way: store::WAY.to_owned(), known: names(auth) }.to_string();
    store::end(connection, (tenant, integration), &known, (REMOVED, &message), now).await?;
    store::wake(connection, (tenant, integration), &known, REMOVED, now).await
}
