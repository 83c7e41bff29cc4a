//! An app's data contract as PostgreSQL: planning its tables, compiling its conditions, writing its statements.
//!
//! No input or output: contract, catalogue and request go in, SQL with binds comes out, and whoever calls runs it. Nothing here
//! knows tenants, permissions or HTTP. What a caller got wrong comes back as faults with their places.

pub mod catalogue;
pub mod condition;
pub mod entity;
pub mod plan;
pub mod read;
pub mod sql;
pub mod write;

pub use catalogue::Catalogue;
pub use condition::Condition;
pub use entity::Entity;
pub use plan::{Plan, plan};
pub use sql::Sql;
