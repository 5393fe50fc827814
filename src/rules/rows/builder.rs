//! Collects rows while they are read. Once all are there, it finds duplicates, puts rows with the same match in order,
//! and sets how each rule looks up its overrides.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use super::{
    OverrideLimits, OverrideRow, Shape,
    records::{NEVER, NONE, RecordHeader},
    row_index::{IndexedRow, RowIndex},
    row_key::RowKey,
    shape::{ShapeScope, probes},
    table::{OverrideTable, RowRef, RowSource},
};
use crate::{
    limit::UnixMicros,
    rules::{Rule, node::Location, problem::ProblemCollector, warning::Warning},
};

/// Collects the rows of a domain.
#[derive(Default)]
pub(crate) struct TableBuilder {
    table: OverrideTable,
    limits: Vec<Arc<OverrideLimits>>,
    known_limits: HashMap<Arc<OverrideLimits>, u32>,
    shapes: HashMap<Shape, u32>,
    /// Whether there is more text than positions can address.
    is_full: bool,
}

/// A row without its match.
#[derive(Clone, Copy)]
pub(crate) struct RowDetails<'r> {
    pub(crate) limits: u32,
    pub(crate) expires: Option<UnixMicros>,
    pub(crate) reason: &'r str,
    pub(crate) owner: &'r str,
}

impl TableBuilder {
    /// The number of the source of the rows that follow. Inline rows win over files, and later files over earlier ones.
    pub(crate) fn origin(&mut self, path: &Arc<PathBuf>, is_inline: bool) -> u32 {
        let origins = &mut self.table.sources;
        let known = origins.iter().position(|origin| origin.is_inline == is_inline && origin.path == *path);
        known.unwrap_or_else(|| {
            origins.push(RowSource { path: Arc::clone(path), is_inline, rows: 0 });
            origins.len() - 1
        }) as u32
    }

    pub(crate) fn limits(&mut self, limits: OverrideLimits) -> u32 {
        let all_limits = &mut self.limits;
        *self.known_limits.entry(Arc::new(limits)).or_insert_with_key(|limits| {
            all_limits.push(Arc::clone(limits));
            all_limits.len() as u32 - 1
        })
    }

    /// Limits that deny only a share of clients, by their number; `None` for all others.
    pub(crate) fn partial(&self, limits: u32) -> Option<Arc<OverrideLimits>> {
        let limits = &self.limits[limits as usize];
        limits.limits().iter().any(|limit| limit.enforce.is_partial()).then(|| Arc::clone(limits))
    }

    /// The keys of a shape, by its number.
    pub(crate) fn shape_keys(&self, shape: u32) -> &[Box<str>] {
        &self.table.shapes[shape as usize].keys
    }

    /// The number of a shape, if it is known.
    pub(crate) fn known_shape(&self, shape: &Shape) -> Option<u32> {
        self.shapes.get(shape).copied()
    }

    pub(crate) fn shape(&mut self, shape: &Shape) -> u32 {
        let shapes = &mut self.table.shapes;
        *self.shapes.entry(shape.clone()).or_insert_with_key(|shape| {
            shapes.push(shape.clone());
            shapes.len() as u32 - 1
        })
    }

    /// Adds a row; its values are in the order of the shape's keys.
    pub(crate) fn add<'v>(
        &mut self,
        (origin, at): (u32, Location),
        shape: u32,
        values: impl Iterator<Item = &'v str>,
        rest: RowDetails<'v>,
    ) {
        let RowDetails { limits, expires, reason, owner } = rest;
        self.table.sources[origin as usize].rows += 1;
        let numbers = RecordHeader { source: origin, at, next: NONE, shape, limits, expires: expires.unwrap_or(NEVER) };
        self.is_full |= self.table.records.add(&numbers, values.chain([reason, owner])).is_none();
    }

    pub(crate) fn add_row(&mut self, location: (u32, Location), row: &OverrideRow) {
        let limits = self.limits(OverrideLimits::clone(&row.limits));
        let shape = self.shape(&row.shape);
        let rest = RowDetails { limits, expires: row.expires, reason: &row.reason, owner: &row.owner };
        self.add(location, shape, row.values.iter().map(|value| &**value), rest);
    }

    /// The finished table; sets in each of `rules` how its overrides are looked up.
    pub(crate) fn finish(mut self, rules: &mut [Rule], report: &mut ProblemCollector) -> OverrideTable {
        if self.is_full
            && let Some(origin) = self.table.sources.last()
        {
            report.error(&origin.path, Location::default(), "the overrides of a domain hold more than 4 GiB of text");
        }
        let table = &mut self.table;
        drop(self.known_limits);
        table.limits = self.limits.into_iter().map(Arc::unwrap_or_clone).collect();
        table.records.shrink_to_fit();
        table.index = RowIndex::with_capacity(table.len());
        let rows: Vec<u32> = table.row_numbers().collect();
        rows.into_iter().for_each(|row| table.link(row, report));
        table.ends = table.rows().filter_map(RowRef::expires).collect();
        table.ends.sort_unstable();
        table.set_probes(rules);
        self.table
    }
}

