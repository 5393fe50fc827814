//! The overrides of a domain's files, found by hash. Compact: texts lie in one buffer, and what rows have in common is
//! there once.

use std::{path::PathBuf, sync::Arc};

use hashbrown::HashTable;

use super::{
    Grant, RowPlace, Shape,
    shape::{Probe, Rank, Scope, hash, rank},
};
use crate::limit::{Entry, UnixMicros};

/// No further row with the same match.
pub(super) const NONE: u32 = u32::MAX;

/// Of a row that stays.
pub(super) const NEVER: UnixMicros = UnixMicros(u64::MAX);

/// Immutable; a reload makes a new one.
#[derive(Default)]
pub struct Table {
    pub(super) shapes: Vec<Shape>,
    pub(super) origins: Vec<Origin>,
    pub(super) grants: Vec<Arc<Grant>>,
    pub(super) rows: Vec<Packed>,
    /// Of each row its values, its reason and its owner, each after its length.
    pub(super) texts: Vec<u8>,
    /// The first row of each match; the others follow by [`Packed::next`].
    pub(super) first: HashTable<u32>,
    /// When rows end that end at all, in order.
    pub(super) ends: Vec<UnixMicros>,
}

/// Where rows come from: a rule file itself, or one that it names.
pub(super) struct Origin {
    pub(super) path: Arc<PathBuf>,
    pub(super) is_inline: bool,
}

/// A row. Several million may be in memory.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    pub(super) expires: UnixMicros,
    /// Where in the texts its own begin.
    pub(super) text: u32,
    pub(super) shape: u32,
    pub(super) grant: u32,
    /// Of rows with the same match, those of later origins win, and inline ones over all.
    pub(super) origin: u32,
    pub(super) line: u32,
    /// The row with the same match that this one beats.
    pub(super) next: u32,
}

impl Packed {
    fn is_expired(&self, now: UnixMicros) -> bool {
        self.expires <= now
    }
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct RowRef<'t> {
    table: &'t Table,
    row: u32,
}

/// A row that fits a descriptor, and what becomes of it.
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
    /// The winner names as many, one of them further left.
    LaterKey,
    /// The winner belongs to the rule, this one to the domain.
    NotOfTheRule,
    /// The winner matches the same, in a rule file or in a file that is named later.
    EarlierPlace,
}

impl Table {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows that are past their end at `now`.
    pub fn expired(&self, now: UnixMicros) -> usize {
        self.ends.partition_point(|end| *end <= now)
    }

