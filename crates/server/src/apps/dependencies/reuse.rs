//! Whether an app's packages need installing at all: no when it asks for none, nor when the deployment before has just these.
//!
//! Packages are the same when package.json and the lockfile are, unless package.json points at files of the project. Without a
//! lockfile a new installation may choose newer versions, so nothing is reused then. Knows nothing of the package manager.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{LOCKFILE, NPM_LOCKFILE};

const FOLDER: &str = "node_modules";
const MANIFEST: &str = "package.json";
/// What else decides about an installation.
const SETTINGS: &str = ".npmrc";
/// The parts of a package.json that ask for packages.
const ASKING: [&str; 4] = ["dependencies", "optionalDependencies", "peerDependencies", "workspaces"];
/// Words in a package.json or lockfile whose packages depend on more than these files.
const LOCAL: [&str; 4] = ["file:", "link:", "workspace", "patchedDependencies"];

/// What is left to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// No packages are asked for.
    NothingAsked,
    /// The packages are in place. The lockfile is that of the version before, where it was made for an archive without one.
    Linked { lockfile: Option<String> },
    /// Packages have to be installed.
    Open,
}

/// Puts the packages of `folder` in place if those of the version before are the same. Blocks.
pub(super) fn settle(folder: &Path, previous: Option<&Path>) -> Settled {
    if !asks(folder) {
        return Settled::NothingAsked;
    }
    let Some(previous) = previous.filter(|previous| same(folder, previous)) else { return Settled::Open };
    let (source, target) = (previous.join(FOLDER), folder.join(FOLDER));
    if target.exists() || !source.is_dir() {
        return Settled::Open;
    }
    if let Ok(lockfile) = link(&source, &target).and_then(|()| take_lockfile(folder, previous)) {
        return Settled::Linked { lockfile };
    }
    // An installation from scratch wants a clean start.
    let _ = fs::remove_dir_all(&target);
    Settled::Open
}

/// Brings along the lockfile that was made from npm's.
fn take_lockfile(folder: &Path, previous: &Path) -> io::Result<Option<String>> {
    if folder.join(LOCKFILE).is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(previous.join(LOCKFILE))?;
    fs::write(folder.join(LOCKFILE), &text)?;
    Ok(Some(text))
}

/// A package.json that cannot be read is the package manager's to explain.
fn asks(folder: &Path) -> bool {
    let Ok(text) = fs::read(folder.join(MANIFEST)) else { return false };
    let Ok(Value::Object(manifest)) = serde_json::from_slice(&text) else { return true };
    let is_empty = |value: &Value| match value {
        Value::Object(entries) => entries.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        other => other.is_null(),
    };
    ASKING.iter().any(|name| manifest.get(*name).is_some_and(|value| !is_empty(value)))
}

fn same(folder: &Path, previous: &Path) -> bool {
    let read = |folder: &Path, name: &str| fs::read(folder.join(name)).ok();
    let lockfile = [LOCKFILE, NPM_LOCKFILE].into_iter().find(|name| folder.join(name).is_file());
    let Some(lockfile) = lockfile else { return false };
    // The other lockfile may have been made from this one.
    let unchanged = [MANIFEST, SETTINGS, lockfile].iter().all(|name| read(folder, name) == read(previous, name));
    let local = || [MANIFEST, lockfile].iter().filter_map(|name| read(folder, name)).any(|text| mentions_files(&text));
    unchanged && !local()
}

fn mentions_files(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    // Every lockfile of Bun has this word as the name of a part, with the project itself in it.
    let text = text.replace("\"workspaces\": {\n    \"\":", "");
    LOCAL.iter().any(|word| text.contains(word))
}

/// Links files, makes folders and repeats symbolic links. Files are never changed after their installation.
fn link(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to): (PathBuf, PathBuf) = (entry.path(), target.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link(&from, &to)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else {
            fs::hard_link(&from, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const ASKS: &str = r#"{"dependencies":{"left":"1.0.0"}}"#;
    const LOCK: &str = "{\n  \"lockfileVersion\": 1,\n  \"workspaces\": {\n    \"\": {\n";

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        folder
    }

    fn settled(new: &[(&str, &str)], old: &[(&str, &str)]) -> Settled {
        let (new, old) = (project(new), project(old));
        settle(new.path(), Some(old.path()))
    }

    const LINKED: Settled = Settled::Linked { lockfile: None };

    #[test]
    fn a_project_that_asks_for_nothing_needs_no_installation() {
        assert_eq!(settled(&[("index.ts", "")], &[]), Settled::NothingAsked);
        let bare = r#"{"type":"module","dependencies":{},"devDependencies":{"x":"1"}}"#;
        assert_eq!(settled(&[("package.json", bare)], &[]), Settled::NothingAsked);
        assert_eq!(settled(&[("package.json", ASKS)], &[]), Settled::Open);
        assert_eq!(settled(&[("package.json", "{broken")], &[]), Settled::Open, "the package manager says what is wrong with it");
    }

    #[test]
    fn packages_of_the_version_before_are_linked_when_both_files_are_the_same() {
        let old = project(&[("package.json", ASKS), ("bun.lock", LOCK), ("node_modules/left/lib/index.js", "1")]);
        symlink("left", old.path().join("node_modules/alias")).expect("a link");
        let new = project(&[("package.json", ASKS), ("bun.lock", LOCK)]);
        assert_eq!(settle(new.path(), Some(old.path())), LINKED);
        let file = |folder: &tempfile::TempDir| {
            fs::metadata(folder.path().join("node_modules/left/lib/index.js")).expect("the file").ino()
        };
        assert_eq!(file(&new), file(&old));
        assert_eq!(fs::read_link(new.path().join("node_modules/alias")).expect("a link"), Path::new("left"));
    }

    #[test]
    fn a_lockfile_that_was_made_from_npms_is_taken_along() {
        let old = [("package.json", ASKS), ("package-lock.json", "{}"), ("bun.lock", LOCK), ("node_modules/left/index.js", "1")];
        let (new, old) = (project(&old[..2]), project(&old));
        assert_eq!(settle(new.path(), Some(old.path())), Settled::Linked { lockfile: Some(LOCK.to_owned()) });
        assert_eq!(fs::read_to_string(new.path().join("bun.lock")).expect("a file"), LOCK);
    }

    #[test]
    fn anything_that_may_change_the_packages_is_installed_anew() {
        let old = [("package.json", ASKS), ("bun.lock", LOCK), ("node_modules/left/index.js", "1")];
        assert_eq!(settled(&[("package.json", ASKS), ("bun.lock", LOCK)], &old), LINKED);
        for new in [
            &[("package.json", ASKS), ("bun.lock", "{}")][..],
            &[("package.json", r#"{"dependencies":{"left":"2.0.0"}}"#), ("bun.lock", LOCK)],
            &[("package.json", ASKS), ("bun.lock", LOCK), (".npmrc", "registry=x")],
            &[("package.json", ASKS)],
        ] {
            assert_eq!(settled(new, &old), Settled::Open, "{new:?}");
        }
        let unlocked = [("package.json", ASKS), ("bun.lock", LOCK), ("node_modules/left/index.js", "1")];
        assert_eq!(settled(&unlocked[..1], &unlocked), Settled::Open, "newer versions may be out");
        let local = [("package.json", r#"{"dependencies":{"left":"file:./left"}}"#), ("bun.lock", LOCK)];
        assert_eq!(settled(&local, &[local[0], local[1], ("node_modules/left/index.js", "1")]), Settled::Open);
    }
}
