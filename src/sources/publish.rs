//! From rules on disk or from a control plane to the snapshot that requests see: the first load, and every later one.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::bail;
use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::{defaults, last_good::LastGood, problem_log};
use crate::{
    blocking::{blocking, in_background},
    clock,
    limit::moment,
    limiter::{Budgets, Snapshot},
    metrics::{Meters, Metrics},
    rules::{self, Defaults, DotFiles, FileNames, LoadedRules, LoadedTexts, Problems, Rules, Selection, Sources},
    run_time::{
        overrides::Overrides,
        reloads::{Reload, Reloads},
    },
    settings::Settings,
    sources::{
        files::{ReloadSettings, Reloader},
        xds,
    },
};

/// Swaps snapshots.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    last_good: Option<LastGood>,
    defaults: Defaults,
    /// Whether there are any rules yet.
    loaded: watch::Sender<bool>,
    /// Whoever must know rules before they are in force.
    overrides: Arc<OnceLock<Arc<Overrides>>>,
    /// What each set of rules changed.
    pub reloads: Arc<Reloads>,
}

/// What goes on bringing rules.
pub(crate) enum RuleFeed {
    Files(Box<Reloader>),
    ControlPlane(Box<xds::DiscoveryClient>),
}

impl RuleFeed {
    /// Never ends. `asked` asks for files to be read again; a control plane sends by itself.
    pub(crate) async fn run(self, asked: Arc<Notify>, publisher: Publisher) -> Infallible {
        match self {
            RuleFeed::Files(reloader) => {
                reloader.run(asked, |load| publisher.clone().publish(publisher.whole(load))).await
            }
            RuleFeed::ControlPlane(client) => {
                let deaf = async {
                    loop {
                        asked.notified().await;
                        info!("nothing to reload: the rules come from a control plane, which sends what changes");
                    }
                };
                publisher.metrics.control_plane(false);
                let on_connection = |is_up| publisher.metrics.control_plane(is_up);
                tokio::select! {
                    never = client.run(|load| publisher.clone().publish(load), on_connection) => match never {},
                    never = deaf => never,
                }
            }
        }
    }
}

