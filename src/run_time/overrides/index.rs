//! Rows by their match. An index never changes once decisions have it: a change copies the few hundred pointers next to
//! it and shares the rest, so a decision borrows one whole state and never waits. It doesn't know how rows are read.

use std::{collections::HashMap, sync::Arc};

use hashbrown::HashTable;

use super::resolved::{ResolvedMatch, ResolvedOverride};
use crate::{
    limit::{Entry, UnixMicros},
    rules::{
        Domain, Rule,
        rows::{Probe, Shape, ShapeScope, hash, probes},
    },
};

/// Branches on each of two levels: with a million rows a leaf has 244.
const BRANCHES: usize = 64;

/// The rows of a domain, for writers.
#[derive(Default)]
pub(super) struct Index {
    rows: RowTrie,
    /// The shapes, with the number of rows of each.
    shapes: HashMap<Arc<Shape>, usize>,
    /// Depends on the shapes and the rules; `None` until it is made anew.
    probes: Option<ProbeSets>,
}

/// All rows of a domain at one moment, for decisions.
#[derive(Clone)]
pub struct OverrideLookup {
    rows: RowTrie,
    probes: ProbeSets,
}

/// 64 nodes of 64 leaves; empty at first.
#[derive(Clone, Default)]
struct RowTrie(Arc<Vec<Arc<Vec<Arc<Leaf>>>>>);

type Leaf = HashTable<Arc<ResolvedOverride>>;

/// How each rule looks up its overrides: by the rules in force, and by the rules before, for decisions that began
/// before the last reload.
#[derive(Clone)]
struct ProbeSets {
    now: Arc<ProbeSet>,
    before: Option<Arc<ProbeSet>>,
}

struct ProbeSet {
    domain: Arc<Domain>,
    shapes: Vec<Arc<Shape>>,
    /// The probes of each rule, by [`Rule::index`]; their shapes are positions in `shapes`.
    probes: Vec<Box<[Probe]>>,
}

impl Index {
    /// Inserts a row. Rows of one shape share it.
    pub(super) fn insert(&mut self, row: Arc<ResolvedOverride>) {
        let Some(matches) = &row.matches else { return };
        match self.shapes.get_mut(&matches.shape) {
            Some(rows) => *rows += 1,
            None => {
                self.shapes.insert(Arc::clone(&matches.shape), 1);
                self.probes = None;
            }
        }
        let hash = matches.hash;
        self.rows.leaf(hash).insert_unique(hash, row, |row| row.matches.as_ref().map_or(0, |matches| matches.hash));
    }

    /// The shared shape that equals this one, if there is one.
    pub(super) fn shared_shape(&self, shape: &Arc<Shape>) -> Option<Arc<Shape>> {
        self.shapes.get_key_value(shape).map(|(shared, _)| Arc::clone(shared))
    }

    pub(super) fn remove(&mut self, row: &Arc<ResolvedOverride>) {
        let Some(matches) = &row.matches else { return };
        let found = self.rows.leaf(matches.hash).find_entry(matches.hash, |other| Arc::ptr_eq(other, row));
        let Ok(found) = found else { return };
        found.remove();
        if let Some(rows) = self.shapes.get_mut(&matches.shape) {
            *rows -= 1;
            if *rows == 0 {
                self.shapes.remove(&matches.shape);
                self.probes = None;
            }
        }
    }

    /// The overrides for decisions; `None` if there are none. `domain` has the rules in force, `before` those that some
    /// decisions may still use.
    pub(super) fn lookup(&mut self, domain: &Arc<Domain>, before: Option<&Arc<Domain>>) -> Option<OverrideLookup> {
        if self.shapes.is_empty() {
            return None;
        }
        let is_fresh = |probe_sets: &&ProbeSets| Arc::ptr_eq(&probe_sets.now.domain, domain);
        let probe_sets = match self.probes.as_ref().filter(is_fresh) {
            Some(probe_sets) => probe_sets.clone(),
            None => {
                let shapes: Vec<Arc<Shape>> = self.shapes.keys().cloned().collect();
                let probe_set = |domain: &Arc<Domain>| Arc::new(ProbeSet::new(Arc::clone(domain), shapes.clone()));
                ProbeSets { now: probe_set(domain), before: before.map(probe_set) }
            }
        };
        self.probes = Some(probe_sets.clone());
        Some(OverrideLookup { rows: self.rows.clone(), probes: probe_sets })
    }
}

