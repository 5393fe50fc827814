//! The override rows of a domain's files, found by hash. Compact: texts are in one buffer, and what rows have in common
//! is stored once.

use std::{
    iter,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    OverrideLimits, RowLocation, Shape,
    records::{NEVER, NONE, RecordHeader, Records},
    row_index::{ExpirySeconds, IndexedRow, RowIndex},
    row_key::RowKey,
    shape::{Probe, Rank, ShapeScope, rank},
};
use crate::{
    limit::{Entry, UnixMicros},
    rules::node::Location,
};

/// The override rows of a domain. Immutable; a reload makes a new table.
#[derive(Default)]
pub struct OverrideTable {
    pub(super) shapes: Vec<Shape>,
    pub(super) sources: Vec<RowSource>,
    pub(super) limits: Vec<OverrideLimits>,
    pub(super) records: Records,
    /// The first row of each match; [`RecordHeader::next`] leads to the others.
    pub(super) index: RowIndex,
    /// The ends of all rows that end, in order.
    pub(super) ends: Vec<UnixMicros>,
}

/// A source of rows: a rule file itself, or a file that it names.
pub(super) struct RowSource {
    pub(super) path: Arc<PathBuf>,
    pub(super) is_inline: bool,
    pub(super) rows: usize,
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct RowRef<'t> {
    table: &'t OverrideTable,
    indexed: IndexedRow,
}

/// A row that fits a descriptor, and whether it wins.
#[derive(Clone, Copy)]
pub struct Candidate<'t> {
    pub row: RowRef<'t>,
    pub standing: Standing,
}

/// Why a row wins or doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Wins,
    /// Its `expires` is past.
    Expired,
    /// The winner names more keys.
    FewerKeys,
    /// The winner names as many keys, one of them further left.
    LaterKey,
    /// The winner belongs to the rule, this one to the domain.
    NotOfTheRule,
    /// The winner has the same match, and is in a rule file or in a file that is named later.
    EarlierPlace,
}

impl OverrideTable {
    /// The names that limits of overrides have.
    pub(crate) fn limit_names(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().flat_map(OverrideLimits::limits).filter_map(|limit| limit.name.as_deref())
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of rows that have ended at `now`.
    pub fn expired(&self, now: UnixMicros) -> usize {
        self.ends.partition_point(|end| *end <= now)
    }

    /// All rows, in order of their locations.
    pub fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        self.row_numbers().map(|row| RowRef::new(self, row))
    }

    /// Number of rows that a file has, in its rules or as a file of rows.
    pub fn rows_of(&self, path: &Path) -> usize {
        self.sources.iter().filter(|source| source.path.as_path() == path).map(|source| source.rows).sum()
    }

    pub(in crate::rules) fn row_numbers(&self) -> impl Iterator<Item = u32> {
        self.records.each(|shape| self.texts(shape))
    }