    /// In order of their places.
    pub fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.rows.len() as u32).map(|row| RowRef { table: self, row })
    }

    /// Memory that the rows take, in bytes.
    pub fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Packed>()
            + self.texts.capacity()
            + self.first.allocation_size()
            + self.ends.capacity() * size_of::<UnixMicros>()
    }

    /// The row that replaces the limits of the rule that `probes` belong to, and the probe that found it. `now` is asked
    /// only about rows that end.
    pub(crate) fn find<'t>(
        &'t self,
        probes: &'t [Probe],
        entries: &[Entry<'_>],
        now: impl Fn() -> UnixMicros,
    ) -> Option<(RowRef<'t>, &'t Probe)> {
        let mut winner = None;
        self.walk(probes, entries, |row, probe| {
            let packed = self.packed(row);
            let lives = packed.expires == NEVER || !packed.is_expired(now());
            winner = lives.then_some((RowRef { table: self, row }, probe));
            lives
        });
        winner
    }

    /// The same walk as [`Table::find`], to its end: every row that fits, in the order in which they win.
    pub(crate) fn explain(&self, probes: &[Probe], entries: &[Entry<'_>], now: UnixMicros) -> Vec<Candidate<'_>> {
        let mut candidates = Vec::new();
        let mut won: Option<Rank> = None;
        self.walk(probes, entries, |row, probe| {
            let packed = self.packed(row);
            let is_own = self.shapes[packed.shape as usize].scope != Scope::Domain;
            let own = rank(&probe.positions, is_own);
            let standing = match won {
                _ if packed.is_expired(now) => Standing::Expired,
                None => Standing::Wins,
                Some(winner) if winner.0 > own.0 => Standing::FewerKeys,
                Some(winner) if winner.1 > own.1 => Standing::LaterKey,
                Some(winner) if winner.2 && !own.2 => Standing::NotOfTheRule,
                Some(_) => Standing::EarlierPlace,
            };
            if standing == Standing::Wins {
                won = Some(own);
            }
            candidates.push(Candidate { row: RowRef { table: self, row }, standing });
            false
        });
        candidates
    }

    /// Visits the rows that fit, best first, until `visit` has what it wants.
    fn walk<'t>(&'t self, probes: &'t [Probe], entries: &[Entry<'_>], mut visit: impl FnMut(u32, &'t Probe) -> bool) {
        for probe in probes {
            let values = probe.values(entries);
            let of_match = self.first_of(probe.shape, values);
            let mut at = of_match.unwrap_or(NONE);
            while at != NONE {
                if visit(at, probe) {
                    return;
                }
                at = self.packed(at).next;
            }
        }
    }

    /// The first of the rows that match just this.
    pub(super) fn first_of<'v>(&self, shape: u32, values: impl Iterator<Item = &'v str> + Clone) -> Option<u32> {
        let is_it = |row: &u32| self.packed(*row).shape == shape && self.has_values(*row, values.clone());
        self.first.find(hash(shape, values.clone()), is_it).copied()
    }

    fn has_values<'v>(&self, row: u32, values: impl Iterator<Item = &'v str>) -> bool {
        let mut texts = self.texts(row);
        values.into_iter().all(|value| texts.next().is_some_and(|text| text == value.as_bytes()))
    }

    pub(super) fn packed(&self, row: u32) -> &Packed {
        &self.rows[row as usize]
    }

    /// Its values, its reason, its owner.
    pub(super) fn texts(&self, row: u32) -> Texts<'_> {
        Texts { rest: &self.texts[self.packed(row).text as usize..] }
    }

    pub(super) fn hash_of(&self, row: u32) -> u64 {
        let shape = self.packed(row).shape;
        let values = self.texts(row).take(self.shapes[shape as usize].keys.len());
        hash(shape, values.map(|value| std::str::from_utf8(value).unwrap_or_default()))
    }
}

/// Texts that lie one after the other. Ends at the buffer's end only; who asks knows how many are his.
#[derive(Clone)]
pub(super) struct Texts<'t> {
    rest: &'t [u8],
}

impl<'t> Iterator for Texts<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(text)
    }
}

/// As [`Texts`] reads it.
pub(super) fn write_text(texts: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while length >= 0x80 {
        texts.push(length as u8 | 0x80);
        length >>= 7;
    }
    texts.push(length as u8);
    texts.extend_from_slice(text.as_bytes());
}

impl<'t> RowRef<'t> {
    pub(super) fn new(table: &'t Table, row: u32) -> RowRef<'t> {
        RowRef { table, row }
    }

    fn packed(self) -> &'t Packed {
        self.table.packed(self.row)
    }

    pub fn shape(self) -> &'t Shape {
        &self.table.shapes[self.packed().shape as usize]
    }

    /// Key and value of each entry that it names.
    pub fn matches(self) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.shape().keys.iter().map(|key| &**key).zip(self.text())
    }

    fn text(self) -> impl Iterator<Item = &'t str> {
        self.table.texts(self.row).map(|text| std::str::from_utf8(text).unwrap_or_default())
    }

    pub fn grant(self) -> &'t Arc<Grant> {
        &self.table.grants[self.packed().grant as usize]
    }

    pub fn expires(self) -> Option<UnixMicros> {
        Some(self.packed().expires).filter(|expires| *expires != NEVER)
    }

    pub fn is_expired(self, now: UnixMicros) -> bool {
        self.packed().is_expired(now)
    }

    pub fn reason(self) -> &'t str {
        self.text().nth(self.shape().keys.len()).unwrap_or_default()
    }

    pub fn owner(self) -> &'t str {
        self.text().nth(self.shape().keys.len() + 1).unwrap_or_default()
    }

    pub fn place(self) -> RowPlace<'t> {
        let Packed { origin, line, .. } = *self.packed();
        RowPlace { path: &self.table.origins[origin as usize].path, line }
    }
}

impl std::fmt::Display for RowRef<'_> {
    /// `user=alice,endpoint=/checkout`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (key, value)) in self.matches().enumerate() {
            write!(out, "{}{key}={value}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
