//! Whether an account can use a folder of programs, and a copy where it cannot: a clone below `/root`, say, is closed
//! to every other account.
//!
//! Knows nothing of PostgreSQL. Copies stay owned by the server and only gain read permission, so that the account
//! cannot alter the programs it runs.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::account::{Account, Permission};

/// A folder with the contents of `source_dir` that `account` can read and execute: `source_dir` itself when everything
/// in it is reachable, otherwise `target_dir`, which is filled on first use and again when the source has changed.
///
/// Everything below `source_dir` becomes readable for everyone in the copy, so name a folder that holds programs only.
/// Without an account the source is returned as it is. Fails when `target_dir` is not reachable either.
pub fn reachable_copy(source_dir: &Path, target_dir: &Path, account: Option<Account>) -> io::Result<PathBuf> {
    let source = fs::canonicalize(source_dir)?;
    let Some(account) = account else {
        return Ok(source);
    };
    if blocked_ancestor(&source, account)?.is_none() && tree_is_open(&source, account)? {
        return Ok(source);
    }
    let target = std::path::absolute(target_dir)?;
    if !same_tree(&source, &target) {
        replace_with_copy(&source, &target)?;
    }
    let target = fs::canonicalize(target)?;
    match blocked_ancestor(&target, account)? {
        None => Ok(target),
        Some(folder) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("uid {} cannot pass through {}", account.uid, folder.display()),
        )),
    }
}

/// The outermost folder, from the root down to the canonical `path` itself, that the account cannot pass through.
pub(crate) fn blocked_ancestor(path: &Path, account: Account) -> io::Result<Option<PathBuf>> {
    let mut blocked = None;
    for folder in path.ancestors() {
        if !account.may(Permission::Execute, &fs::metadata(folder)?) {
            blocked = Some(folder.to_owned());
        }
    }
    Ok(blocked)
}

/// Whether the account can read every file below `folder`, and execute those that their owner can.
pub(crate) fn tree_is_open(folder: &Path, account: Account) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let open = metadata.is_symlink() || is_open(&metadata, account);
        if !open || metadata.is_dir() && !tree_is_open(&entry.path(), account)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_open(metadata: &Metadata, account: Account) -> bool {
    let executable = metadata.mode() & 0o100 != 0;
    account.may(Permission::Read, metadata) && (!executable || account.may(Permission::Execute, metadata))
}

/// Whether two trees hold the same names with the same sizes: enough to notice an upgrade or a copy cut short.
fn same_tree(source: &Path, target: &Path) -> bool {
    let (Ok(from), Ok(to)) = (fs::symlink_metadata(source), fs::symlink_metadata(target)) else {
        return false;
    };
    if from.is_symlink() {
        return fs::read_link(source).ok() == fs::read_link(target).ok();
    }
    if from.is_file() {
        return to.is_file() && from.len() == to.len();
    }
    let Ok(mut entries) = fs::read_dir(source) else {
        return false;
    };
    to.is_dir() && entries.all(|entry| entry.is_ok_and(|entry| same_tree(&entry.path(), &target.join(entry.file_name()))))
}

/// Copies beside the target first: a copy cut short never looks complete.
fn replace_with_copy(source: &Path, target: &Path) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    let unfinished = target.with_added_extension("new");
    remove_tree(&unfinished)?;
    copy_tree(source, &unfinished)?;
    remove_tree(target)?;
    fs::rename(&unfinished, target)
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_tree(source: &Path, target: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    let execute_bits = if metadata.mode() & 0o100 == 0 { 0 } else { 0o111 };
    let mode = metadata.mode() & 0o755 | 0o444 | execute_bits;
    if metadata.is_dir() {
        fs::create_dir(target)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            copy_tree(&entry.path(), &target.join(entry.file_name()))?;
        }
    } else {
        fs::copy(source, target)?;
    }
    fs::set_permissions(target, Permissions::from_mode(mode))
}
