//! The operating system account that PostgreSQL runs as, and what that account may see.
//!
//! PostgreSQL refuses root and any uid without a passwd entry; both are found out here, before its own terser refusal.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Uid, User, geteuid};

use crate::Error;

const EVERYONE: u32 = 0;
const GROUP: u32 = 3;
const OWNER: u32 = 6;

/// An unprivileged account, for a server that runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// One of the permissions in a file's mode.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Permission {
    Read = 4,
    /// For folders: passing through.
    Execute = 1,
}

impl Account {
    /// The account `nobody` when this process is root, none otherwise: what most servers want.
    #[must_use]
    pub fn if_root() -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let known = User::from_name("nobody").ok().flatten();
        Some(known.map_or(Self { uid: 65_534, gid: 65_534 }, |user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
    }

    /// Whether the account, which has no other groups, holds a permission. Access lists beyond the mode are not seen.
    pub(crate) fn may(self, permission: Permission, metadata: &Metadata) -> bool {
        let class = if metadata.uid() == self.uid {
            OWNER
        } else if metadata.gid() == self.gid {
            GROUP
        } else {
            EVERYONE
        };
        metadata.mode() >> class & permission as u32 != 0
    }
}

/// Refuses an account that PostgreSQL would refuse. Returns the account to switch to, if any.
pub(crate) fn check(account: Option<Account>) -> Result<Option<Account>, Error> {
    let own = geteuid();
    let uid = account.map_or(own, |account| Uid::from_raw(account.uid));
    if uid.is_root() {
        return Err(Error::Root);
    }
    if uid != own && !own.is_root() {
        return Err(Error::CannotSwitch { uid: uid.as_raw() });
    }
    if let Ok(None) = User::from_uid(uid) {
        return Err(Error::UnknownUser { uid: uid.as_raw() });
    }
    Ok(account.filter(|_| own.is_root()))
}

/// The uid that owns the cluster: the account's, or this process's own.
pub(crate) fn owner_uid(account: Option<Account>) -> u32 {
    account.map_or_else(|| geteuid().as_raw(), |account| account.uid)
}