/// Rules to begin with, and what brings the later ones. Files are read here; a control plane's rules come when it
/// sends them.
pub(crate) fn open(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<(Publisher, RuleFeed)> {
    let Some(control_plane) = &settings.rules.control_plane else {
        return load(settings, metrics).map(|(publisher, reloader)| (publisher, RuleFeed::Files(Box::new(reloader))));
    };
    info!(server = control_plane.server, tls = control_plane.tls.is_some(), "rules come from a control plane");
    let defaults = reload_settings(settings).defaults;
    let nothing = nothing(Problems::default(), LoadedTexts::default());
    let publisher = Publisher::new(0, nothing, metrics, None, defaults);
    let state_dir = settings.store.state_dir.as_deref();
    let client = xds::DiscoveryClient::new(control_plane.clone(), defaults, state_dir);
    Ok((publisher, RuleFeed::ControlPlane(Box::new(client))))
}

/// Reads the rules for the first time; any error ends the start, with every problem. What is given beside the publisher
/// reads them again.
fn load(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<(Publisher, Reloader)> {
    let again = reload_settings(settings);
    let sources = match Sources::read(&again.paths, again.selection) {
        Ok(sources) => Sources { read_at: clock::now(), ..sources },
        Err(problems) if settings.rules.force_start => {
            return Ok(without_rules(again, &Sources::default(), problems, settings, metrics));
        }
        Err(problems) => bail!("the rules can't be read:\n{}", problems.render()),
    };
    if !sources.cases.is_empty() {
        info!(files = ?sources.cases, "test cases are not loaded as rules: `tollgate test` runs them");
    }
    let last_good = settings.store.state_dir.as_deref().map(LastGood::new);
    let load = match first(&sources, &again.defaults, last_good.as_ref()) {
        Ok(load) => load,
        Err(problems) if settings.rules.force_start => {
            return Ok(without_rules(again, &sources, problems, settings, metrics));
        }
        Err(problems) => bail!("the rules have errors:\n{}", problems.render()),
    };
    let complete = !load.problems.has_errors();
    let defaults = again.defaults;
    let reloader = Reloader::new(again, &sources, &load);
    metrics.reloaded(1, load.rules.domains().len(), complete, Duration::from_micros(clock::now().0));
    let publisher = Publisher::new(1, load, metrics, last_good, defaults);
    if complete {
        publisher.keep_as_last_good();
    }
    Ok((publisher, reloader))
}

/// A start that was forced: every request gets an error until a set without errors is there.
fn without_rules(
    again: ReloadSettings,
    sources: &Sources,
    problems: Problems,
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> (Publisher, Reloader) {
    for problem in &problems {
        error!("{problem}");
    }
    warn!("no rules yet: every request gets an error until valid rules are loaded");
    let mut nothing = nothing(problems, LoadedTexts::default());
    nothing.texts = LoadedTexts::new(sources, &LoadedTexts::default(), &nothing);
    let defaults = again.defaults;
    let reloader = Reloader::new(again, sources, &nothing);
    metrics.reloaded(0, 0, false, Duration::from_micros(clock::now().0));
    let last_good = settings.store.state_dir.as_deref().map(LastGood::new);
    (Publisher::new(0, nothing, metrics, last_good, defaults), reloader)
}

/// No rule, but why.
fn nothing(problems: Problems, texts: LoadedTexts) -> LoadedRules {
    LoadedRules { rules: Rules::default(), problems, kept_domains: Vec::new(), texts }
}

/// Without an error, or with the last good rules of the domains that have one; else the problems.
fn first(sources: &Sources, defaults: &Defaults, last_good: Option<&LastGood>) -> Result<LoadedRules, Problems> {
    let with_texts = |load: LoadedRules, last| LoadedRules { texts: LoadedTexts::new(sources, last, &load), ..load };
    let load = rules::load(sources, defaults, None);
    if !load.problems.has_errors() {
        problem_log::log(load.problems.iter(), load.problems.more(), "rule files");
        return Ok(with_texts(load, &LoadedTexts::default()));
    }
    let (last, texts) = match last_good.map(|last_good| last_good.load(defaults)) {
        None | Some(Ok(None)) => return Err(load.problems),
        Some(Ok(Some(last))) => last,
        Some(Err(error)) => {
            warn!(%error, "can't use the last good rules in the state directory");
            return Err(load.problems);
        }
    };
    let load = rules::load(sources, defaults, Some(&last));
    problem_log::log(load.problems.iter(), load.problems.more(), "rule files");
    warn!(kept = ?load.kept_domains, "some rules have errors: their domains start with the last good rules of the state directory");
    Ok(with_texts(load, &texts))
}

fn reload_settings(settings: &Settings) -> ReloadSettings {
    ReloadSettings {
        paths: settings.rules.paths.clone(),
        selection: Selection {
            dot_files: if settings.rules.ignore_dotfiles { DotFiles::Ignore } else { DotFiles::Read },
            names: if settings.rules.any_name { FileNames::Any } else { FileNames::Yaml },
        },
        defaults: defaults(settings),
        poll: settings.rules.poll,
        allow_empty: settings.rules.allow_empty,
    }
}

impl Publisher {
    fn new(
        version: u64,
        load: LoadedRules,
        metrics: &Arc<Metrics>,
        last_good: Option<LastGood>,
        defaults: Defaults,
    ) -> Publisher {
        let meters = Meters::new(&load.rules, None);
        let budgets = Budgets::new(&load.rules, None);
        let LoadedRules { rules, problems, kept_domains, texts } = load;
        let loaded_at = clock::now();
        let snapshot = Snapshot { version, rules, meters, budgets, problems, kept_domains, texts, loaded_at };
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let loaded = watch::Sender::new(version > 0);
        let (metrics, overrides, reloads) = (Arc::clone(metrics), Arc::default(), Arc::default());
        Publisher { snapshot, metrics, last_good, defaults, loaded, overrides, reloads }
    }

    /// Has rules shown to the overrides from now on, each time before they are in force.
    pub(crate) fn show_rules_to(&self, overrides: &Arc<Overrides>) {
        // It is called once.
        let _ = self.overrides.set(Arc::clone(overrides));
    }

    /// Waits until there are rules.
    pub(crate) async fn loaded(&self) {
        let mut loaded = self.loaded.subscribe();
        // The sender is `self`, so that the wait can't fail.
        let _ = loaded.wait_for(|loaded| *loaded).await;
    }

    /// Until a first set without errors nothing is in force: a domain that isn't there yet would let everything pass.
    fn whole(&self, load: LoadedRules) -> LoadedRules {
        if self.snapshot.load().version == 0 && load.problems.has_errors() {
            return nothing(load.problems, load.texts);
        }
        load
    }

    /// Puts what was loaded in force. The thread that accepts connections and answers probes only waits for it: a hundred
    /// thousand rules take a while to be given their numbers and their overrides.
    async fn publish(self, load: LoadedRules) {
        blocking(move || self.put_in_force(load)).await;
    }

    /// Limits that stay go on with their numbers.
    fn put_in_force(&self, load: LoadedRules) {
        let last = self.snapshot.load_full();
        let complete = !load.problems.has_errors();
        // The first rules are a change even if there are none in them.
        let changed = last.rules.hash() != load.rules.hash() || (last.version == 0 && complete);
        let version = last.version + u64::from(changed);
        let loaded_at = if changed { clock::now() } else { last.loaded_at };
        let meters = Meters::new(&load.rules, Some((&last.rules, &last.meters)));
        let budgets = Budgets::new(&load.rules, Some((&last.rules, &last.budgets)));
        let count = load.rules.count();
        if complete {
            let rules::RuleCounts { files, domains, rules, overrides, .. } = count;
            info!(rules_version = version, files, domains, rules, overrides, "rules reloaded");
        } else {
            warn!(rules_version = version, kept = ?load.kept_domains, "some rules have errors: their domains keep the last good rules");
        }
        self.metrics.reloaded(version, count.domains, complete, Duration::from_micros(clock::now().0));
        let LoadedRules { rules, problems, kept_domains, texts } = load;
        if let Some(overrides) = self.overrides.get() {
            overrides.prepare(&rules);
        }
        if changed && last.version > 0 {
            self.tell_changes(&last.rules, &rules, version);
        }
        self.snapshot.store(Arc::new(Snapshot {
            version,
            rules,
            meters,
            budgets,
            problems,
            kept_domains,
            texts,
            loaded_at,
        }));
        retire(last);
        self.loaded.send_replace(version > 0);
        if complete && changed {
            self.keep_as_last_good();
        }
    }

    /// Tells which limits are added, removed or other than before, in the log and to whoever asks what changed.
    fn tell_changes(&self, before: &Rules, after: &Rules, version: u64) {
        let changes = rules::limit_changes(before, after);
        for change in changes.iter().take(LOGGED_MAX) {
            info!(rules_version = version, "limit changed: {change}");
        }
        if changes.len() > LOGGED_MAX {
            info!(rules_version = version, "{} further limits changed", changes.len() - LOGGED_MAX);
        }
        for change in &changes {
            let switches = self.overrides.get().map(|overrides| overrides.switches(&change.domain)).unwrap_or_default();
            if let Some(switch) = switches.get(&change.limit_id) {
                let (by, ends) = (&*switch.by, moment::write(switch.ends));
                warn!(limit = &*change.limit_id, mode = %switch.mode, by, ends, "a limit that is switched was changed: {change}");
            }
        }
        self.reloads.note(Reload { at: clock::now(), version, hash: after.hash().into(), changes, more: 0 });
    }

    /// In the background: nothing waits for it, and a start without it only has less to go on with.
    fn keep_as_last_good(&self) {
        let Some(last_good) = self.last_good.clone() else { return };
        let (snapshot, defaults) = (self.snapshot.load_full(), self.defaults);
        in_background(move || {
            if let Err(error) = last_good.save(snapshot.version, &snapshot.rules, &defaults) {
                warn!(%error, "can't save the rules to the state directory");
            }
        });
    }
}

/// Changes of limits that one reload logs.
const LOGGED_MAX: usize = 20;

/// How often it is looked whether an old snapshot is still in use.
const IN_USE: Duration = Duration::from_millis(50);

/// Frees a snapshot when the last request is done with it, away from the threads that answer: a million overrides take
/// milliseconds.
fn retire(snapshot: Arc<Snapshot>) {
    tokio::spawn(async move {
        // Nobody can take it up any more, so that the number only falls.
        while Arc::strong_count(&snapshot) > 1 {
            tokio::time::sleep(IN_USE).await;
        }
        in_background(move || drop(snapshot));
    });
}
