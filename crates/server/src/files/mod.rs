//! Files of apps and of buckets (`buckets`): stored as they come in, handed out as they are read, never whole in memory.
//!
//! What a file holds lies in a store of objects (`storage`: a folder, or anything that speaks S3) under the file's identifier, sealed in
//! pieces with the tenant's key (`pieces`), so destroying the key destroys the files. What it is called is data and becomes no part of
//! a path. Whoever has no account, or is a worker, uploads and downloads by addresses that are good for once (`tickets`). However a
//! row goes, a trigger notes its object, which is then removed. How it fails: an upload that broke off leaves a row that is tidied up.

mod answer;
mod buckets;
mod content;
mod pieces;
mod range;
mod routes;
mod s3;
mod service;
mod storage;
mod store;
mod tickets;

pub use routes::door;
pub use service::{Error, Files, Limits};
pub use storage::{Storage, Target};
pub use tickets::WorkerUpload;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::node::Node;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    routes::router().merge(buckets::router())
}
