//! Delegations: connections that lead to somebody else's.

pub mod store;
