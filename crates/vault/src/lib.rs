//! Envelope encryption: a master key wraps data keys, a data key seals values.
//!
//! AES-256-GCM throughout, a random 96-bit nonce for each value, and associated data that binds a sealed value to the place it
//! was made for, so that a row copied elsewhere does not open. This crate knows nothing of tenants, tables or files: the
//! caller stores [`Sealed`] bytes and names the place as a list of strings. Every failure is a refusal; nothing is guessed.

mod key;
mod seal;

pub use key::{DataKey, InvalidMasterKey, MasterKey};
pub use seal::{CannotOpen, Place, Sealed};
