//! The jail on Linux. `spawn` prepares a child (`files`, `filter`, `program`), `child` is what the child does to itself,
//! `broker` serves it from then on (`listener`, `process`, `dns`, `names`, `connect`), `probe` tries out what works here.

mod broker;
mod child;
mod connect;
mod dns;
mod files;
mod filter;
mod handover;
mod keeper;
mod listener;
mod names;
mod probe;
mod process;
mod program;
mod schedule;
mod spawn;

pub use broker::Broker;
pub use child::clear_ambient_capabilities;
pub use files::system_files;
pub use probe::support;
pub use process::resident_memory;
pub use schedule::{ordinary, real_time};
pub use spawn::spawn;
