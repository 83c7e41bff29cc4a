//! What was done by way of administration, and by whom: logins, accounts, roles, secrets, configurations, apps, tenants, keys.
//!
//! Whoever changes something calls [`record`] with the event in the same transaction, so that there is no change without its event and
//! no event without its change. What changes nothing and may come in floods, such as a failed login, is counted for a moment and
//! then written in company ([`Audit::notice`]). Events of a tenant are a chain of hashes; checkpoints over it are signed with the
//! server's published keys, and an export is checked without the server. Secrets never get here: an event names things.

mod chain;
mod event;
mod export;
mod notice;
mod routes;
mod service;
mod store;

pub use chain::{lock_end, record};
pub use event::{Action, Event};
pub use routes::router;
pub use service::Audit;
