//! Namespaces of a tenant, the tree of departments in each, and how far somebody's department reaches.
//!
//! Who belongs to a department sees its namespace, and acts for that department and those below it. Who holds one of the keys
//! of a namespace sees all of it. To everybody else the namespace is not there. Plugins are set up per namespace and ask
//! [`Namespaces::scope`]; this slice knows nothing of them.

mod routes;
mod service;
mod store;
mod tree;

pub use routes::router;
pub use service::Namespaces;
