//! The data of apps: tables made from what their manifests declare, records in them, and who changed what.
//!
//! What a contract means to PostgreSQL is worked out in `weft-data`, without any connection; this slice runs it. Every table's
//! triggers record each change in `data_audit`, whoever made it, so nothing here has to remember to.

mod audit;
mod backend;
mod error;
mod matching;
mod records;
mod schema;
mod store;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::node::Node;

pub use audit::tidy;
pub use backend::{
    Asker, BackendSql, Error as BackendError, Limits as BackendLimits, MigrationFailed, Transactions, answer, app_itself,
    read_migrations,
};
pub use error::Error;
pub use matching::matching;
pub use records::{Keeper, Kept, Records};
pub use schema::{Consent, admissible, apply, plan, remove, tables};

pub fn router() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new().merge(records::router()).merge(schema::router()).merge(audit::router())
}
