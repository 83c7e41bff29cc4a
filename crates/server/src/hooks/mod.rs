//! Hooks: what is to be done when a record of an app changes.
//!
//! `relay` consumes the outbox (`events`): for each change that a hook is about it puts a job into the queue, in the transaction in which
//! it moves on. So a committed change gives one job per hook, whatever dies in the middle. The jobs of one hook for one record are done in
//! the order of the changes. A chain of hooks that sets itself off ends with a dead letter that says so. Must not know who changes records.

mod filter;
mod relay;
mod routes;
mod service;
mod store;

pub use relay::run;
pub use routes::router;
pub use service::{Hooks, declare, undeclare};
