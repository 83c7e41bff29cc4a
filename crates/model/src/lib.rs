//! The pure domain of Weft: identifiers, principals, permission keys, manifests, runs and the words that errors use.
//!
//! Nothing here does IO, reads a clock or draws a random number by itself: time comes in as a parameter. Nothing here knows
//! HTTP, SQL or the file system. Every other crate may import this one; this one imports none of them.

pub mod connection;
pub mod contract;
pub mod fault;
pub mod id;
pub mod manifest;
pub mod permission;
pub mod principal;
pub mod run;
pub mod schedule;
pub mod schema;
pub mod scope;
pub mod secret;

pub use fault::Fault;
pub use id::{
    AppId, BindingId, ConfigurationId, ConnectionId, CredentialId, CronId, DeliveryId, DepartmentId, DeploymentId, EndpointId,
    FileId, HookId, InvalidName, NamespaceId, ObjectId, RunId, SessionId, SyncId, TenantId, UserId, WayName,
};
pub use manifest::Manifest;
pub use permission::{PermissionKey, PermissionSet};
pub use principal::{Principal, PrincipalKind, Proof};
pub use secret::Secret;
