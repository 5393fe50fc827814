//! The watch on the file system. Directories are watched, never files: a ConfigMap swaps the `..data` link, editors
//! rename a new file into place, and a watch on the file itself sees either once at most.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;
use tracing::warn;

/// Watches until it is dropped.
pub(super) struct Watch {
    /// `None`: the system has no more watches to give, and the poll must do.
    _watcher: Option<RecommendedWatcher>,
}

/// Which names of a directory matter.
enum Names {
    All,
    These(BTreeSet<OsString>),
}

impl Watch {
    /// `changed` is told of everything that may change what `paths` hold. Reading isn't a change: this process reads
    /// the files itself.
    pub(super) fn new(paths: &[PathBuf], changed: Arc<Notify>) -> Watch {
        let directories = Arc::new(directories(paths));
        let of_interest = Arc::clone(&directories);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| is_change(&event.kind) && matters(&event, &of_interest)) {
                changed.notify_one();
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                warn!(%error, "no watch on rule files; they are looked at once in a while");
                return Watch { _watcher: None };
            }
        };
        for (directory, names) in directories.iter() {
            let mode = match names {
                Names::All => RecursiveMode::Recursive,
                Names::These(_) => RecursiveMode::NonRecursive,
            };
            if let Err(error) = watcher.watch(directory, mode) {
                warn!(%error, directory = %directory.display(), "not watched; it is looked at once in a while");
            }
        }
        Watch { _watcher: Some(watcher) }
    }
}

fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

fn matters(event: &Event, directories: &BTreeMap<PathBuf, Names>) -> bool {
    // Without paths it says that events were lost.
    event.paths.is_empty()
        || event.paths.iter().any(|path| {
            let within_all =
                directories.iter().any(|(directory, names)| matches!(names, Names::All) && path.starts_with(directory));
            let by_name = || match (path.parent().and_then(|parent| directories.get(parent)), path.file_name()) {
                (Some(Names::These(names)), Some(name)) => names.contains(name),
                _ => false,
            };
            within_all || by_name()
        })
}

/// Each directory whole, each file's directory whole (the file may be a link through a ConfigMap's `..data`), and of the
/// directories above them the names on the way, where one may be a link that is swapped or a directory that is replaced.
fn directories(paths: &[PathBuf]) -> BTreeMap<PathBuf, Names> {
    let mut directories = BTreeMap::new();
    for path in paths {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let whole = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
        if whole.is_dir() {
            directories.insert(whole.to_owned(), Names::All);
        }
        for step in whole.ancestors() {
            if let (Some(parent), Some(name)) = (step.parent(), step.file_name())
                && parent.is_dir()
                && (step == whole || step.is_symlink() || !step.exists())
            {
                add_name(&mut directories, parent, name.to_owned());
            }
        }
    }
    directories
}

fn add_name(directories: &mut BTreeMap<PathBuf, Names>, directory: &Path, name: OsString) {
    match directories.entry(directory.to_owned()).or_insert_with(|| Names::These(BTreeSet::new())) {
        Names::All => {}
        Names::These(names) => {
            names.insert(name);
        }
    }
}
