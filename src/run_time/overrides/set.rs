//! The rows of one domain that this replica knows: by id for lists, by match for decisions. Writers lock; a decision
//! borrows an index that never changes. It doesn't know where rows come from.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::{
    index::Index,
    resolved::{RecordReader, ResolvedOverride},
};
use crate::{
    limit::UnixMicros,
    rules::Domain,
    run_time::switches::{self, Switch, Switches},
};

/// Number of rows that one page of a list reads at most: the lock is held for about a millisecond.
const LOOKED_AT_MAX: usize = 10_000;

/// The rows of a domain that this process knows, and how new they are.
pub(super) struct OverrideSet {
    rows: BTreeMap<Box<str>, Arc<ResolvedOverride>>,
    /// The rows that end, soonest first.
    ending: BTreeSet<(UnixMicros, Box<str>)>,
    pub index: Index,
    /// The switches among the rows.
    pub switches: Arc<Switches>,
    /// Reads rows by the rules in force.
    pub reader: RecordReader,
    /// The rules before, which some decisions may still use.
    pub before: Option<Arc<Domain>>,
    /// The generation up to which all changes are in the rows; 0 before the first full read.
    pub generation: u64,
    /// The version of the newest row that was ever here.
    pub newest: u64,
}

/// A change, with id and version.
pub(super) enum SetChange {
    /// The row has this record.
    Put(Box<str>, u64, Box<str>),
    /// The row is gone, in all versions up to this one.
    Gone(Box<str>, u64),
}

impl SetChange {
    pub(super) fn id(&self) -> &str {
        match self {
            SetChange::Put(id, ..) | SetChange::Gone(id, _) => id,
        }
    }

    pub(super) fn version(&self) -> u64 {
        match self {
            SetChange::Put(_, version, _) | SetChange::Gone(_, version) => *version,
        }
    }
}

/// Which rows a list shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Only rows whose match has this key; empty for all.
    pub key: &'a str,
    /// Only rows whose value of the key begins so.
    pub value_prefix: &'a str,
}

/// A part of a list.
pub struct OverridePage {
    pub rows: Vec<Arc<ResolvedOverride>>,
    /// The id after which the next page begins; `None` for the last.
    pub next: Option<Box<str>>,
}

impl OverrideSet {
    pub(super) fn new(reader: RecordReader) -> OverrideSet {
        let (rows, ending, index) = (BTreeMap::new(), BTreeSet::new(), Index::default());
        OverrideSet { rows, ending, index, switches: Arc::default(), reader, before: None, generation: 0, newest: 0 }
    }

    /// Applies changes, in whatever order they come: the newer version wins.
    pub(super) fn apply(&mut self, domain: &str, changes: Vec<SetChange>) {
        for change in changes {
            match change {
                SetChange::Put(id, version, record) => {
                    if self.rows.get(&id).is_none_or(|known| known.version < version) {
                        let row = self.reader.row(domain, id, version, record);
                        warn_of(domain, &row);
                        self.put(row);
                    }
                }
                SetChange::Gone(id, version) => {
                    if self.rows.get(&id).is_some_and(|known| known.version <= version) {
                        self.remove(&id);
                    }
                }
            }
        }
    }

    /// Reads these rows again by the rules in force, if they haven't changed.
    pub(super) fn read_again(&mut self, domain: &str, rows: &[Arc<ResolvedOverride>]) {
        for row in rows {
            if self.rows.get(&row.id).is_some_and(|known| Arc::ptr_eq(known, row)) {
                let again = self.reader.row(domain, row.id.clone(), row.version, row.record.clone());
                if again.warning != row.warning {
                    warn_of(domain, &again);
                }
                self.put(again);
            }
        }
    }

    /// Inserts a row in place of the one with its id.
    pub(super) fn put(&mut self, mut row: ResolvedOverride) {
        self.remove(&row.id);
        self.newest = self.newest.max(row.version);
        if let Some(expires) = row.expires {
            self.ending.insert((expires, row.id.clone()));
        }
        if let Some(matches) = &mut row.matches
            && let Some(shared) = self.index.shared_shape(&matches.shape)
        {
            matches.shape = shared;
        }
        if let Some(switch) = Switch::read(&row.id, row.version, &row.record) {
            Arc::make_mut(&mut self.switches).put(switch);
        }
        let row = Arc::new(row);
        self.index.insert(Arc::clone(&row));
        self.rows.insert(row.id.clone(), row);
    }

    pub(super) fn remove(&mut self, id: &str) {
        let Some(row) = self.rows.remove(id) else { return };
        if let Some(expires) = row.expires {
            self.ending.remove(&(expires, row.id.clone()));
        }
        if let Some(target) = switches::target_of(id) {
            Arc::make_mut(&mut self.switches).remove(target);
        }
        self.index.remove(&row);
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<ResolvedOverride>> {
        self.rows.get(id)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Arc<ResolvedOverride>> {
        self.rows.values()
    }

    /// Up to `at_most` rows after `after`, in the order of ids.
    pub(super) fn after(&self, after: Option<&str>, at_most: usize) -> Vec<Arc<ResolvedOverride>> {
        self.range(after).take(at_most).cloned().collect()
    }

    /// Up to `at_most` rows that had ended by `moment`.
    pub(super) fn ended(&self, moment: UnixMicros, at_most: usize) -> Vec<(Box<str>, u64)> {
        let ended = self.ending.iter().take_while(|(expires, _)| *expires <= moment).take(at_most);
        ended.map(|(_, id)| (id.clone(), self.rows[id].version)).collect()
    }

    /// Number of rows that have ended and are still there.
    pub(super) fn expired(&self, now: UnixMicros) -> usize {
        self.ending.iter().take_while(|(expires, _)| *expires <= now).count()
    }

    pub(super) fn list(&self, filter: Filter<'_>, after: Option<&str>, at_most: usize) -> OverridePage {
        let mut page = OverridePage { rows: Vec::new(), next: None };
        let mut last = None;
        for (looked_at, row) in self.range(after).enumerate() {
            if page.rows.len() == at_most || looked_at == LOOKED_AT_MAX {
                page.next = last;
                break;
            }
            let is_wanted = filter.key.is_empty() || row.matches_on(filter.key, filter.value_prefix);
            if is_wanted && switches::target_of(&row.id).is_none() {
                page.rows.push(Arc::clone(row));
            }
            last = Some(row.id.clone());
        }
        page
    }

    fn range(&self, after: Option<&str>) -> impl Iterator<Item = &Arc<ResolvedOverride>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range::<str, _>((from, Bound::Unbounded)).map(|(_, row)| row)
    }
}

fn warn_of(domain: &str, row: &ResolvedOverride) {
    if let Some(warning) = &row.warning {
        tracing::warn!(domain, id = &*row.id, warning = &**warning, "a run-time override is not applied as written");
    }
}
