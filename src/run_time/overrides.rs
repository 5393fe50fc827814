//! Run-time overrides: limits for exact values that are set while the service runs, and are in force on all replicas at
//! once. Kept in Redis beside the counters, or with the memory store in the state directory; a decision asks the set in
//! this process, never the network. Knows rules and limits, but neither protobuf nor HTTP.
//!
//! ```text
//! set, delete → redis (one script) ─ message, or poll → sync → set → index ← a decision's look-up
//!             → local (a journal) ────────────────────────────→
//! ```

mod index;
pub(super) mod local;
mod maintenance;
mod poll;
mod record;
mod redis;
mod resolved;
mod set;
mod sync;
mod write;
mod writing;

use crate::run_time::audit;
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub use crate::run_time::audit::{AuditAction, AuditEntry};
pub use index::OverrideLookup;
pub use record::{Record, RuleBinding, StoredLimit};
pub use resolved::{ResolvedMatch, ResolvedOverride};
pub use set::{Filter, OverridePage};
pub use write::Condition;

use self::{
    local::{JournalLine, LocalStorage},
    poll::{DomainWake, Polling},
    redis::RedisStorage,
    resolved::RecordReader,
    set::{OverrideSet, SetChange},
};
use crate::run_time::clock::ClockOffset;
use crate::{
    limit::UnixMicros,
    rules::{Domain, Rules},
    run_time::switches::{self, Switch, Switches},
    store::{
        StoreError,
        redis::{CommandConnection, RedisSettings},
    },
};

/// Largest number of rows in one domain. A million take 644 MB of this process (`examples/million_overrides.rs`), which
/// is as much as it should take.
pub const ROWS_MAX: usize = 1_000_000;

/// Domains of which it is noted up to which write their switches are in force.
pub const SWITCHED_NOTED: usize = 8;

/// Largest stored record in bytes; no override needs a tenth of it.
pub const RECORD_MAX: usize = 16 << 10;

/// Why a write or a read failed, split by what its author does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverridesError {
    /// Read the override again, and decide anew.
    #[error("the override has changed: its etag is {}", .version.map_or("gone".to_owned(), |version| format!("\"{version}\"")))]
    Changed { version: Option<u64> },
    #[error("there is no such override")]
    Missing,
    /// Delete some, or put them into a file.
    #[error("the domain has {ROWS_MAX} overrides, and may not have more")]
    Full,
    /// Try again in a moment.
    #[error("Redis has lost overrides, which are just being written back")]
    Restoring,
    #[error("nothing is known to have been changed: {0}")]
    Store(#[from] StoreError),
    /// Look at the disk.
    #[error("nothing was changed, because it can't be kept: {0}")]
    Disk(String),
}

/// All overrides of all domains, as this replica knows them.
pub struct Overrides {
    pub(super) storage: Storage,
    sets: Mutex<HashMap<Arc<str>, OverrideSet>>,
    /// What decisions use, of domains that have rows.
    published: ArcSwap<Published>,
    /// Switches of this replica alone, which hold before those that are stored.
    local_switches: Mutex<HashMap<Arc<str>, Switches>>,
    /// The last writes of switches that are in force here, with their domains; newest last.
    switched: watch::Sender<SwitchedUpTo>,
    /// The rules in force, or, for a moment, about to be.
    rules: ArcSwap<Rules>,
    /// The names of the rules' domains.
    domains: watch::Sender<Arc<[Arc<str>]>>,
    /// Domains whose rows must be read again, because the rules changed what their limits mean.
    stale: Mutex<Vec<Arc<str>>>,
    is_stale: Notify,
    clock: ClockOffset,
    /// For each domain that is kept up to date, how to wake its task.
    wakes: Mutex<HashMap<Arc<str>, Arc<DomainWake>>>,
    polling: Polling,
    /// Somebody asked all replicas to beat.
    fleet_called: Notify,
    /// Number of times that a domain was brought up to date with Redis.
    syncs: watch::Sender<u64>,
    /// For each domain the last time that it was known to be up to date, by this process' clock; before the first, when
    /// its task began.
    synced: Mutex<HashMap<Arc<str>, UnixMicros>>,
    /// Domains that were read completely since the start.
    read: Mutex<HashSet<Arc<str>>>,
    losses: AtomicU64,
    is_loss_logged: AtomicBool,
}

/// Domains, each with the newest write of its switches that is in force here; newest last.
pub type SwitchedUpTo = Arc<[(Arc<str>, u64)]>;

pub(super) enum Storage {
    Redis(Arc<RedisStorage>),
    Local(Arc<Mutex<LocalStorage>>),
}

type Published = HashMap<Arc<str>, DomainChanges>;

