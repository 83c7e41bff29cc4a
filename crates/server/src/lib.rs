//! The Weft server: one process that governs every call between a company's software and the services outside it.
//!
//! A slice per concern, each with the same file names; `http` is the surface they share, `db` what they do with the database,
//! `host` what the process needs of the machine. A slice is reached by others only through its `service`. [`run`] is the whole
//! life of a server; tests use [`Server`].

mod apps;
mod audit;
mod authority;
mod background;
mod clock;
mod config;
mod connections;
mod data;
mod db;
mod events;
mod files;
mod hooks;
mod host;
mod http;
mod identity;
mod integrations;
mod jobs;
mod namespaces;
mod node;
mod polls;
mod runs;
mod secrets;
mod server;
mod telemetry;
mod tenants;
mod webhooks;

pub use clock::Clock;
pub use config::{DEFAULT as DEFAULT_SETTINGS, InvalidSettings, ServeArgs, Settings};
pub use host::runtime;
pub use http::{document as openapi_document, paths as route_paths};
pub use server::{Server, run};

/// The Bun that a server would use: below `runtime_dir`, else beside or above this program, else on the PATH.
pub fn find_bun(runtime_dir: Option<&std::path::Path>) -> anyhow::Result<std::path::PathBuf> {
    host::find_bun(&host::Runtime::candidates(runtime_dir)?)
}
