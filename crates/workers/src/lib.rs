//! The JS worker host: one warm Bun process per app, many calls in flight, one JSON object per line on its stdio.
//!
//! It takes data ([`WorkerSpec`], [`Call`]) and one trait for effects ([`Platform`]); it must not know tenants, HTTP routes,
//! tables or permissions. The messages are described in `docs/worker-protocol.md`, which changes together with
//! `frame.rs` here and the prelude in `js/worker`.
//!
//! How it fails: a call ends in a [`CallError`], a deployment in a [`StartError`] (the version before it keeps serving), and a
//! process that dies takes only its own calls with it and is started again until it dies too often.

mod app;
mod confine;
mod death;
mod error;
mod flood;
mod frame;
mod gate;
mod host;
mod in_flight;
mod keeper;
mod lines;
mod logs;
mod outbound;
mod platform;
mod precedence;
mod process;
mod reader;
mod restart;
mod settings;
mod spawn;
mod supervisor;
mod vitals;

pub use death::{Death, DeathKind};
pub use error::{CallError, Category, Failure, StartError};
pub use frame::Offer;
pub use host::Host;
pub use logs::{Level, LogLine};
pub use platform::{Call, Job, Platform, Status, WorkerReport};
pub use precedence::Precedence;
pub use settings::{Account, Allows, Confinement, Endpoint, HostSettings, Limits, RestartPolicy, WorkerSpec};
pub use vitals::MEMORY_IS_WATCHED;
