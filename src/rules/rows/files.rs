//! Reads files of override rows: CSV, NDJSON (a JSON object on each line), or a YAML list, as the file's name says. Each
//! row comes to the same checks as an inline row does (`read`).
//!
//! A CSV file is read in two states. At first the header is expected: it names the columns, and a header with a mistake
//! ends the file, because no row would make sense. Then each record is one row: a wrong row is reported and left out,
//! and the next one is read, so that one run shows all mistakes. Only a broken record (a quote in a wrong place) ends
//! the file, because the cells behind it can't be told apart.
//!
//! A file may have a million rows with few different limits, moments and shapes. So the text of each limit and of each
//! `expires` is read once and kept with its result, and a shape is known by the columns that have a value in the row.
//!
//! Invariants: (1) a row has as many cells as the header has columns; an empty cell is as if the column weren't there;
//! (2) a text with a mistake or a warning is read anew for each row, so that each is reported; (3) a file has at most 64
//! columns, one bit each.
//!
//! Example: under `match.tenant,match.user,limit` the rows `acme,alice,5/s` and `,bob,5/s` have values in the match
//! columns 0 and 1 (bits 0b11) and in 1 (0b10). These are two shapes, `tenant` + `user` and `user` alone, and `5/s` is
//! read once.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use smallvec::SmallVec;

use super::{
    bind::{MatchPart, RowTarget, with_values},
    builder::{RowDetails, TableBuilder},
    columns::{Column, PARTS, Purpose, columns, header, misses_columns},
    csv::{Cell, CsvError, CsvReader},
    read::RowContext,
};
use crate::{
    limit::UnixMicros,
    rules::{
        json,
        node::{Location, Node},
        overrides_from::FileFormat,
        pen::NodeReader,
        spelling::TextOf,
        yaml,
    },
};

const FIRST_LINE: Location = Location { line: 1, column: 1, width: 1 };

impl NodeReader<'_> {
    /// Reads a whole file into `builder`.
    pub(crate) fn override_file(
        &mut self,
        bytes: &[u8],
        context: &RowContext<'_>,
        (origin, builder): (u32, &mut TableBuilder),
    ) {
        let Some(text) = self.utf8(bytes) else { return };
        match FileFormat::of(self.path) {
            Some(FileFormat::Csv) => self.csv(text, context, (origin, builder)),
            Some(FileFormat::Ndjson) => self.ndjson(text, context, (origin, builder)),
            Some(FileFormat::Yaml) => self.yaml(text, context, (origin, builder)),
            // A file with another ending is reported where it is named.
            None => {}
        }
    }

    fn yaml(&mut self, text: &str, context: &RowContext<'_>, into: (u32, &mut TableBuilder)) {
        self.allowed_warnings(text);
        if let Some(root) = self.document(yaml::parse(text)) {
            self.rows(&root, context, into);
        }
    }

    fn ndjson(&mut self, text: &str, context: &RowContext<'_>, (origin, builder): (u32, &mut TableBuilder)) {
        for (line, object) in (1..).zip(text.lines()).filter(|(_, object)| !object.trim().is_empty()) {
            if !object.trim_start().starts_with('{') {
                let at = Location { line, column: 1, width: object.chars().count() as u32 };
                self.error(at, "each line must be a JSON object")
                    .hint(r#"write it as `{"match": {"user": "alice"}, "limit": "5/s"}`"#);
                continue;
            }
            let Some(node) = self.document(json::parse(object, line)) else { continue };
            if let Some(row) = self.row(&node, context, builder) {
                builder.add_row((origin, node.at), &row);
            }
        }
    }

    fn csv(&mut self, text: &str, context: &RowContext<'_>, (origin, builder): (u32, &mut TableBuilder)) {
        let (mut reader, mut cells) = (CsvReader::new(text), Vec::new());
        let mut table = None;
        loop {
            match reader.next(&mut cells) {
                Ok(true) => {}
                Ok(false) => break,
                Err(broken) => {
                    self.broken(broken);
                    return;
                }
            }
            match &mut table {
                None => match self.header(&cells, text, context.target) {
                    Some(columns) => table = Some(CsvRows::new(columns, text, context, origin)),
                    None => return,
                },
                Some(table) => table.add(self, &cells, builder),
            }
        }
        if table.is_none() {
            self.error(FIRST_LINE, "the file is empty: its first line must name the columns")
                .hint(header(Purpose::Rules));
        }
    }

    fn header<'t>(&mut self, cells: &[Cell<'t>], text: &'t str, target: RowTarget<'_>) -> Option<Vec<Column<'t>>> {
        let errors = self.report.errors();
        let (columns, broken) = columns(cells, text, Purpose::Rules);
        broken.into_iter().for_each(|broken| self.broken(broken));
        for (column, cell) in columns.iter().zip(cells) {
            if let Some(Column::Match(key)) = column {
                self.check_spelling(key, TextOf::OverrideKey, || cell.location(text));
                self.check_key(key, target, cell.location(text));
            }
        }
        if self.report.errors() > errors {
            return None;
        }
        let columns: Vec<Column<'_>> = columns.into_iter().flatten().collect();
        let has = |is: fn(&Column<'_>) -> bool| columns.iter().any(is);
        if !has(|column| matches!(column, Column::Match(_))) {
            self.error(FIRST_LINE, "no column says whom a row is for").hint(header(Purpose::Rules));
        }
        match (has(|column| *column == Column::Limit), has(|column| matches!(column, Column::Part(_)))) {
            (false, false) => {
                self.error(FIRST_LINE, "no column says what a row grants").hint(header(Purpose::Rules));
            }
            (true, true) => {
                self.error(FIRST_LINE, "`limit` and the columns of its parts are of different forms")
                    .hint(format!("write `limit`, or {}", PARTS.join(", ")));
            }
            _ => {}
        }
        (self.report.errors() == errors).then_some(columns)
    }

    fn broken(&mut self, broken: CsvError) {
        let problem = self.error(broken.at, broken.what);
        if let Some(hint) = broken.hint {
            problem.hint(hint);
        }
    }
}