/// What is changed at run time in one domain, for decisions.
#[derive(Clone)]
pub struct DomainChanges {
    /// `None`: it has no overrides.
    pub overrides: Option<OverrideLookup>,
    /// `None`: it has no switches.
    pub switches: Option<Arc<Switches>>,
}

/// The overrides of one moment, for a decision.
pub struct View(Guard<Arc<Published>>);

/// A change that an author asks for.
pub struct ChangeRequest<'a> {
    pub domain: &'a str,
    pub id: &'a str,
    /// `None` deletes.
    pub record: Option<&'a str>,
    pub condition: Condition,
    /// Name of the author's token.
    pub token: &'a str,
    pub reason: &'a str,
}

/// The result of a write.
#[derive(Debug, PartialEq, Eq)]
pub struct WriteReceipt {
    pub version: u64,
    /// The record before the write.
    pub before: Option<Box<str>>,
}

/// Numbers of one domain for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainStats {
    pub domain: Box<str>,
    pub rows: usize,
    /// How many of these have ended.
    pub expired: usize,
    pub generation: u64,
    /// Time since this replica last knew that it is up to date; zero if only this process writes.
    pub age: Duration,
}

/// How far this process knows a domain.
#[derive(Clone, Copy, Debug, Default)]
struct DomainProgress {
    generation: u64,
    newest: u64,
    rows: usize,
}

impl Overrides {
    /// Overrides that are stored in Redis.
    pub fn in_redis(connection: CommandConnection) -> Overrides {
        Overrides::with(Storage::Redis(Arc::new(RedisStorage::new(connection))))
    }

    /// The channel that `connection` must subscribe to.
    pub fn channel(settings: &RedisSettings) -> String {
        RedisStorage::channel(settings)
    }

    /// Overrides that are stored in this process, and in `directory` if there is one.
    pub fn in_process(directory: Option<&Path>) -> std::io::Result<Overrides> {
        let (local, lines) = LocalStorage::open(directory)?;
        let overrides = Overrides::with(Storage::Local(Arc::new(Mutex::new(local))));
        for line in lines {
            let JournalLine { domain, id, version, record } = line;
            let change = match record {
                Some(record) => SetChange::Put(id, version, record),
                None => SetChange::Gone(id, version),
            };
            let mut sets = overrides.sets.lock();
            overrides.set(&mut sets, &domain).apply(&domain, vec![change]);
        }
        Ok(overrides)
    }

    fn with(storage: Storage) -> Overrides {
        Overrides {
            storage,
            sets: Mutex::default(),
            published: ArcSwap::default(),
            local_switches: Mutex::default(),
            switched: watch::Sender::new(Arc::default()),
            rules: ArcSwap::default(),
            domains: watch::Sender::new(Arc::default()),
            stale: Mutex::default(),
            is_stale: Notify::new(),
            clock: ClockOffset::default(),
            wakes: Mutex::default(),
            polling: Polling::default(),
            fleet_called: Notify::new(),
            syncs: watch::Sender::new(0),
            synced: Mutex::default(),
            read: Mutex::default(),
            losses: AtomicU64::new(0),
            is_loss_logged: AtomicBool::new(false),
        }
    }

    /// Waits until somebody asks all replicas to beat.
    pub async fn called(&self) {
        self.fleet_called.notified().await;
    }

    /// Whether the overrides of every domain have been read since the start. Until then rules decide without them.
    pub fn are_read(&self) -> bool {
        match self.storage {
            Storage::Local(_) => true,
            Storage::Redis(_) => {
                let read = self.read.lock();
                self.domains.borrow().iter().all(|domain| read.contains(domain))
            }
        }
    }

    /// The overrides for a decision. Load the decision's rules before: then this knows them.
    pub fn view(&self) -> View {
        View(self.published.load())
    }

    /// As [`Overrides::view`], for a decision that awaits something.
    pub fn view_across_await(&self) -> View {
        View(Guard::from_inner(self.published.load_full()))
    }

    /// Reads a record as it would apply now.
    pub fn read(&self, domain: &str, id: &str, version: u64, record: &str) -> ResolvedOverride {
        let mut sets = self.sets.lock();
        self.set(&mut sets, domain).reader.row(domain, id.into(), version, record.into())
    }

