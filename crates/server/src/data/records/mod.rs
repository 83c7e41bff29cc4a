//! The records of an app: reading and changing them one by one, many at once, and as streams.

mod bulk;
mod collection;
mod connections;
mod federated;
mod options;
mod query;
mod routes;
mod stream;
mod synchronise;
mod together;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::node::Node;

pub use collection::{Collection, Way};
pub use connections::Records;
pub use query::Found;
pub use synchronise::{Keeper, Kept};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .merge(routes::router())
        .merge(query::router())
        .merge(bulk::router())
        .merge(stream::router())
        .merge(federated::router())
}
