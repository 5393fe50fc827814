//! Reloads rule files: when to read them again, and when a read can be trusted (two equal reads 100 ms apart). Owns the
//! file system watch. Doesn't know what is done with the rules, and never removes rules without a valid replacement.

#[cfg(test)]
mod tests;
mod watch;

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::Notify, time};
use tracing::{info, warn};

use crate::{
    blocking::blocking,
    clock,
    rules::{self, Defaults, LoadedRules, LoadedTexts, Problem, Problems, Rules, Selection, Sources},
    sources::problem_log,
};
use watch::Watch;

/// Two reads this far apart must be equal: a file that is still being written, cut at a line break, is valid YAML with
/// half the limits.
const SETTLED: Duration = Duration::from_millis(100);

/// Reads until files that keep changing, or keep being unreadable, are left for the next look. A second of the latter
/// outlasts any swap of a directory.
const READS_MAX: u32 = 100;
const FAILED_READS_MAX: u32 = 10;

/// What is read again, when, and how.
#[derive(Clone, Debug)]
pub struct ReloadSettings {
    /// Files and directories that rules are read from.
    pub paths: Vec<PathBuf>,
    /// Which files of directories.
    pub selection: Selection,
    pub defaults: Defaults,
    /// For file systems that report no changes, and links to files elsewhere.
    pub poll: Duration,
    /// A set without any domain replaces one that has some.
    pub allow_empty: bool,
}

/// Reads rules again when they change.
pub struct Reloader {
    settings: ReloadSettings,
    /// In force: broken domains are taken from it.
    rules: Rules,
    /// Of what was read last, good or not, so that each change is tried, and its problems told, once.
    seen: [u8; 32],
    /// Files of overrides that were read with the rules, wherever they are.
    overrides: Vec<PathBuf>,
    logged: Problems,
    texts: LoadedTexts,
    /// Why not all is watched, if so; it is told once.
    unwatched: Option<String>,
}

/// The result of reading the files once.
struct FilesRead {
    sources: Result<Sources, Problems>,
    digest: [u8; 32],
}

impl Reloader {
    /// `first` is what `sources` were loaded to, and is in force.
    pub fn new(settings: ReloadSettings, sources: &Sources, first: &LoadedRules) -> Reloader {
        let (rules, logged) = (first.rules.clone(), first.problems.clone());
        let overrides = sources.override_paths().cloned().collect();
        let texts = first.texts.clone();
        Reloader { settings, rules, seen: sources.digest(), overrides, logged, texts, unwatched: None }
    }

    /// Looks at every change, when `asked`, and once in a while; never ends. `on` gets each set that was tried: rules to
    /// put in force (the same as before where nothing better was found) and the problems that there are now. The next
    /// look begins when it is done with them.
    pub async fn run<F: Future<Output = ()>>(
        mut self,
        asked: Arc<Notify>,
        mut on: impl FnMut(LoadedRules) -> F,
    ) -> Infallible {
        let changed = Arc::new(Notify::new());
        let mut is_requested = false;
        loop {
            // Watched anew before each look: what was watched may be gone, and what happens meanwhile isn't missed.
            let watch = self.watch(&changed).await;
            let watched = self.overrides.clone();
            if let Some(load) = self.look(is_requested).await {
                on(load).await;
            }
            if self.overrides != watched {
                // What the rules name now isn't watched yet.
                is_requested = false;
                continue;
            }
            is_requested = tokio::select! {
                () = changed.notified() => false,
                () = asked.notified() => true,
                () = time::sleep(self.settings.poll) => false,
            };
            drop(watch);
        }
    }

    async fn watch(&mut self, changed: &Arc<Notify>) -> Watch {
        let paths = [self.settings.paths.as_slice(), &self.overrides].concat();
        let changed = Arc::clone(changed);
        let watch = blocking(move || Watch::new(&paths, changed)).await;
        if let Some(error) = &watch.trouble
            && self.unwatched != watch.trouble
        {
            warn!(error, every = ?self.settings.poll, "not all rule files can be watched: they are read again at intervals");
        }
        self.unwatched.clone_from(&watch.trouble);
        watch
    }

