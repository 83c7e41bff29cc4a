//! Jobs: work that an app's backend does later, in its `onJob`, as whoever enqueued it.
//!
//! `weft_queue` keeps them: a lane per app. `dispatch` leases what is ready, turn by turn so that no tenant or app waits for
//! another one's flood (`turns`), within limits that all nodes have together (`shares`), and hands each job through `runs` to the worker (`attempt`). A job is done at least once.
//! What comes to nothing is tried again (`retry`), and in the end it lies with the dead letters and says why.

mod attempt;
mod crons;
mod dispatch;
mod envelope;
mod inbox;
mod retry;
mod routes;
mod service;
mod shares;
mod store;
mod turns;

pub use crons::{Crons, declare as declare_crons, run as run_crons};
pub use dispatch::run;
pub use envelope::{Standing, answered_by};
pub use service::{Caused, Jobs, OnBehalf, caused, forsake, remove};
pub use turns::Limits;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::node::Node;

pub fn router() -> OpenApiRouter<Arc<Node>> {
    routes::router().merge(crons::router())
}
