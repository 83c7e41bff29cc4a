//! A durable queue in PostgreSQL, with the semantics of pgmq: identifiers, visibility, read counts, an archive, dead letters.
//!
//! A *lane* is a queue by itself; a *stream* is what a lane has of one priority. Every function takes a connection, so whatever
//! is done to messages can be one transaction with whatever else the caller does. Must not know what is in a message or what
//! a lane stands for. How it fails: only as the database does; whoever lost a lease is told so.
//!
//! A message is in one of three states: *ready*, *waiting* for a time, or *leased* until a time. Each state change writes a row
//! version into one small index, and leasing starts at a cursor ([`Cursors`]), so that row versions which a long transaction keeps
//! vacuum from removing are not walked over again and again.

mod browse;
mod cursors;
mod ends;
mod lease;
mod order;
mod send;
mod stream;
mod sweep;

pub use browse::{Message, State, Which, find, find_many, list};
pub use cursors::Cursors;
pub use ends::{Lease, Settlement, bury, cancel, replay, settle, wake};
pub use lease::{Leased, Want, extend, forsake, held, lease};
pub use send::{Key, NewMessage, Sent, send};
pub use stream::{CHANNEL, Ready, Stream};
pub use sweep::{delete_older, pending, ready_streams, remove_lane, sweep};