    /// Prepares for decisions by these rules, before they are in force, so that a decision finds its overrides both by
    /// the old rules and by the new ones.
    pub fn prepare(&self, rules: &Rules) {
        self.rules.store(Arc::new(rules.clone()));
        let mut sets = self.sets.lock();
        let mut stale = Vec::new();
        for (name, set) in sets.iter_mut() {
            let domain = rules.domain(name).map(|index| Arc::clone(&rules.domains()[index.0 as usize]));
            let is_same = match (set.reader.domain(), &domain) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
            if is_same {
                continue;
            }
            let (reader, differs) = set.reader.renewed(domain);
            set.before = std::mem::replace(&mut set.reader, reader).domain().cloned();
            if differs {
                stale.push(Arc::clone(name));
            }
        }
        self.publish_all(&mut sets);
        drop(sets);
        let names: Arc<[Arc<str>]> = rules.domains().iter().map(|domain| Arc::from(domain.name())).collect();
        self.domains.send_if_modified(|known| {
            let differs = **known != *names;
            *known = names;
            differs
        });
        self.stale.lock().extend(stale);
        self.is_stale.notify_one();
    }

    /// `now` of this process, by the clock that ends overrides on all replicas.
    pub fn wall(&self, now: UnixMicros) -> UnixMicros {
        self.clock.wall(now)
    }

    /// Whether overrides stay over a restart of this process.
    pub fn is_kept(&self) -> bool {
        match &self.storage {
            Storage::Redis(_) => true,
            Storage::Local(local) => local.lock().is_kept(),
        }
    }

    pub fn get(&self, domain: &str, id: &str) -> Option<Arc<ResolvedOverride>> {
        self.sets.lock().get(domain).and_then(|set| set.get(id).cloned())
    }

    /// Up to `at_most` rows after the id `after`. There may be fewer even if there are more rows.
    pub fn list(&self, domain: &str, filter: Filter<'_>, after: Option<&str>, at_most: usize) -> OverridePage {
        let sets = self.sets.lock();
        sets.get(domain).map_or(OverridePage { rows: Vec::new(), next: None }, |set| set.list(filter, after, at_most))
    }

    /// Audit entries of one domain, or of several, before `before` (an id and its domain; `None` for the newest), newest
    /// first, with their domains.
    pub async fn audit(
        &self,
        domains: &[&str],
        before: Option<(&str, &str)>,
        at_most: usize,
    ) -> Result<Vec<(Box<str>, AuditEntry)>, OverridesError> {
        let mut entries = Vec::new();
        for domain in domains {
            // Several domains may have an entry with the same id in one millisecond: these are in order of domain.
            let (id, after_it) = match before {
                Some((id, last)) => (id, *domain > last),
                None => ("", false),
            };
            let next = after_it.then(|| audit::following(id)).flatten();
            let before = next.as_deref().unwrap_or(id);
            match &self.storage {
                Storage::Redis(remote) => {
                    let of_domain = remote.audit(domain, before, at_most).await?;
                    entries.extend(of_domain.into_iter().map(|entry| ((*domain).into(), entry)));
                }
                Storage::Local(local) => entries.extend(local.lock().audit(domain, before, at_most)),
            }
        }
        let order = |(domain, entry): &(Box<str>, AuditEntry)| {
            (std::cmp::Reverse(audit::entry_order(&entry.id)), domain.clone())
        };
        entries.sort_by_cached_key(order);
        entries.truncate(at_most);
        Ok(entries)
    }

    /// Applies changes to the set, and puts them in force.
    fn apply(&self, domain: &str, changes: Vec<SetChange>) {
        if changes.is_empty() {
            return;
        }
        let switched = changes.iter().filter(|change| switches::target_of(change.id()).is_some());
        let switched = switched.map(SetChange::version).max();
        let mut sets = self.sets.lock();
        self.set(&mut sets, domain).apply(domain, changes);
        self.publish(&mut sets, domain);
        if let Some(version) = switched {
            self.note_switched(domain, version);
        }
    }

    /// Notes that the switches of a domain are in force here up to this version.
    fn note_switched(&self, domain: &str, version: u64) {
        self.switched.send_modify(|noted| {
            let others = noted.iter().filter(|(known, _)| **known != *domain).cloned();
            let newest = noted.iter().filter(|(known, _)| **known == *domain).map(|(_, version)| *version);
            let own = (Arc::from(domain), newest.chain([version]).max().unwrap_or(version));
            let mut all: Vec<(Arc<str>, u64)> = others.chain([own]).collect();
            all.drain(..all.len().saturating_sub(SWITCHED_NOTED));
            *noted = all.into();
        });
    }

    /// The newest writes of switches that are in force here, with their domains: the last [`SWITCHED_NOTED`] domains.
    pub fn switched(&self) -> watch::Receiver<SwitchedUpTo> {
        self.switched.subscribe()
    }

