//! Logging in through a browser: a page of the server leads to a sign-on provider and back to an address on this machine, where
//! this process waits for it.
//!
//! What comes back is a nonce that is exchanged for the tokens at once, so that nothing of worth stays in the browser's history.
//! The address has a part that nobody can guess: another page in the browser cannot hand this command somebody else's login.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Query, State},
    http::header,
    response::{Html, IntoResponse},
    routing::get,
};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};

use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::output::printable;

/// How long somebody may take in the browser.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long the browser may take to fetch the last page.
const FAREWELL: Duration = Duration::from_secs(2);

/// A way to sign on, as the server lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    pub id: String,
    pub display_name: String,
}

/// What the browser brings back.
#[derive(Debug, Default, Deserialize)]
struct Returned {
    auth_nonce: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

type Waiting = Arc<Mutex<Option<oneshot::Sender<Returned>>>>;

/// Shows where to log in, waits until that is done, and returns the server's answer with the tokens.
pub async fn sign_on(context: &Context, client: &Client, (provider, tenant): (&Provider, Option<&str>)) -> Result<Value> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let path = format!("/callback/{:032x}", rand::random::<u128>());
    let redirect_uri = format!("http://{}{path}", listener.local_addr()?);
    let mut address = client.api(&["auth", "oidc", &provider.id, "authorize"]);
    address.query_pairs_mut().append_pair("redirect_uri", &redirect_uri).append_pair("token_delivery", "nonce");
    if let Some(tenant) = tenant {
        address.query_pairs_mut().append_pair("tenant", tenant);
    }
    announce(context, provider, &address);
    let returned = wait(listener, &path).await?;
    if let Some(error) = returned.error {
        let reason = returned.error_description.unwrap_or(error);
        return Err(CliError::failed(format!("the login was refused: {}", printable(&reason))));
    }
    let nonce = returned.auth_nonce.unwrap_or_default();
    client.send(Method::POST, client.api(&["auth", "nonce-exchange"]), &json!({ "nonce": nonce })).await
}

/// The address is shown in any case: the browser that opens by itself may be the wrong one.
fn announce(context: &Context, provider: &Provider, address: &Url) {
    context.output.prompt(&json!({ "open": address.as_str() }), || {
        format!(
            "To log in with {}, open this address in a browser on this machine:\n\n  {address}\n",
            printable(&provider.display_name)
        )
    });
    // Without a screen the opener may start a browser inside this terminal.
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if std::io::stderr().is_terminal() && (screen || cfg!(target_os = "macos")) {
        // It is printed above: nothing is lost if no browser can be opened.
        let _ = open::that_detached(address.as_str());
    }
}

async fn wait(listener: TcpListener, path: &str) -> Result<Returned> {
    let (send, receive) = oneshot::channel();
    let (close, closed) = oneshot::channel::<()>();
    let waiting: Waiting = Arc::new(Mutex::new(Some(send)));
    let routes = Router::new().route(path, get(callback)).with_state(waiting);
    let serving = axum::serve(listener, routes).with_graceful_shutdown(async { closed.await.unwrap_or_default() });
    let serving = tokio::spawn(serving.into_future());
    let returned = tokio::time::timeout(PATIENCE, receive).await;
    let _ = close.send(());
    let abort = serving.abort_handle();
    if tokio::time::timeout(FAREWELL, serving).await.is_err() {
        abort.abort();
    }
    returned.ok().and_then(std::result::Result::ok).ok_or_else(|| {
        CliError::failed(format!("nobody finished the login within {} s", PATIENCE.as_secs()))
            .with_hint("the browser has to run on this machine; elsewhere, set WEFT_TOKEN to an access token")
    })
}

async fn callback(State(waiting): State<Waiting>, Query(returned): Query<Returned>) -> impl IntoResponse {
    let text = if returned.error.is_some() {
        "The login did not succeed. The terminal says why."
    } else {
        "Done. Go on in the terminal."
    };
    if let Some(send) = waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Fails only when nobody waits any more.
        let _ = send.send(returned);
    }
    let page = format!("<!doctype html><meta charset=\"utf-8\"><title>weft login</title><p>{text}</p>");
    ([(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "no-referrer"), (header::CONNECTION, "close")], Html(page))
}
