//! Looking names up for the client: what is inward is left out before anything is connected to.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;
use weft_jail::{AddressGuard, Resolver};

/// A resolver that gives out only addresses which may be contacted. The client connects to what it gets from here and looks
/// nothing up a second time.
#[derive(Clone)]
pub struct Guarded {
    pub guard: Arc<AddressGuard>,
    pub resolver: Arc<dyn Resolver>,
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nowhere {
    #[error("the name has no address")]
    Unresolved,
    #[error("the name leads only to addresses that are not on the public internet")]
    Inward,
}

impl Service<Name> for Guarded {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Nowhere;
    type Future = BoxFuture<'static, Result<Self::Response, Nowhere>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Nowhere>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { guard, resolver } = self.clone();
        Box::pin(async move {
            let found = resolver.resolve(name.as_str()).await.unwrap_or_default();
            if found.is_empty() {
                return Err(Nowhere::Unresolved);
            }
            let open = found.into_iter().filter(|address| guard.permits_host(name.as_str(), *address));
            // Port 0 stands for the one in the address.
            let open: Vec<_> = open.map(|address| SocketAddr::new(address, 0)).collect();
            if open.is_empty() { Err(Nowhere::Inward) } else { Ok(open.into_iter()) }
        })
    }
}