    async fn look(&mut self, is_requested: bool) -> Option<LoadedRules> {
        let glance = self.digest().await;
        if glance == self.seen && !is_requested {
            return None;
        }
        let Some(found) = self.settle(glance).await else {
            warn!("rule files keep changing: waiting until they are stable");
            return None;
        };
        self.seen = found.digest;
        let load = match found.sources {
            Ok(sources) => {
                self.overrides = sources.override_paths().cloned().collect();
                self.load(sources).await
            }
            Err(problems) => self.keep_rules(problems, self.texts.clone()),
        };
        self.log_new_problems(&load.problems);
        self.rules = load.rules.clone();
        self.texts = load.texts.clone();
        Some(load)
    }

    async fn read(&self) -> FilesRead {
        let (paths, selection) = (self.settings.paths.clone(), self.settings.selection);
        blocking(move || FilesRead::read(&paths, selection)).await
    }

    /// The digest of what the files hold. What was read is gone again, before it comes near this thread. Large files of
    /// overrides are read whole too, though size and time are as before: what is looked for here is what no event told of,
    /// as on file systems over a network, and on those a change may leave both as they were.
    async fn digest(&self) -> [u8; 32] {
        let (paths, selection) = (self.settings.paths.clone(), self.settings.selection);
        blocking(move || FilesRead::read(&paths, selection).digest).await
    }

    /// What the files hold once they stand still.
    async fn settle(&self, mut last: [u8; 32]) -> Option<FilesRead> {
        let mut failed = 0;
        for _ in 0..READS_MAX {
            time::sleep(SETTLED).await;
            let now = self.read().await;
            let stands_still = now.digest == last;
            failed = if stands_still && now.is_failure() { failed + 1 } else { 0 };
            if stands_still && (failed == 0 || failed == FAILED_READS_MAX) {
                return Some(now);
            }
            last = now.digest;
            // Freeing many overrides takes a while.
            blocking(move || drop(now)).await;
        }
        None
    }

    async fn load(&self, sources: Sources) -> LoadedRules {
        let sources = Sources { read_at: clock::now(), ..sources };
        let (defaults, last) = (self.settings.defaults, self.rules.clone());
        let texts = self.texts.clone();
        let mut load = blocking(move || {
            let load = rules::load(&sources, &defaults, Some(&last));
            LoadedRules { texts: LoadedTexts::new(&sources, &texts, &load), ..load }
        })
        .await;
        let removes_all = load.rules.domains().is_empty() && !self.rules.domains().is_empty();
        if removes_all && !self.settings.allow_empty {
            let path = self.settings.paths.first().cloned().unwrap_or_default();
            load.problems.refuse(&path, "no domain would be left", "--allow-empty-rules lets all rules be removed");
            return self.keep_rules(load.problems, load.texts);
        }
        load
    }

    /// Everything stays as it is.
    fn keep_rules(&self, problems: Problems, texts: LoadedTexts) -> LoadedRules {
        let kept = self.rules.domains().iter().map(|domain| domain.name().into()).collect();
        let texts = LoadedTexts { in_force: self.texts.in_force.clone(), ..texts };
        LoadedRules { rules: self.rules.clone(), problems, kept_domains: kept, texts }
    }

    /// Logs the problems that weren't there before.
    fn log_new_problems(&mut self, problems: &Problems) {
        let new: Vec<&Problem> =
            problems.iter().filter(|problem| !self.logged.iter().any(|old| old == *problem)).collect();
        let more = if new.is_empty() { 0 } else { problems.more() };
        problem_log::log(new.into_iter(), more, "rule files");
        if problems.is_empty() && !self.logged.is_empty() {
            info!("all problems in rule files are solved");
        }
        self.logged = problems.clone();
    }
}

impl FilesRead {
    fn read(paths: &[PathBuf], selection: Selection) -> FilesRead {
        let sources = Sources::read(paths, selection);
        let digest = match &sources {
            Ok(sources) => sources.digest(),
            Err(problems) => {
                Sources { unreadable: vec![(PathBuf::new(), problems.to_string())], ..Sources::default() }.digest()
            }
        };
        FilesRead { sources, digest }
    }

    fn is_failure(&self) -> bool {
        self.sources
            .as_ref()
            .map_or(true, |sources| !(sources.unreadable.is_empty() && sources.unreadable_overrides.is_empty()))
    }
}
