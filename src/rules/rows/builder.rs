//! Collects rows while they are read. Once all are there, it finds duplicates, puts rows with the same match in order,
//! and sets how each rule looks up its overrides.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use super::{
    Grant, Row, Shape,
    heads::{Head, Heads},
    name::Name,
    records::{NEVER, NONE, Numbers},
    shape::{Scope, probes},
    table::{Origin, RowRef, Table},
};
use crate::{
    limit::UnixMicros,
    rules::{Rule, node::Place, problem::Report},
};

/// Collects the rows of a domain.
#[derive(Default)]
pub(crate) struct Builder {
    table: Table,
    grants: Vec<Arc<Grant>>,
    known_grants: HashMap<Arc<Grant>, u32>,
    shapes: HashMap<Shape, u32>,
    /// Whether there is more text than positions can address.
    is_full: bool,
}

/// A row without its match.
#[derive(Clone, Copy)]
pub(crate) struct Rest<'r> {
    pub(crate) grant: u32,
    pub(crate) expires: Option<UnixMicros>,
    pub(crate) reason: &'r str,
    pub(crate) owner: &'r str,
}

impl Builder {
    /// The number of the source of the rows that follow. Inline rows win over files, and later files over earlier ones.
    pub(crate) fn origin(&mut self, path: &Arc<PathBuf>, is_inline: bool) -> u32 {
        let origins = &mut self.table.origins;
        let known = origins.iter().position(|origin| origin.is_inline == is_inline && origin.path == *path);
        known.unwrap_or_else(|| {
            origins.push(Origin { path: Arc::clone(path), is_inline });
            origins.len() - 1
        }) as u32
    }

    pub(crate) fn grant(&mut self, grant: Grant) -> u32 {
        let grants = &mut self.grants;
        *self.known_grants.entry(Arc::new(grant)).or_insert_with_key(|grant| {
            grants.push(Arc::clone(grant));
            grants.len() as u32 - 1
        })
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
        (origin, at): (u32, Place),
        shape: u32,
        values: impl Iterator<Item = &'v str>,
        rest: Rest<'v>,
    ) {
        let Rest { grant, expires, reason, owner } = rest;
        let numbers = Numbers { origin, at, next: NONE, shape, grant, expires: expires.unwrap_or(NEVER) };
        self.is_full |= self.table.records.add(&numbers, values.chain([reason, owner])).is_none();
    }

    pub(crate) fn add_row(&mut self, place: (u32, Place), row: &Row) {
        let grant = self.grant(Grant::clone(&row.grant));
        let shape = self.shape(&row.shape);
        let rest = Rest { grant, expires: row.expires, reason: &row.reason, owner: &row.owner };
        self.add(place, shape, row.values.iter().map(|value| &**value), rest);
    }

    /// The finished table; sets in each of `rules` how its overrides are looked up.
    pub(crate) fn finish(mut self, rules: &mut [Rule], report: &mut Report) -> Table {
        if self.is_full
            && let Some(origin) = self.table.origins.last()
        {
            report.error(&origin.path, Place::default(), "the overrides of a domain hold more than 4 GiB of text");
        }
        let table = &mut self.table;
        drop(self.known_grants);
        table.grants = self.grants.into_iter().map(Arc::unwrap_or_clone).collect();
        table.records.shrink_to_fit();
        table.heads = Heads::with_room_for(table.len());
        let rows: Vec<u32> = table.row_numbers().collect();
        rows.into_iter().for_each(|row| table.link(row, report));
        table.ends = table.rows().filter_map(RowRef::expires).collect();
        table.ends.sort_unstable();
        table.tell(rules);
        self.table
    }
}

impl Table {
    /// Inserts a row into the chain of rows with the same match.
    fn link(&mut self, row: u32, report: &mut Report) {
        let (numbers, texts) = self.records.of(row);
        let Numbers { origin, shape, .. } = numbers;
        let values = texts.take(self.keys(shape)).map(|part| std::str::from_utf8(part).unwrap_or_default());
        let name = Name::of(shape, values.clone());
        let head = Head::of(row, &numbers);
        let Some(&first) = self.heads.find(name, |other| self.is_of(other, shape, values.clone())) else {
            self.heads.insert(name, head);
            return;
        };
        let (mut before, mut at) = (NONE, first.row);
        while at != NONE && self.order(at) > self.order(row) {
            (before, at) = (at, self.records.numbers(at).next);
        }
        if at != NONE && self.records.numbers(at).origin == origin {
            self.complain(row, at, report);
            return;
        }
        let beaten = if at == NONE { (before, row) } else { (row, at) };
        self.warn_of(beaten, report);
        self.records.set_next(row, at);
        match before {
            NONE => self.heads.replace(name, first, head),
            before => self.records.set_next(before, row),
        }
    }

    /// The rank of a row among those with the same match; the higher one wins.
    fn order(&self, row: u32) -> (bool, u32) {
        let origin = self.records.numbers(row).origin;
        (self.is_inline(row), origin)
    }

    fn is_inline(&self, row: u32) -> bool {
        self.origins[self.records.numbers(row).origin as usize].is_inline
    }

    fn complain(&self, row: u32, earlier: u32, report: &mut Report) {
        let (row, earlier) = (self.row(row), self.row(earlier));
        let first = report.beside(earlier.place().path, earlier.at());
        let what = format!("`{row}` is here a second time: first in {first}");
        report.error(row.place().path, row.at(), what);
    }

    /// Warns if one file beats another, which is likely not intended. A rule file may beat a file.
    fn warn_of(&self, (winner, beaten): (u32, u32), report: &mut Report) {
        if self.is_inline(winner) != self.is_inline(beaten) {
            return;
        }
        let (winner, beaten) = (self.row(winner), self.row(beaten));
        let place = report.elsewhere(beaten.place().path, beaten.at());
        let what = format!("`{winner}` stands in {place} too; this row wins");
        report.warn(winner.place().path, winner.at(), what).hint("the file that is named later wins");
    }

    fn tell(&self, rules: &mut [Rule]) {
        let mut of_domain: Vec<(u32, &Shape)> = Vec::new();
        let mut of_rules: HashMap<&str, Vec<(u32, &Shape)>> = HashMap::new();
        for (index, shape) in (0..).zip(&self.shapes) {
            match &shape.scope {
                Scope::Domain => of_domain.push((index, shape)),
                Scope::Rule { id, .. } => of_rules.entry(id).or_default().push((index, shape)),
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
