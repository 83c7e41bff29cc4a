//! Polls: what integrations ask their vendors for again and again. A *sync* keeps an entity of the integration's data contract as the vendor
//! has it; a *trigger* tells of what was not there before.
//!
//! Manifests declare them. For each, at each connection, there is a row (`service`) and one message in the queue, whose time is when it is
//! asked next; the queue brings it to whichever node is free. A turn (`turn`) asks page by page, through `runs` and as whoever the connection belongs
//! to, and writes each page together with how far it has read (`keep`, `tell`), so what dies in the middle repeats a page at most and
//! loses none. Long ones go to the back of the queue now and then. Must not know vendors. What fails is said in the row and tried again
//! later, or stops until somebody connects again.

mod ask;
mod backoff;
mod cursor;
mod keep;
mod lane;
mod routes;
mod service;
mod store;
mod tell;
mod turn;

pub use lane::is_lane;
pub use routes::router;
pub use service::{Polls, configured, connected, declare, remove};
pub use turn::turn;