impl OverrideTable {
    /// Inserts a row into the chain of rows with the same match.
    fn link(&mut self, row: u32, report: &mut ProblemCollector) {
        let (numbers, texts) = self.records.of(row);
        let RecordHeader { source: origin, shape, .. } = numbers;
        let values = texts.take(self.keys(shape)).map(|part| std::str::from_utf8(part).unwrap_or_default());
        let name = RowKey::of(shape, values.clone());
        let head = IndexedRow::of(row, &numbers);
        let Some(&first) = self.index.find(name, |other| self.is_of(other, shape, values.clone())) else {
            self.index.insert(name, head);
            return;
        };
        let (mut before, mut at) = (NONE, first.row);
        while at != NONE && self.order(at) > self.order(row) {
            (before, at) = (at, self.records.header(at).next);
        }
        if at != NONE && self.records.header(at).source == origin {
            self.report_duplicate(row, at, report);
            return;
        }
        let beaten = if at == NONE { (before, row) } else { (row, at) };
        self.warn_of(beaten, report);
        self.records.set_next(row, at);
        match before {
            NONE => self.index.replace(name, first, head),
            before => self.records.set_next(before, row),
        }
    }

    /// The rank of a row among those with the same match; the higher one wins.
    fn order(&self, row: u32) -> (bool, u32) {
        let origin = self.records.header(row).source;
        (self.is_inline(row), origin)
    }

    fn is_inline(&self, row: u32) -> bool {
        self.sources[self.records.header(row).source as usize].is_inline
    }

    fn report_duplicate(&self, row: u32, earlier: u32, report: &mut ProblemCollector) {
        let (row, earlier) = (self.row(row), self.row(earlier));
        let first = report.beside(earlier.location().path, earlier.at());
        let what = format!("`{row}` is here a second time: first in {first}");
        report.error(row.location().path, row.at(), what);
    }

    /// Warns if one file beats another, which is likely not intended. A rule file may beat a file.
    fn warn_of(&self, (winner, beaten): (u32, u32), report: &mut ProblemCollector) {
        if self.is_inline(winner) != self.is_inline(beaten) {
            return;
        }
        let (winner, beaten) = (self.row(winner), self.row(beaten));
        let location = report.elsewhere(beaten.location().path, beaten.at());
        let what = format!("`{winner}` stands in {location} too; this row wins");
        report
            .warn(winner.location().path, winner.at(), Warning::BeatenOverride, what)
            .hint("the file that is named later wins");
    }

    fn set_probes(&self, rules: &mut [Rule]) {
        let mut of_domain: Vec<(u32, &Shape)> = Vec::new();
        let mut of_rules: HashMap<&str, Vec<(u32, &Shape)>> = HashMap::new();
        for (index, shape) in (0..).zip(&self.shapes) {
            match &shape.scope {
                ShapeScope::Domain => of_domain.push((index, shape)),
                ShapeScope::Rule { id, .. } => of_rules.entry(id).or_default().push((index, shape)),
            }
        }
        if self.shapes.is_empty() {
            return;
        }
        for rule in rules {
            let own = of_rules.get(&*rule.id).map(Vec::as_slice).unwrap_or_default();
            let shapes: Vec<(u32, &Shape)> = own.iter().chain(&of_domain).copied().collect();
            let mut probes = probes(rule, shapes.iter().map(|(_, shape)| *shape));
            for probe in &mut probes {
                probe.shape = shapes[probe.shape as usize].0;
            }
            rule.probes = (!probes.is_empty()).then(|| probes.into());
        }
    }

    fn row(&self, row: u32) -> RowRef<'_> {
        RowRef::new(self, row)
    }
}
