//! Looking names up for the client: what is inward is left out before anything is connected to.

use std::{net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use weft_jail::{AddressGuard, Resolver};

/// A resolver that gives out only addresses which may be contacted. The client connects to what it gets from here and looks
/// nothing up a second time.
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

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, resolver) = (Arc::clone(&self.guard), Arc::clone(&self.resolver));
        Box::pin(async move {
            let found = resolver.resolve(name.as_str()).await.unwrap_or_default();
            if found.is_empty() {
                return Err(Nowhere::Unresolved.into());
            }
            let open: Vec<_> = found.into_iter().filter(|address| guard.permits_host(name.as_str(), *address)).collect();
            if open.is_empty() {
                return Err(Nowhere::Inward.into());
            }
            // Port 0 stands for the one in the address.
            let addresses: Addrs = Box::new(open.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