    /// The switches of a domain, also those that have ended of late, with those of this replica alone in their places.
    pub fn switches(&self, domain: &str) -> Arc<Switches> {
        let sets = self.sets.lock();
        let stored = sets.get(domain).map(|set| Arc::clone(&set.switches)).unwrap_or_default();
        match self.local_switches.lock().get(domain) {
            Some(local) => Arc::new(stored.overlaid_by(local)),
            None => stored,
        }
    }

    /// Puts a switch in force on this replica alone, or with `None` takes it back; nothing is stored. Returns what it
    /// replaces.
    pub fn switch_here(&self, domain: &str, target: &str, switch: Option<Switch>) -> Option<Arc<Switch>> {
        let mut sets = self.sets.lock();
        self.set(&mut sets, domain);
        let before = {
            let mut local = self.local_switches.lock();
            let of_domain = local.entry(Arc::from(domain)).or_default();
            let before = of_domain.get(target).cloned();
            match switch {
                Some(switch) => of_domain.put(switch),
                None => of_domain.remove(target),
            }
            before
        };
        self.publish(&mut sets, domain);
        before
    }

    /// Limits that this replica alone has switched.
    pub fn count_switched_here(&self) -> u32 {
        self.local_switches.lock().values().map(|of_domain| of_domain.iter().count() as u32).sum()
    }

    /// The newest write that is in force here, over all domains.
    pub fn newest_generation(&self) -> u64 {
        self.sets.lock().values().map(|set| set.generation.max(set.newest)).max().unwrap_or(0)
    }

    /// Whether this replica alone has a switch for the target.
    pub fn is_switched_here(&self, domain: &str, target: &str) -> bool {
        self.local_switches.lock().get(domain).is_some_and(|local| local.get(target).is_some())
    }

    fn set<'s>(&self, sets: &'s mut HashMap<Arc<str>, OverrideSet>, name: &str) -> &'s mut OverrideSet {
        if !sets.contains_key(name) {
            sets.insert(name.into(), OverrideSet::new(RecordReader::new(self.rules_of(name))));
        }
        sets.get_mut(name).expect("it was just put there")
    }

    fn rules_of(&self, name: &str) -> Option<Arc<Domain>> {
        let rules = self.rules.load();
        rules.domain(name).map(|index| Arc::clone(&rules.domains()[index.0 as usize]))
    }

    /// Publishes the indexes. The caller holds the lock, so that the later of two changes is published later.
    fn publish(&self, sets: &mut HashMap<Arc<str>, OverrideSet>, name: &str) {
        let mut published = Published::clone(&self.published.load());
        published.remove(name);
        if let Some((name, changes)) = self.changes(sets, name) {
            published.insert(name, changes);
        }
        self.published.store(Arc::new(published));
    }

    fn publish_all(&self, sets: &mut HashMap<Arc<str>, OverrideSet>) {
        let names: Vec<Arc<str>> = sets.keys().cloned().collect();
        let changes = names.iter().filter_map(|name| self.changes(sets, name));
        self.published.store(Arc::new(changes.collect()));
    }

    fn changes(&self, sets: &mut HashMap<Arc<str>, OverrideSet>, name: &str) -> Option<(Arc<str>, DomainChanges)> {
        let name = Arc::clone(sets.get_key_value(name)?.0);
        let set = sets.get_mut(&name)?;
        let domain = set.reader.domain().cloned()?;
        let overrides = set.index.lookup(&domain, set.before.as_ref());
        let switches = match self.local_switches.lock().get(&name) {
            Some(local) => Arc::new(set.switches.overlaid_by(local)),
            None => Arc::clone(&set.switches),
        };
        let switches = Some(switches).filter(|switches| !switches.is_empty());
        (overrides.is_some() || switches.is_some()).then_some((name, DomainChanges { overrides, switches }))
    }

    fn known(&self, domain: &str) -> DomainProgress {
        let known =
            |set: &OverrideSet| DomainProgress { generation: set.generation, newest: set.newest, rows: set.len() };
        self.sets.lock().get(domain).map(known).unwrap_or_default()
    }

    /// Notes that all changes up to `generation` are in the set.
    fn reached(&self, domain: &str, generation: u64) {
        let mut sets = self.sets.lock();
        self.set(&mut sets, domain).generation = generation;
    }

    fn rows_after(&self, domain: &str, after: Option<&str>, at_most: usize) -> Vec<Arc<ResolvedOverride>> {
        self.sets.lock().get(domain).map_or_else(Vec::new, |set| set.after(after, at_most))
    }
}

impl View {
    /// What is changed in one domain; `None` if nothing is.
    pub fn domain(&self, name: &str) -> Option<&DomainChanges> {
        // Mostly nothing is changed at all.
        if self.0.is_empty() { None } else { self.0.get(name) }
    }
}
