//! The bundled integrations, compiled in, and the grading of an integration's folder.
//!
//! [`all`] lists them, [`Bundled::archive`] is what deploying one needs. [`grade`] plays an integration's recorded calls and looks
//! its manifest over, without a server and without a network. Knows no server and no tenants.

mod bundled;
mod folder;
mod grade;
mod hygiene;

pub use bundled::{Bundled, all, find};
pub use folder::Folder;
pub use grade::{Finding, Report, Severity, grade};
