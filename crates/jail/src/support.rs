//! What this machine can do, found out by trying. Plain data.

use serde::Serialize;

/// What of the jail works here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "parts that are there or not, independent of each other")]
pub struct Support {
    /// The version of the kernel's Landlock interface; 4 closes TCP also inside the kernel, 6 keeps signals in.
    pub landlock: Option<u32>,
    pub seccomp: bool,
    /// Outbound connections are decided and made by the caller.
    pub connect_broker: bool,
    /// The child gets an empty network of its own.
    pub namespaces: bool,
    /// The child can run as another account, because the caller is root.
    pub own_account: bool,
    pub resource_limits: bool,
    /// A sentence for each part that is absent.
    pub missing: Vec<Missing>,
}

/// A part that is absent, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    pub part: Part,
    pub reason: String,
}

/// A part of the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    Landlock,
    Seccomp,
    ConnectBroker,
    Namespaces,
    OwnAccount,
    ResourceLimits,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Landlock => "files",
            Self::Seccomp => "system calls",
            Self::ConnectBroker => "network",
            Self::Namespaces => "namespaces",
            Self::OwnAccount => "separate account",
            Self::ResourceLimits => "resource limits",
        })
    }
}

impl Support {
    /// Whether files, system calls, connections and limits are all confined. An account and a namespace of its own harden
    /// the jail, but it holds without them.
    pub fn is_complete(&self) -> bool {
        self.landlock.is_some() && self.seccomp && self.connect_broker && self.resource_limits
    }
}
