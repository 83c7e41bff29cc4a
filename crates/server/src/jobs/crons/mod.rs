//! Crons: jobs that the clock enqueues.
//!
//! `fire` claims those that are due, in batches and on whichever node comes first, and in one transaction notes the tick, puts the job
//! into the queue and sets the next tick. A tick is noted once, so it fires once, however many nodes there are. Which ticks
//! there are is the business of `weft_model::schedule`.

mod fire;
mod routes;
mod service;
mod store;

pub use fire::run;
pub use routes::router;
pub use service::{Crons, declare};
