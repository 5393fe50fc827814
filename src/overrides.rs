//! Run-time overrides: limits for exact values that are set while the service runs, and are in force on all replicas at
//! once. Kept in Redis beside the counters, or with the memory store in the state directory; a decision asks the set in
//! this process, never the network. Knows rules and limits, but neither protobuf nor HTTP.
//!
//! ```text
//! set, delete → redis (one script) ─ news → sync → set → index ← a decision's look-up
//!             → local (a journal) ───────────────→
//! ```

mod audit;
mod clock;
mod index;
mod keeping;
mod local;
mod redis;
mod row;
mod set;
mod sync;
mod write;
mod writing;

use std::{
    collections::HashMap,
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

pub use audit::{Action, AuditEntry};
pub use keeping::Domains;
pub use row::{Record, Row};
pub use set::{Filter, Page};
pub use write::Condition;

use self::{
    clock::Offset,
    index::Index,
    local::{Line, Local},
    redis::Remote,
    set::{Change, Set},
};
use crate::{
    limit::{Entry, UnixMicros},
    store::{
        StoreError,
        redis::{RedisSettings, Side},
    },
};

/// Rows of one domain. A million cost this process about half a gigabyte, which is as much as it should be made to take.
pub const ROWS_MAX: usize = 1_000_000;

/// Bytes of a stored record: no override needs a tenth of it.
pub const RECORD_MAX: usize = 16 << 10;

/// Why a write or a question was not answered, split by what its author does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverridesError {
    /// Look again at what is there, and decide anew.
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
    home: Home,
    sets: Mutex<HashMap<Arc<str>, Set>>,
    /// What decisions look into: domains that have rows.
    published: ArcSwap<HashMap<Arc<str>, Index>>,
    clock: Offset,
    /// By domain, of those that are kept up to date.
    wakes: Mutex<HashMap<Arc<str>, Arc<Notify>>>,
    /// Counts looks at Redis that ended well.
    looks: watch::Sender<u64>,
    /// By the clock of this process, the last time that a domain was known to be up to date.
    synced: Mutex<HashMap<Arc<str>, UnixMicros>>,
    losses: AtomicU64,
    said_unkept: AtomicBool,
}

enum Home {
    Redis(Arc<Remote>),
    Local(Arc<Mutex<Local>>),
}

/// A decision's look at the overrides of this moment.
pub struct View<'a> {
    published: Guard<Arc<HashMap<Arc<str>, Index>>>,
    domain: &'a str,
}

/// What an author wants changed.
pub struct Wish<'a> {
    pub domain: &'a str,
    pub id: &'a str,
    /// `None` deletes.
    pub record: Option<&'a str>,
    pub condition: Condition,
    /// The name of the author's token.
    pub token: &'a str,
    pub reason: &'a str,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    pub version: u64,
    /// The record that was there before.
    pub before: Option<Box<str>>,
}

/// What the metrics show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub domain: Box<str>,
    pub rows: usize,
    /// Of them, those that have ended.
    pub expired: usize,
    pub generation: u64,
    /// Since this replica last knew that it is up to date; zero where nobody else writes.
    pub age: Duration,
}

/// What is known of a domain.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    generation: u64,
    newest: u64,
    rows: usize,
}

impl Overrides {
    /// Kept in Redis.
    pub fn in_redis(side: Side) -> Overrides {
        Overrides::with(Home::Redis(Arc::new(Remote::new(side))))
    }

    /// The channel on which `side` must listen.
    pub fn channel(settings: &RedisSettings) -> String {
        Remote::channel(settings)
    }

    /// Kept in this process, and in `directory` where there is one.
    pub fn here(directory: Option<&Path>) -> std::io::Result<Overrides> {
        let (local, lines) = Local::open(directory)?;
        let overrides = Overrides::with(Home::Local(Arc::new(Mutex::new(local))));
        for line in lines {
            let Line { domain, id, version, record } = line;
            let change = match record {
                Some(record) => Change::Put(overrides.read(&domain, id, version, record)),
                None => Change::Gone(id, version),
            };
            overrides.sets.lock().entry((&*domain).into()).or_default().apply([change]);
        }
        let sets = overrides.sets.lock();
        sets.keys().for_each(|domain| overrides.publish(&sets, domain));
        drop(sets);
        Ok(overrides)
    }