impl OverrideLookup {
    /// The row that applies to a descriptor which matched `rule`, and the probe that found it: the row with most keys;
    /// among those the one with the leftmost key; then one for this rule only; then the one that was written last. Rows
    /// that have ended don't count; `now` is only called for rows that end.
    pub fn find(
        &self,
        domain: &Domain,
        rule: &Rule,
        entries: &[Entry<'_>],
        now: impl Fn() -> UnixMicros,
    ) -> Option<(&Arc<ResolvedOverride>, &Probe)> {
        let mut found = None;
        self.walk(domain, rule, entries, |row, probe| {
            let lives = row.expires.is_none_or(|expires| now() < expires);
            found = lives.then_some((row, probe));
            lives
        });
        found
    }

    /// Visits the rows that fit, best first, until `visit` returns a result.
    pub fn walk<'l>(
        &'l self,
        domain: &Domain,
        rule: &Rule,
        entries: &[Entry<'_>],
        mut visit: impl FnMut(&'l Arc<ResolvedOverride>, &'l Probe) -> bool,
    ) {
        let probe_sets = [Some(&self.probes.now), self.probes.before.as_ref()];
        let probe_set = probe_sets.into_iter().flatten().find(|probe_set| std::ptr::eq(&*probe_set.domain, domain));
        let Some(probe_set) = probe_set else { return };
        for probe in &probe_set.probes[rule.index as usize] {
            let shape = &probe_set.shapes[probe.shape as usize];
            let values = probe.values(entries);
            let hash = hash(0, values.clone());
            let Some(leaf) = self.rows.find(hash) else { continue };
            let is_it = |matches: &ResolvedMatch| {
                matches.hash == hash
                    && (Arc::ptr_eq(&matches.shape, shape) || matches.shape == *shape)
                    && matches.values.iter().map(|value| &**value).eq(values.clone())
            };
            let fits = |row: &&Arc<ResolvedOverride>| row.matches.as_ref().is_some_and(is_it);
            // Nearly always one row; later ones come first.
            let mut last = u64::MAX;
            let next = |last: u64| leaf.iter_hash(hash).filter(fits).filter(move |row| row.version < last);
            while let Some(row) = next(last).max_by_key(|row| row.version) {
                if visit(row, probe) {
                    return;
                }
                last = row.version;
            }
        }
    }
}

impl RowTrie {
    fn find(&self, hash: u64) -> Option<&Leaf> {
        let node = self.0.get(branch(hash >> 6))?;
        node.get(branch(hash)).map(|leaf| &**leaf)
    }

    fn leaf(&mut self, hash: u64) -> &mut Leaf {
        let nodes = Arc::make_mut(&mut self.0);
        if nodes.is_empty() {
            let leaf = Arc::new(Leaf::default());
            let node = Arc::new(vec![leaf; BRANCHES]);
            *nodes = vec![node; BRANCHES];
        }
        let node = Arc::make_mut(&mut nodes[branch(hash >> 6)]);
        Arc::make_mut(&mut node[branch(hash)])
    }
}

/// The table in a leaf uses the upper and lower bits; these are others.
fn branch(hash: u64) -> usize {
    (hash >> 20) as usize % BRANCHES
}

impl ProbeSet {
    fn new(domain: Arc<Domain>, shapes: Vec<Arc<Shape>>) -> ProbeSet {
        let mut of_domain: Vec<u32> = Vec::new();
        let mut of_rules: HashMap<&str, Vec<u32>> = HashMap::new();
        for (index, shape) in (0..).zip(&shapes) {
            match &shape.scope {
                ShapeScope::Domain => of_domain.push(index),
                ShapeScope::Rule { id, .. } => of_rules.entry(id).or_default().push(index),
            }
        }
        let of_rule = |rule: &Rule| {
            let own = of_rules.get(&*rule.id).into_iter().flatten().chain(&of_domain);
            let own: Vec<u32> = own.copied().collect();
            let mut probes = probes(rule, own.iter().map(|index| &*shapes[*index as usize]));
            probes.iter_mut().for_each(|probe| probe.shape = own[probe.shape as usize]);
            probes.into()
        };
        let probes = domain.rules().iter().map(of_rule).collect();
        ProbeSet { probes, shapes, domain }
    }
}
