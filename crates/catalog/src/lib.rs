//! The bundled integrations, compiled in, signed indexes of others, and the grading of an integration's folder.
//!
//! [`all`] lists the bundled ones, [`Index`] those of somebody else; [`Package::archive`] is what deploying one needs. [`grade`] plays an integration's recorded calls and looks
//! its manifest over, without a server and without a network. Knows no server and no tenants.

mod bundled;
mod folder;
mod grade;
mod hygiene;
mod index;
mod package;

pub use bundled::{all, find};
pub use folder::{Folder, LARGEST_ARCHIVE, Unreadable};
pub use grade::{Finding, Report, Severity, grade};
pub use index::{Index, Listed, Refused, check};
pub use package::Package;
