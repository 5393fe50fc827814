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

/// Watches until it is dropped.
pub(super) struct Watch {
    _watcher: Option<RecommendedWatcher>,
    /// Why something isn't watched, and the poll must do: the system may have no more watches to give.
    pub(super) trouble: Option<String>,
}

type Directories = BTreeMap<PathBuf, WatchScope>;

/// Directories that come and go all the time are watched as they were; the poll sees the rest.
const TRIES_MAX: u32 = 10;

/// What matters in a directory.
#[derive(Clone, PartialEq, Eq)]
enum WatchScope {
    /// All that is below it.
    Below,
    /// What is in it.
    Within,
    /// Some names in it.
    Names(BTreeSet<OsString>),
}

impl Watch {
    /// `changed` is told of everything that may change what `paths` hold. Reading isn't a change: this process reads
    /// the files itself.
    pub(super) fn new(paths: &[PathBuf], changed: Arc<Notify>) -> Watch {
        settled(|| directories(paths), |directories| Watch::on(Arc::new(directories), Arc::clone(&changed)))
    }

    fn on(directories: Arc<Directories>, changed: Arc<Notify>) -> Watch {
        let of_interest = Arc::clone(&directories);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| is_change(&event.kind) && matters(&event, &of_interest)) {
                changed.notify_one();
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => return Watch { _watcher: None, trouble: Some(error.to_string()) },
        };
        let mut trouble = None;
        for (directory, scope) in directories.iter() {
            let mode = match scope {
                WatchScope::Below => RecursiveMode::Recursive,
                WatchScope::Within | WatchScope::Names(_) => RecursiveMode::NonRecursive,
            };
            if let Err(error) = watcher.watch(directory, mode) {
                trouble = Some(error.to_string());
            }
        }
        Watch { _watcher: Some(watcher), trouble }
    }
}

/// Watches anew until what is `there` is what the watch was set on: of a directory that came after one looked and before
/// the watch stood, no event would ever tell.
fn settled<D: Clone + PartialEq, W>(there: impl Fn() -> D, watch: impl Fn(D) -> W) -> W {
    let mut watched = there();
    for _ in 1..TRIES_MAX {
        let watch = watch(watched.clone());
        let now = there();
        if now == watched {
            return watch;
        }
        watched = now;
    }
    watch(watched)
}

fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

fn matters(event: &Event, directories: &Directories) -> bool {
    let is_of_interest = |path: &PathBuf| {
        directories.iter().any(|(directory, scope)| match scope {
            WatchScope::Below => path.starts_with(directory),
            WatchScope::Within => path.parent() == Some(directory) || path == directory,
            WatchScope::Names(names) => {
                path.parent() == Some(directory) && path.file_name().is_some_and(|name| names.contains(name))
            }
        })
    };
    // Without paths it says that events were lost.
    event.paths.is_empty() || event.paths.iter().any(is_of_interest)
}

/// Each directory with all below it; each file's own directory (the file may be a link through a ConfigMap's `..data`);
/// and of the directories above them the names on the way, where one is a link that may be swapped, or the last one,
/// which may be replaced.
fn directories(paths: &[PathBuf]) -> Directories {
    let mut directories = BTreeMap::new();
    for path in paths {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let (whole, scope) = match path.parent() {
            Some(parent) if path.is_file() => (parent, WatchScope::Within),
            _ => (path.as_path(), WatchScope::Below),
        };
        if whole.is_dir() {
            widen(&mut directories, whole, scope);
        }
        for step in whole.ancestors() {
            if let (Some(parent), Some(name)) = (step.parent(), step.file_name())
                && parent.is_dir()
                && (step == whole || step.is_symlink() || !step.exists())
            {
                widen(&mut directories, parent, WatchScope::Names(BTreeSet::from([name.to_owned()])));
            }
        }
    }
    directories
}

/// One directory may matter for several reasons; the widest covers the others.
fn widen(directories: &mut Directories, directory: &Path, scope: WatchScope) {
    let known = directories.entry(directory.to_owned()).or_insert_with(|| WatchScope::Names(BTreeSet::new()));
    match (known, scope) {
        (WatchScope::Below, _) | (WatchScope::Within, WatchScope::Within | WatchScope::Names(_)) => {}
        (WatchScope::Names(known), WatchScope::Names(names)) => known.extend(names),
        (known, wider) => *known = wider,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn what_came_while_the_watch_was_set_is_watched_too() {
        let there = RefCell::new(vec!["rules"]);
        let settings = RefCell::new(Vec::new());
        let watched = settled(
            || there.borrow().clone(),
            |watched| {
                settings.borrow_mut().push(watched.clone());
                if watched.len() == 1 {
                    there.borrow_mut().push("rules/config");
                }
                watched
            },
        );
        assert_eq!(watched, ["rules", "rules/config"]);
        assert_eq!(settings.into_inner().len(), 2);
    }

    #[test]
    fn what_never_settles_is_watched_as_it_was_last() {
        let tries = RefCell::new(0);
        let watched = settled(|| tries.replace_with(|tries| *tries + 1), |watched| watched);
        assert_eq!(watched, TRIES_MAX - 1);
    }
}
