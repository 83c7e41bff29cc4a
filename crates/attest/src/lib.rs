//! What a server says under its own name: signatures that others can check without asking it.
//!
//! Keys are ES256 pairs named by their thumbprint. A signature names its purpose in the header's `typ`, and checking one pins
//! both the algorithm and the purpose. A log can be made a chain of hashes, which together with signatures shows whether anybody
//! changed it since. This crate knows no tenants, tables, clocks or files; every failure is a refusal or a finding.

mod chain;
pub mod export;
mod key;
mod set;
pub mod verify;

pub use chain::Link;
pub use key::{InvalidKey, Jwk, PublicKey, Refused, SigningKey};
pub use set::KeySet;
