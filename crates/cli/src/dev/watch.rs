//! Which files of a project changed. Editors save in several steps, so changes are handed on once it has been quiet for a moment.
//!
//! Folders that tools write to are not watched at all: there are more files in `node_modules` than a system lets one watch. Every
//! other folder is watched by itself, and all of them are looked for again with each change: folders come, go and come back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher};

use crate::error::{CliError, Result};

const QUIET: Duration = Duration::from_millis(100);
const IGNORED: [&str; 6] = ["node_modules", ".git", "dist", "recordings", ".weft", "target"];
/// Written by ourselves.
const GENERATED: &str = "manifest.d.ts";
/// The system's word for too many open things of a kind.
const EMFILE: i32 = 24;

/// Files that were saved together.
pub struct Change {
    /// Relative to the project's folder; none when the system lost count of them.
    pub paths: Vec<PathBuf>,
    /// When the first of them was noticed.
    pub at: Instant,
    /// Why a folder cannot be watched, when that is news.
    pub unwatched: Option<CliError>,
}

/// Watches the project in `folder` and calls `changed` on a thread of its own, until it says that nobody listens any more.
pub fn start(folder: &Path, changed: impl Fn(Change) -> bool + Send + 'static) -> Result<()> {
    let root =
        fs::canonicalize(folder).map_err(|error| CliError::failed(format!("cannot open {}: {error}", folder.display())))?;
    let (send, events) = channel();
    // Fails only when the thread below has ended.
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| drop(send.send(event)))
        .map_err(|error| unwatchable(folder, &error))?;
    let mut watch = Watch { shown: folder.to_owned(), root, watcher, told: None };
    watch.cover()?;
    std::thread::spawn(move || watch.hand_on(&events, &changed));
    Ok(())
}

struct Watch {
    /// The project's folder as the person named it, and as the system does.
    shown: PathBuf,
    root: PathBuf,
    watcher: RecommendedWatcher,
    /// What was last said to be unwatched.
    told: Option<String>,
}

impl Watch {
    fn hand_on(mut self, events: &Receiver<notify::Result<Event>>, changed: &impl Fn(Change) -> bool) {
        while let Ok(first) = events.recv() {
            let at = Instant::now();
            let Some(files) = files_of(&self.root, first) else { continue };
            let mut paths = BTreeSet::from_iter(files);
            while let Ok(next) = events.recv_timeout(QUIET) {
                paths.extend(files_of(&self.root, next).into_iter().flatten());
            }
            // Before anybody looks at the files, so that what is saved meanwhile is noticed.
            let unwatched = self.cover().err().filter(|error| self.told.as_ref() != Some(&error.to_string()));
            self.told = unwatched.as_ref().map(ToString::to_string).or(self.told);
            if !changed(Change { paths: paths.into_iter().collect(), at, unwatched }) {
                return;
            }
        }
    }

    /// Watches each folder of the project, whether it is new or known. Fails with the first that cannot be, after all others.
    fn cover(&mut self) -> Result<()> {
        let (mut folders, mut outcome) = (vec![self.root.clone()], Ok(()));
        while let Some(folder) = folders.pop() {
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => folders.extend(folders_in(&self.root, &folder)),
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    let inside = folder.strip_prefix(&self.root).unwrap_or(&folder);
                    outcome = outcome.and(Err(unwatchable(&self.shown.join(inside), &error)));
                }
            }
        }
        outcome
    }
}

fn folders_in(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).filter(|path| matters(root, path)).collect()
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(cause) => cause.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

fn unwatchable(folder: &Path, error: &notify::Error) -> CliError {
    let (cause, limit) = match &error.kind {
        ErrorKind::MaxFilesWatch => ("too many folders are watched".to_owned(), Some("max_user_watches")),
        ErrorKind::Io(cause) => (cause.to_string(), (cause.raw_os_error() == Some(EMFILE)).then_some("max_user_instances")),
        _ => (error.to_string(), None),
    };
    let failed = CliError::failed(format!("cannot watch {}: {cause}", folder.display()));
    match limit {
        Some(limit) => failed.with_hint(format!("on Linux, fs.inotify.{limit} may be too low")),
        None => failed,
    }
}

/// The project's files that an event is about: an empty list when any may have changed, nothing when none has.
fn files_of(root: &Path, event: notify::Result<Event>) -> Option<Vec<PathBuf>> {
    let known = event.ok().filter(|event| !event.need_rescan() && !event.paths.is_empty());
    let Some(event) = known else { return Some(Vec::new()) };
    if event.kind.is_access() {
        return None;
    }
    let relevant = event.paths.into_iter().filter(|path| matters(root, path));
    let files: Vec<PathBuf> = relevant.filter_map(|path| path.strip_prefix(root).map(Path::to_owned).ok()).collect();
    Some(files).filter(|files| !files.is_empty())
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

    #[test]
    fn lost_events_mean_that_anything_may_have_changed() {
        let root = Path::new("/p");
        let overflow = Event::new(notify::EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert_eq!(files_of(root, Ok(overflow)), Some(Vec::new()));
        assert_eq!(files_of(root, Err(notify::Error::generic("lost"))), Some(Vec::new()));
        let saved = |path: &str| Ok(Event::new(notify::EventKind::Any).add_path(path.into()));
        assert_eq!(files_of(root, saved("/p/backend/a.ts")), Some(vec!["backend/a.ts".into()]));
        assert_eq!(files_of(root, saved("/p/.git/index")), None);
    }

    #[test]
    fn only_a_limit_is_said_to_be_too_low() {
        let hint = |error: notify::Error| unwatchable(Path::new("p/a"), &error).hint();
        let limit = |name: &str| Some(format!("on Linux, fs.inotify.{name} may be too low"));
        assert_eq!(hint(notify::Error::new(ErrorKind::MaxFilesWatch)), limit("max_user_watches"));
        assert_eq!(hint(notify::Error::io(io::Error::from_raw_os_error(EMFILE))), limit("max_user_instances"));
        let denied = notify::Error::io(io::ErrorKind::PermissionDenied.into());
        assert_eq!(unwatchable(Path::new("p/a"), &denied).to_string(), "cannot watch p/a: permission denied");
        assert_eq!(hint(denied), None);
    }
}