    fn with(home: Home) -> Overrides {
        Overrides {
            home,
            sets: Mutex::default(),
            published: ArcSwap::default(),
            clock: Offset::default(),
            wakes: Mutex::default(),
            looks: watch::Sender::new(0),
            synced: Mutex::default(),
            losses: AtomicU64::new(0),
            said_unkept: AtomicBool::new(false),
        }
    }

    /// What a decision of `domain` looks into.
    pub fn view<'a>(&self, domain: &'a str) -> View<'a> {
        View { published: self.published.load(), domain }
    }

    /// `now` of this process, on the clock that all replicas end overrides by.
    pub fn wall(&self, now: UnixMicros) -> UnixMicros {
        self.clock.wall(now)
    }

    /// Whether what is written stays over a restart of this process.
    pub fn is_kept(&self) -> bool {
        match &self.home {
            Home::Redis(_) => true,
            Home::Local(local) => local.lock().is_kept(),
        }
    }

    pub fn get(&self, domain: &str, id: &str) -> Option<Arc<Row>> {
        self.sets.lock().get(domain).and_then(|set| set.get(id).cloned())
    }

    /// Up to `at_most` rows after the id `after`; maybe fewer, though there are more.
    pub fn list(&self, domain: &str, filter: Filter<'_>, after: Option<&str>, at_most: usize) -> Page {
        let sets = self.sets.lock();
        sets.get(domain).map_or(Page { rows: Vec::new(), next: None }, |set| set.list(filter, after, at_most))
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
            // In one millisecond several domains may each have an entry of the same id: those are in order of domain.
            let (id, after_it) = match before {
                Some((id, last)) => (id, *domain > last),
                None => ("", false),
            };
            let next = after_it.then(|| audit::following(id)).flatten();
            let before = next.as_deref().unwrap_or(id);
            match &self.home {
                Home::Redis(remote) => {
                    let of_domain = remote.audit(domain, before, at_most).await?;
                    entries.extend(of_domain.into_iter().map(|entry| ((*domain).into(), entry)));
                }
                Home::Local(local) => entries.extend(local.lock().audit(domain, before, at_most)),
            }
        }
        let order =
            |(domain, entry): &(Box<str>, AuditEntry)| (std::cmp::Reverse(audit::place(&entry.id)), domain.clone());
        entries.sort_by_cached_key(order);
        entries.truncate(at_most);
        Ok(entries)
    }

    /// A row as its record says, by the rules of this moment. A record that can't be read is kept and matches nothing.
    fn read(&self, domain: &str, id: Box<str>, version: u64, record: Box<str>) -> Row {
        let (row, wrong) = Row::read(id, version, record);
        if let Some(why) = wrong {
            tracing::warn!(domain, id = &*row.id, why, "an override can't be read, and matches nothing");
        }
        row
    }

    /// Takes changes into the set, and puts them in force.
    fn apply(&self, domain: &str, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut sets = self.sets.lock();
        match sets.get_mut(domain) {
            Some(set) => set.apply(changes),
            None => sets.entry(domain.into()).or_default().apply(changes),
        }
        self.publish(&sets, domain);
    }

    /// The lock is held, so that of two changes the later is published later.
    fn publish(&self, sets: &HashMap<Arc<str>, Set>, domain: &str) {
        let mut published = HashMap::clone(&self.published.load());
        match sets.get_key_value(domain).filter(|(_, set)| !set.index().is_empty()) {
            Some((domain, set)) => published.insert(Arc::clone(domain), set.index().clone()),
            None => published.remove(domain),
        };
        self.published.store(Arc::new(published));
    }

    fn known(&self, domain: &str) -> Known {
        let known = |set: &Set| Known { generation: set.generation, newest: set.newest, rows: set.len() };
        self.sets.lock().get(domain).map(known).unwrap_or_default()
    }

    /// All changes up to `generation` are in the set.
    fn reached(&self, domain: &str, generation: u64) {
        if let Some(set) = self.sets.lock().get_mut(domain) {
            set.generation = generation;
        } else if generation > 0 {
            self.sets.lock().entry(domain.into()).or_default().generation = generation;
        }
    }

    fn rows_after(&self, domain: &str, after: Option<&str>, at_most: usize) -> Vec<Arc<Row>> {
        self.sets.lock().get(domain).map_or_else(Vec::new, |set| set.after(after, at_most))
    }
}

impl View<'_> {
    /// The override that holds for a descriptor that ends at `rule`.
    pub fn find(&self, rule: &str, entries: &[Entry<'_>], now: UnixMicros) -> Option<&Arc<Row>> {
        self.published.get(self.domain)?.find(rule, entries, now)
    }
}
