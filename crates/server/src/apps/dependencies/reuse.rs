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

const FOLDER: &str = "node_modules";
const MANIFEST: &str = "package.json";
const LOCKFILES: [&str; 2] = ["bun.lock", "package-lock.json"];
/// What else decides about an installation.
const SETTINGS: [&str; 2] = [".npmrc", "bunfig.toml"];
/// The parts of a package.json that ask for packages.
const ASKING: [&str; 4] = ["dependencies", "optionalDependencies", "peerDependencies", "workspaces"];
/// Words in a package.json or lockfile whose packages depend on more than these files.
const LOCAL: [&str; 4] = ["file:", "link:", "workspace", "patchedDependencies"];

/// True when the packages of `folder` are in place and nothing is to be installed. Blocks.
pub fn settle(folder: &Path, previous: Option<&Path>) -> bool {
    if !asks(folder) {
        return true;
    }
    let Some(source) = previous.filter(|previous| same(folder, previous)).map(|previous| previous.join(FOLDER)) else {
        return false;
    };
    let target = folder.join(FOLDER);
    if target.exists() || !source.is_dir() {
        return false;
    }
    let linked = link(&source, &target);
    if linked.is_err() {
        // An installation from scratch wants a clean start.
        let _ = fs::remove_dir_all(&target);
    }
    linked.is_ok()
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
    let names = || [MANIFEST].into_iter().chain(LOCKFILES);
    let read = |folder: &Path, name: &str| fs::read(folder.join(name)).ok();
    let locked = LOCKFILES.iter().any(|name| folder.join(name).is_file());
    let unchanged = names().chain(SETTINGS).all(|name| read(folder, name) == read(previous, name));
    let local = || names().filter_map(|name| read(folder, name)).any(|text| mentions_files(&text));
    locked && unchanged && !local()
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

    fn settled(new: &[(&str, &str)], old: &[(&str, &str)]) -> bool {
        let (new, old) = (project(new), project(old));
        settle(new.path(), Some(old.path()))
    }

    #[test]
    fn a_project_that_asks_for_nothing_needs_no_installation() {
        assert!(settled(&[("index.ts", "")], &[]));
        assert!(settled(&[("package.json", r#"{"type":"module","dependencies":{},"devDependencies":{"x":"1"}}"#)], &[]));
        assert!(!settled(&[("package.json", ASKS)], &[]));
        assert!(!settled(&[("package.json", "{broken")], &[]), "the package manager says what is wrong with it");
    }

    #[test]
    fn packages_of_the_version_before_are_linked_when_both_files_are_the_same() {
        let old = project(&[("package.json", ASKS), ("bun.lock", LOCK), ("node_modules/left/lib/index.js", "1")]);
        symlink("left", old.path().join("node_modules/alias")).expect("a link");
        let new = project(&[("package.json", ASKS), ("bun.lock", LOCK)]);
        assert!(settle(new.path(), Some(old.path())));
        let file = |folder: &tempfile::TempDir| {
            fs::metadata(folder.path().join("node_modules/left/lib/index.js")).expect("the file").ino()
        };
        assert_eq!(file(&new), file(&old));
        assert_eq!(fs::read_link(new.path().join("node_modules/alias")).expect("a link"), Path::new("left"));
    }

    #[test]
    fn anything_that_may_change_the_packages_is_installed_anew() {
        let old = [("package.json", ASKS), ("bun.lock", LOCK), ("node_modules/left/index.js", "1")];
        assert!(settled(&[("package.json", ASKS), ("bun.lock", LOCK)], &old));
        for new in [
            &[("package.json", ASKS), ("bun.lock", "{}")][..],
            &[("package.json", r#"{"dependencies":{"left":"2.0.0"}}"#), ("bun.lock", LOCK)],
            &[("package.json", ASKS), ("bun.lock", LOCK), (".npmrc", "registry=x")],
            &[("package.json", ASKS)],
        ] {
            assert!(!settled(new, &old), "{new:?}");
        }
        let unlocked = [("package.json", ASKS), ("node_modules/left/index.js", "1")];
        assert!(!settled(&unlocked[..1], &unlocked), "newer versions may be out");
        let local = [("package.json", r#"{"dependencies":{"left":"file:./left"}}"#), ("bun.lock", LOCK)];
        assert!(!settled(&local, &[local[0], local[1], ("node_modules/left/index.js", "1")]));
    }
}