    /// The row with a number that this table gave.
    pub(in crate::rules) fn row_at(&self, number: u32) -> RowRef<'_> {
        RowRef::new(self, number)
    }

    /// The number of the row behind one, in order of their locations.
    pub(in crate::rules) fn row_after(&self, number: u32) -> Option<u32> {
        self.records.after(number, |shape| self.texts(shape))
    }

    /// Besides its values, each row has a reason and an owner.
    fn texts(&self, shape: u32) -> usize {
        self.keys(shape) + 2
    }

    /// Number of different limits that rows grant: [`RowRef::limits_number`] is below it.
    pub(crate) fn limits_len(&self) -> usize {
        self.limits.len()
    }

    /// The limits that rows grant, by their numbers.
    pub(crate) fn each_limits(&self) -> impl Iterator<Item = &OverrideLimits> {
        self.limits.iter()
    }

    /// Memory of the rows in bytes.
    pub fn bytes(&self) -> usize {
        self.records.size() + self.index.size() + self.ends.capacity() * size_of::<UnixMicros>()
    }

    /// The row that replaces the limits of the rule of `probes`, and the probe that found it. `now` is only called for
    /// rows that end.
    #[inline]
    pub(crate) fn find<'t>(
        &'t self,
        probes: &'t [Probe],
        entries: &[Entry<'_>],
        now: impl Fn() -> UnixMicros,
    ) -> Option<(RowRef<'t>, &'t Probe)> {
        let mut winner = None;
        self.walk(probes, entries, |row, probe| {
            let lives = row.is_in_force(&now);
            winner = lives.then_some((row, probe));
            lives
        });
        winner
    }

    /// The same walk as [`OverrideTable::find`], to its end: every row that fits, in the order in which they win.
    pub(crate) fn explain(&self, probes: &[Probe], entries: &[Entry<'_>], now: UnixMicros) -> Vec<Candidate<'_>> {
        let mut candidates = Vec::new();
        let mut won: Option<Rank> = None;
        self.walk(probes, entries, |row, probe| {
            let is_own = row.shape().scope != ShapeScope::Domain;
            let own = rank(&probe.positions, is_own);
            let standing = match won {
                _ if row.is_expired(now) => Standing::Expired,
                None => Standing::Wins,
                Some(winner) if winner.0 > own.0 => Standing::FewerKeys,
                Some(winner) if winner.1 > own.1 => Standing::LaterKey,
                Some(winner) if winner.2 && !own.2 => Standing::NotOfTheRule,
                Some(_) => Standing::EarlierPlace,
            };
            if standing == Standing::Wins {
                won = Some(own);
            }
            candidates.push(Candidate { row, standing });
            false
        });
        candidates
    }

    /// Visits the rows that fit, best first, until `visit` returns a result.
    #[inline(always)]
    fn walk<'t, 'p>(
        &'t self,
        probes: &'p [Probe],
        entries: &[Entry<'_>],
        mut visit: impl FnMut(RowRef<'t>, &'p Probe) -> bool,
    ) {
        for probe in probes {
            let mut next = self.first_row(probe, entries).map(|head| RowRef { table: self, indexed: *head });
            while let Some(row) = next {
                if visit(row, probe) {
                    return;
                }
                next = row.beaten();
            }
        }
    }

    /// The first of the rows with exactly this match. Inlined, so that the result stays in registers.
    #[inline(always)]
    fn first_row(&self, probe: &Probe, entries: &[Entry<'_>]) -> Option<&IndexedRow> {
        match *probe.positions {
            [only] => {
                let value = entries[usize::from(only)].value;
                self.index
                    .find(RowKey::of_one(probe.shape, value), |row| self.is_of(row, probe.shape, iter::once(value)))
            }
            _ => self.named(probe.shape, probe.values(entries)),
        }
    }

    #[inline(never)]
    pub(super) fn named<'v>(&self, shape: u32, values: impl Iterator<Item = &'v str> + Clone) -> Option<&IndexedRow> {
        self.index.find(RowKey::of(shape, values.clone()), |row| self.is_of(row, shape, values.clone()))
    }

    pub(super) fn is_of<'v>(&self, row: u32, shape: u32, mut values: impl Iterator<Item = &'v str>) -> bool {
        let (numbers, mut texts) = self.records.of(row);
        numbers.shape == shape && values.all(|value| texts.next().is_some_and(|text| text == value.as_bytes()))
    }

    pub(super) fn keys(&self, shape: u32) -> usize {
        self.shapes[shape as usize].keys.len()
    }
}

impl<'t> RowRef<'t> {
    pub(super) fn new(table: &'t OverrideTable, row: u32) -> RowRef<'t> {
        RowRef { table, indexed: IndexedRow::of(row, &table.records.header(row)) }
    }

    fn header(self) -> RecordHeader {
        self.table.records.header(self.indexed.row)
    }

    /// The next row with the same match, which this one beats.
    pub(super) fn beaten(self) -> Option<RowRef<'t>> {
        Some(self.header().next).filter(|next| *next != NONE).map(|next| RowRef::new(self.table, next))
    }

    pub(super) fn shape_number(self) -> u32 {
        self.header().shape
    }

    /// The values of its match, in the order of its shape's keys.
    pub(super) fn values(self) -> impl Iterator<Item = &'t str> + Clone {
        let texts = self.table.records.of(self.indexed.row).1.take(self.shape().keys.len());
        texts.map(|text| std::str::from_utf8(text).unwrap_or_default())
    }

    /// Of rows with the same match the one with the higher rank wins.
    pub(in crate::rules) fn source_rank(self) -> u64 {
        let source = self.header().source;
        let is_inline = self.table.sources[source as usize].is_inline;
        u64::from(is_inline) << 32 | u64::from(source)
    }

    /// The number of its limits among those of its table.
    pub(crate) fn limits_number(self) -> u32 {
        self.indexed.limits
    }

    pub fn shape(self) -> &'t Shape {
        &self.table.shapes[self.header().shape as usize]
    }

    /// Key and value of each entry of its match.
    pub fn matches(self) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.shape().keys.iter().map(|key| &**key).zip(self.text())
    }

    fn text(self) -> impl Iterator<Item = &'t str> {
        self.table.records.of(self.indexed.row).1.map(|text| std::str::from_utf8(text).unwrap_or_default())
    }

    pub fn limits(self) -> &'t OverrideLimits {
        &self.table.limits[self.indexed.limits as usize]
    }

    pub fn expires(self) -> Option<UnixMicros> {
        Some(self.header().expires).filter(|expires| *expires != NEVER)
    }

    /// As [`RowRef::is_expired`], nearly always without reading the row.
    #[inline(always)]
    fn is_in_force(self, now: impl Fn() -> UnixMicros) -> bool {
        self.indexed.ends == ExpirySeconds::NEVER || {
            let now = now();
            self.indexed.ends.is_after(now).unwrap_or_else(|| !self.is_expired(now))
        }
    }

    pub fn is_expired(self, now: UnixMicros) -> bool {
        self.header().expires <= now
    }

    pub fn reason(self) -> &'t str {
        self.text().nth(self.shape().keys.len()).unwrap_or_default()
    }

    pub fn owner(self) -> &'t str {
        self.text().nth(self.shape().keys.len() + 1).unwrap_or_default()
    }

    pub fn location(self) -> RowLocation<'t> {
        let RecordHeader { source: origin, at, .. } = self.header();
        RowLocation { path: &self.table.sources[origin as usize].path, line: at.line }
    }

    /// Location in its file.
    pub(super) fn at(self) -> Location {
        self.header().at
    }
}

impl std::fmt::Display for RowRef<'_> {
    /// Writes the match as `user=alice,endpoint=/checkout`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (key, value)) in self.matches().enumerate() {
            write!(out, "{}{key}={value}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