/// Makes rows of a CSV file's records. What records have in common is read once: a million of them have few different
/// limits, moments and shapes.
struct CsvRows<'r, 't> {
    columns: Rc<[Column<'t>]>,
    text: &'t str,
    context: &'r RowContext<'r>,
    origin: u32,
    limits: HashMap<Box<str>, u32>,
    ends: HashMap<Box<str>, Option<UnixMicros>>,
    /// Known shapes, by the columns that have a value, and for one rule by the positions in its path.
    shapes: HashMap<(u64, SmallVec<[u8; 8]>), u32>,
}

impl<'r, 't> CsvRows<'r, 't> {
    fn new(columns: Vec<Column<'t>>, text: &'t str, context: &'r RowContext<'r>, origin: u32) -> CsvRows<'r, 't> {
        let (limits, ends, shapes) = (HashMap::new(), HashMap::new(), HashMap::new());
        CsvRows { columns: columns.into(), text, context, origin, limits, ends, shapes }
    }

    fn add(&mut self, reader: &mut NodeReader<'_>, cells: &[Cell<'t>], builder: &mut TableBuilder) {
        let errors = reader.report.errors();
        if let Some(broken) = misses_columns(cells, self.text, &self.columns) {
            reader.broken(broken);
            return;
        }
        let columns = Rc::clone(&self.columns);
        let mut named: SmallVec<[(&str, &str); 4]> = SmallVec::new();
        let mut at: SmallVec<[u8; 4]> = SmallVec::new();
        let (mut reason, mut owner, mut expires) = ("", "", None);
        for (index, (column, cell)) in columns.iter().zip(cells).enumerate() {
            match column {
                _ if cell.text.is_empty() => {}
                Column::Match(key) => {
                    reader.check_spelling(&cell.text, TextOf::OverrideValue, || cell.location(self.text));
                    named.push((key, &cell.text));
                    at.push(index as u8);
                }
                Column::Reason => reason = &cell.text,
                Column::Owner => owner = &cell.text,
                Column::Expires => expires = Some(cell),
                Column::Limit | Column::Part(_) | Column::Id | Column::Rule => {}
            }
        }
        let limits = self.limits(reader, cells, builder);
        let expires = expires.and_then(|cell| self.end(reader, cell));
        let text = self.text;
        let location = |part| match part {
            MatchPart::Row => cells[0].location(text),
            MatchPart::Key(index) | MatchPart::Value(index) => cells[usize::from(at[index])].location(text),
        };
        let Some(with_stars) = reader.values_with_stars(&named, &location) else { return };
        let meant = with_values(&named, &with_stars);
        let named = if meant.is_empty() { &named[..] } else { &meant[..] };
        let Some(bound) = reader.order_match(named, self.context.target, &location) else { return };
        let named_columns = at.iter().fold(0, |columns, column| columns | 1u64 << column);
        let shape = match self.shapes.get(&(named_columns, bound.positions.clone().unwrap_or_default())) {
            Some(shape) => *shape,
            None => {
                let shape = self.context.target.shape(named, &bound);
                reader.check_shape(&shape, self.context.target, location(MatchPart::Row));
                let number = builder.shape(&shape);
                self.shapes.insert((named_columns, bound.positions.clone().unwrap_or_default()), number);
                number
            }
        };
        let values = bound.order.iter().map(|index| named[usize::from(*index)].1);
        if let Some(limits) = limits.and_then(|number| builder.partial(number)) {
            let (at, values) = (self.limit_location(cells), values.clone().collect::<SmallVec<[&str; 4]>>());
            let keys = builder.shape_keys(shape);
            reader.check_row_shares(&limits, self.context.target, (keys, &values), bound.positions.as_ref(), at);
        }
        if let Some(limits) = limits.filter(|_| reader.report.errors() == errors) {
            builder.add(
                (self.origin, location(MatchPart::Value(0))),
                shape,
                values,
                RowDetails { limits, expires, reason, owner },
            );
        }
    }

