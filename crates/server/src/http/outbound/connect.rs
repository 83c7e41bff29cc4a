//! The client below: connections, TLS, the pool.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{BoxError, body::Body, http::Uri};
use futures::future::BoxFuture;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};
use weft_jail::{AddressGuard, Resolver};

use super::resolve::Guarded;

/// Until a connection is made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent before it is asked whether it is still there, and how often that is asked.
const KEEPALIVE: (Duration, u32) = (Duration::from_secs(15), 3);
/// How long what was sent may stay without a sign that it arrived.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Makes connections. The client clones it for every request.
#[derive(Clone)]
pub struct Connector(Arc<HttpsConnector<HttpConnector<Guarded>>>);

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let connect = HttpsConnector::clone(&self.0).oneshot(address);
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()));
        Box::pin(async move { tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(late)? })
    }
}

/// A client that connects to what the guard permits, and believes the machine's certificate authorities.
pub fn client(guard: Arc<AddressGuard>, resolver: Arc<dyn Resolver>) -> io::Result<Client<Connector, Body>> {
    let mut plain = HttpConnector::new_with_resolver(Guarded { guard, resolver });
    plain.enforce_http(false);
    plain.set_nodelay(true);
    // Shared out among the addresses of a name: the second gets its turn when the first does not answer.
    plain.set_connect_timeout(Some(CONNECT_TIMEOUT));
    plain.set_keepalive(Some(KEEPALIVE.0));
    plain.set_keepalive_interval(Some(KEEPALIVE.0));
    plain.set_keepalive_retries(Some(KEEPALIVE.1));
    #[cfg(target_os = "linux")]
    plain.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let encrypted = HttpsConnectorBuilder::new().try_with_platform_verifier().map_err(io::Error::other)?;
    let connector = Connector(Arc::new(encrypted.https_or_http().enable_http1().wrap_connector(plain)));
    let mut builder = Client::builder(TokioExecutor::new());
    Ok(builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new()).build(connector))
}
