//! Connections: what kinds there are and how they can be.

use serde::{Deserialize, Serialize};

use crate::run::words;

words! {
    /// Whether a connection is an account at the vendor or the leave to use somebody else's.
    ConnectionKind {
        /// It has credentials of its own.
        Direct = "direct",
        /// It leads to another one.
        Delegation = "delegation",
    }
}

words! {
    /// Whether calls can be made with a connection.
    ConnectionStatus {
        /// It serves.
        Active = "active",
        /// The vendor does not accept it any more; connecting again helps.
        Expired = "expired",
        /// Somebody took it back at the vendor.
        Revoked = "revoked",
        /// It cannot be used for another reason, which its cause names.
        Error = "error",
    }
}
