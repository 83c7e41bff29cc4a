//! Which files of a project changed. Editors save in several steps, so changes are handed on once it has been quiet for a moment.
//!
//! Folders that tools write to are not watched at all: there are more files in `node_modules` than a system lets one watch.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use crate::error::{CliError, Result};

const QUIET: Duration = Duration::from_millis(100);
const IGNORED: [&str; 6] = ["node_modules", ".git", "dist", "recordings", ".weft", "target"];
/// Written by ourselves.
const GENERATED: &str = "manifest.d.ts";

/// Files that were saved together.
pub struct Change {
    /// Relative to the project's folder.
    pub paths: Vec<PathBuf>,
    /// When the first of them was noticed.
    pub at: Instant,
}

/// Watches until it is dropped.
pub struct Watch {
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Calls `changed` on a thread of its own until it says that nobody listens any more.
    pub fn start(folder: &Path, changed: impl Fn(Change) -> bool + Send + 'static) -> Result<Self> {
        let failed = |error: notify::Error| {
            CliError::failed(format!("cannot watch {}: {error}", folder.display()))
                .with_hint("on Linux, fs.inotify.max_user_watches may be too low")
        };
        let root =
            fs::canonicalize(folder).map_err(|error| CliError::failed(format!("cannot open {}: {error}", folder.display())))?;
        let (send, events) = channel();
        // Fails only when the thread below has ended.
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<Event>| drop(send.send(event))).map_err(failed)?;
        watcher.watch(&root, RecursiveMode::NonRecursive).map_err(failed)?;
        for path in folders_of(&root) {
            watcher.watch(&path, RecursiveMode::Recursive).map_err(failed)?;
        }
        std::thread::spawn(move || hand_on(&root, &events, &changed));
        Ok(Self { _watcher: watcher })
    }
}

fn folders_of(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && matters(root, path)).collect()
}

fn hand_on(root: &Path, events: &Receiver<notify::Result<Event>>, changed: &impl Fn(Change) -> bool) {
    while let Ok(first) = events.recv() {
        let (mut paths, at) = (BTreeSet::new(), Instant::now());
        collect(root, first, &mut paths);
        if paths.is_empty() {
            continue;
        }
        while let Ok(next) = events.recv_timeout(QUIET) {
            collect(root, next, &mut paths);
        }
        if !changed(Change { paths: paths.into_iter().collect(), at }) {
            return;
        }
    }
}

fn collect(root: &Path, event: notify::Result<Event>, paths: &mut BTreeSet<PathBuf>) {
    let Ok(event) = event else { return };
    if event.kind.is_access() {
        return;
    }
    let relevant = event.paths.into_iter().filter(|path| matters(root, path));
    paths.extend(relevant.filter_map(|path| path.strip_prefix(root).map(Path::to_owned).ok()));
}

fn matters(root: &Path, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(root) else { return false };
    let mut names = inside.components().filter_map(|part| part.as_os_str().to_str());
    let name = inside.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !name.is_empty() && name != GENERATED && !is_temporary(name) && !names.any(|name| IGNORED.contains(&name))
}

/// Files that editors write beside the real one.
fn is_temporary(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    name.ends_with('~') || matches!(extension, "swp" | "tmp") || name.starts_with(".#") || name == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_projects_own_files_matter() {
        let matters = |path: &str| matters(Path::new("/p"), &Path::new("/p").join(path));
        for path in ["manifest.json", "backend/index.ts", "backend/lib/a.ts", ".npmrc"] {
            assert!(matters(path), "{path}");
        }
        for path in
            ["node_modules/a/b.js", ".git/index", "dist/a.js", "backend/index.ts~", "backend/.#a", "backend/manifest.d.ts", ""]
        {
            assert!(!matters(path), "{path}");
        }
    }
}
