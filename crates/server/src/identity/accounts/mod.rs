//! Accounts of machines: their keys, the tokens made with these, and who may act as whom.
//!
//! A service account is a member of one tenant and begins without any permission. Its keys are shown once and stored as digests;
//! several are valid at once. A token names the key that it was made with and lives no longer, so revoking a key, switching the
//! account off or deleting it acts on the next request.

mod act_as;
mod keys;
mod oauth;
mod routes;
mod service;
pub(super) mod store;
mod token;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

pub use service::Error as AccountError;
pub use token::{AccessClaims, Verified};

use crate::node::Node;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    routes::router().merge(oauth::router())
}
