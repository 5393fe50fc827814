//! Two tables of override rows, match by match: which row of each counts at a moment. Each match is looked up in the other
//! table's index, so that neither has to be sorted. Knows nothing of what a difference is called.

use std::collections::{HashMap, HashSet};

use super::{
    Shape,
    records::NONE,
    table::{OverrideTable, RowRef},
};
use crate::limit::UnixMicros;

/// What a table says of one match at a moment.
#[derive(Clone, Copy)]
pub(crate) enum RowAt<'t> {
    Absent,
    /// Every row of the match has ended; this one would win if it hadn't.
    Ended(RowRef<'t>),
    InForce(RowRef<'t>),
}

/// Visits each match of either table: first those of `after`, then those that only `before` has, each in the order of
/// their rows.
pub(crate) fn compare<'t>(
    before: &'t OverrideTable,
    after: &'t OverrideTable,
    now: UnixMicros,
    mut visit: impl FnMut(RowAt<'t>, RowAt<'t>),
) {
    let shapes = SameShapes::of(after, before);
    for row in after.winners() {
        let was = shapes.same_match(row).map_or(RowAt::Absent, |row| row.at_moment(now));
        visit(was, row.at_moment(now));
    }
    let shapes = SameShapes::of(before, after);
    for row in before.winners() {
        if shapes.same_match(row).is_none() {
            visit(row.at_moment(now), RowAt::Absent);
        }
    }
}

/// The numbers that one table's shapes have in another.
struct SameShapes<'t> {
    numbers: Vec<Option<u32>>,
    other: &'t OverrideTable,
}

impl<'t> SameShapes<'t> {
    fn of(table: &OverrideTable, other: &'t OverrideTable) -> SameShapes<'t> {
        let known: HashMap<&Shape, u32> = other.shapes.iter().zip(0..).collect();
        SameShapes { numbers: table.shapes.iter().map(|shape| known.get(shape).copied()).collect(), other }
    }

    /// The first row of the other table with the match of a row.
    fn same_match(&self, row: RowRef<'_>) -> Option<RowRef<'t>> {
        let shape = self.numbers[row.shape_number() as usize]?;
        let values = row.values();
        self.other.named(shape, values).map(|first| RowRef::new(self.other, first.row))
    }
}

impl OverrideTable {
    /// The first row of each match, in the order of all rows.
    fn winners(&self) -> impl Iterator<Item = RowRef<'_>> {
        let beaten: HashSet<u32> =
            self.row_numbers().map(|row| self.records.header(row).next).filter(|next| *next != NONE).collect();
        self.row_numbers().filter(move |row| !beaten.contains(row)).map(|row| RowRef::new(self, row))
    }
}

impl<'t> RowRef<'t> {
    /// Of this row and those that it beats.
    fn at_moment(self, now: UnixMicros) -> RowAt<'t> {
        let mut next = Some(self);
        while let Some(row) = next {
            if !row.is_expired(now) {
                return RowAt::InForce(row);
            }
            next = row.beaten();
        }
        RowAt::Ended(self)
    }
}