    /// Where a row says whom its limit denies, else where it says the limit.
    fn limit_location(&self, cells: &[Cell<'_>]) -> Location {
        let at = |wanted: Column<'_>| self.columns.iter().position(|column| *column == wanted);
        let at = at(Column::Part("enforce")).or_else(|| at(Column::Part("tier"))).unwrap_or(0);
        cells[at].location(self.text)
    }

    fn end(&mut self, reader: &mut NodeReader<'_>, cell: &Cell<'_>) -> Option<UnixMicros> {
        if let Some(Some(end)) = self.ends.get(&*cell.text)
            && *end > self.context.read_at
        {
            return Some(*end);
        }
        let end = reader.expires_text(&cell.text, cell.location(self.text), self.context.read_at);
        self.ends.insert(Box::from(&*cell.text), end);
        end
    }

    fn limits(&mut self, reader: &mut NodeReader<'_>, cells: &[Cell<'_>], builder: &mut TableBuilder) -> Option<u32> {
        let of_limit = |(column, _): &(&Column<'_>, &Cell<'_>)| matches!(column, Column::Limit | Column::Part(_));
        let columns = Rc::clone(&self.columns);
        let words = || columns.iter().zip(cells).filter(of_limit);
        let mut all = String::new();
        words().for_each(|(_, cell)| all.extend([&*cell.text, "\0"]));
        if let Some(limits) = self.limits.get(&*all) {
            return Some(*limits);
        }
        let word = |name| words().find(|(column, _)| **column == Column::Part(name)).map(|(_, cell)| cell);
        let is_missing = |name| word(name).is_none_or(|cell| cell.text.is_empty());
        let node = match words().find(|(column, _)| **column == Column::Limit) {
            Some((_, cell)) if cell.text.is_empty() => {
                reader
                    .error(cell.location(self.text), "`limit` is empty")
                    .hint("write it as `30/5m`, `5/s` or `unlimited`");
                return None;
            }
            Some((_, cell)) => Node::scalar(cell.location(self.text), Cow::Borrowed(&cell.text), true),
            None if is_missing("requests_per_unit") && is_missing("tier") => {
                let at = word("requests_per_unit").unwrap_or(&cells[0]).location(self.text);
                reader
                    .error(at, "`requests_per_unit` is empty, and an empty number is not 0")
                    .hint("write the number, or name a `tier`");
                return None;
            }
            None => {
                let written = words().filter(|(_, cell)| !cell.text.is_empty());
                let entries = written.map(|(column, cell)| {
                    let at = cell.location(self.text);
                    (Node::scalar(at, column.name(), false), Node::scalar(at, Cow::Borrowed(&*cell.text), true))
                });
                Node::map(cells[0].location(self.text), entries.collect())
            }
        };
        let limits = reader.override_limits(&node, self.context)?;
        let number = builder.limits(limits);
        self.limits.insert(all.into(), number);
        Some(number)
    }
}
