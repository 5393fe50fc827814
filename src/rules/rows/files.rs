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

use std::{borrow::Cow, collections::HashMap, path::Path, rc::Rc};

use smallvec::SmallVec;

use super::{
    builder::{Builder, Rest},
    csv::{Cell, Reader},
    read::{Context, Part, Target},
};
use crate::{
    limit::UnixMicros,
    rules::{
        fields::{Pen, nearest},
        json,
        yaml::{self, Node, Place, Value},
    },
};

/// The format of a file, by its name.
#[derive(Clone, Copy)]
enum Format {
    Csv,
    Ndjson,
    Yaml,
}

impl Format {
    fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "csv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }
}

/// Whether a file may be named in `overrides_from`.
pub(crate) fn is_override_file(path: &Path) -> bool {
    Format::of(path).is_some()
}

/// The names in a rule file's `overrides_from`, as far as a broken file can be read: its mistakes are reported when it
/// is loaded.
pub(crate) fn names_of_files(bytes: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    // Few files name any, and the others needn't be parsed twice.
    if !text.contains("overrides_from") {
        return Vec::new();
    }
    let mut names = Vec::new();
    if let Some(root) = yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(text)).root {
        collect_names(&root, &mut names);
    }
    names
}

fn collect_names(node: &Node<'_>, names: &mut Vec<String>) {
    let Value::Map(entries) = &node.value else { return };
    for (key, value) in entries.iter() {
        let (Value::Scalar { text: key, .. }, Value::List(items)) = (&key.value, &value.value) else { continue };
        for item in items.iter() {
            match (&**key, &item.value) {
                ("overrides_from", Value::Scalar { text, .. }) => names.push(text.to_string()),
                ("descriptors", _) => collect_names(item, names),
                _ => {}
            }
        }
    }
}

const FIRST_LINE: Place = Place { line: 1, column: 1, width: 1 };

impl Pen<'_> {
    /// Reads a whole file into `builder`.
    pub(crate) fn override_file(
        &mut self,
        bytes: &[u8],
        context: &Context<'_>,
        (origin, builder): (u32, &mut Builder),
    ) {
        let Some(text) = self.utf8(bytes) else { return };
        match Format::of(self.path) {
            Some(Format::Csv) => self.csv(text, context, (origin, builder)),
            Some(Format::Ndjson) => self.ndjson(text, context, (origin, builder)),
            Some(Format::Yaml) => self.yaml(text, context, (origin, builder)),
            // A file with another ending is reported where it is named.
            None => {}
        }
    }

    fn yaml(&mut self, text: &str, context: &Context<'_>, into: (u32, &mut Builder)) {
        if let Some(root) = self.document(yaml::parse(text)) {
            self.rows(&root, context, into);
        }
    }

    fn ndjson(&mut self, text: &str, context: &Context<'_>, (origin, builder): (u32, &mut Builder)) {
        for (line, object) in (1..).zip(text.lines()).filter(|(_, object)| !object.trim().is_empty()) {
            if !object.trim_start().starts_with('{') {
                let at = Place { line, column: 1, width: object.chars().count() as u32 };
                self.error(at, "each line must be a JSON object")
                    .hint(r#"write it as `{"match": {"user": "alice"}, "limit": "5/s"}`"#);
                continue;
            }
            let mut document = json::parse_from(object, line);
            document.faults.iter_mut().for_each(|fault| fault.what = fault.what.replacen("not YAML", "not JSON", 1));
            let Some(node) = self.document(document) else { continue };
            if let Some(row) = self.row(&node, context, builder) {
                builder.add_row((origin, node.at), &row);
            }
        }
    }

    fn csv(&mut self, text: &str, context: &Context<'_>, (origin, builder): (u32, &mut Builder)) {
        let (mut reader, mut cells) = (Reader::new(text), Vec::new());
        let mut table = None;
        loop {
            match reader.next(&mut cells) {
                Ok(true) => {}
                Ok(false) => break,
                Err(broken) => {
                    self.error(broken.at, broken.what).hint(broken.hint);
                    return;
                }
            }
            match &mut table {
                None => match self.header(&cells, text, context.target) {
                    Some(columns) => table = Some(Records::new(columns, text, context, origin)),
                    None => return,
                },
                Some(table) => table.add(self, &cells, builder),
            }
        }
        if table.is_none() {
            self.error(FIRST_LINE, "the file is empty: its first line must name the columns").hint(HEADER);
        }
    }

    fn header<'t>(&mut self, cells: &[Cell<'t>], text: &'t str, target: Target<'_>) -> Option<Vec<Column<'t>>> {
        let errors = self.report.errors();
        if cells.len() > COLUMNS_MAX {
            self.error(FIRST_LINE, format!("{} columns are more than {COLUMNS_MAX}", cells.len()));
            return None;
        }
        let mut columns = Vec::with_capacity(cells.len());
        for cell in cells {
            let column = Column::of(cell.text.clone());
            match &column {
                None => self.unknown_column(cell, text),
                Some(Column::Match(key)) if cells.len() == 1 && key.contains(';') => self.unknown_column(cell, text),
                // A key that occurs twice in a rule's path has two columns.
                Some(Column::Match(key)) => drop(self.check_key(key, target, cell.place(text))),
                Some(column) if columns.contains(column) => {
                    self.error(cell.place(text), format!("column `{}` is here a second time", cell.text));
                }
                Some(_) => {}
            }
            columns.extend(column);
        }
        if self.report.errors() > errors {
            return None;
        }
        let has = |is: fn(&Column<'_>) -> bool| columns.iter().any(is);
        if !has(|column| matches!(column, Column::Match(_))) {
            self.error(FIRST_LINE, "no column says whom a row is for").hint(HEADER);
        }
        match (has(|column| *column == Column::Limit), has(|column| matches!(column, Column::Part(_)))) {
            (false, false) => {
                self.error(FIRST_LINE, "no column says what a row grants").hint(HEADER);
            }
            (true, true) => {
                self.error(FIRST_LINE, "`limit` and the columns of its parts are of different forms")
                    .hint(format!("write `limit`, or {}", PARTS.join(", ")));
            }
            _ => {}
        }
        (self.report.errors() == errors).then_some(columns)
    }

    fn unknown_column(&mut self, cell: &Cell<'_>, text: &str) {
        let problem = self.error(cell.place(text), format!("unknown column `{}`", cell.text));
        let names: Vec<&str> = PLAIN.iter().chain(&PARTS).copied().collect();
        match nearest(&cell.text, &names) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None if cell.text.contains(';') => problem.hint("cells are separated by commas"),
            None => problem.hint(HEADER),
        }
    }
}

const HEADER: &str = "the first line is such as `match.user,limit,expires,reason,owner`";

/// Columns of the parts of a limit, in place of the column `limit`.
const PARTS: [&str; 6] = ["requests_per_unit", "unit", "unit_multiplier", "algorithm", "burst", "tier"];

const PLAIN: [&str; 4] = ["limit", "expires", "reason", "owner"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Column<'t> {
    Match(Cow<'t, str>),
    Limit,
    Part(&'static str),
    Expires,
    Reason,
    Owner,
}

impl<'t> Column<'t> {
    fn of(name: Cow<'t, str>) -> Option<Column<'t>> {
        Some(match &*name {
            "limit" => Column::Limit,
            "expires" => Column::Expires,
            "reason" => Column::Reason,
            "owner" => Column::Owner,
            text => match PARTS.into_iter().find(|part| *part == text) {
                Some(part) => Column::Part(part),
                None => {
                    text.strip_prefix("match.")?;
                    Column::Match(match name {
                        Cow::Borrowed(text) => Cow::Borrowed(&text["match.".len()..]),
                        Cow::Owned(text) => Cow::Owned(text["match.".len()..].to_owned()),
                    })
                }
            },
        })
    }
}

/// Makes rows of a CSV file's records. What records have in common is read once: a million of them have few different
/// limits, moments and shapes.
struct Records<'r, 't> {
    columns: Rc<[Column<'t>]>,
    text: &'t str,
    context: &'r Context<'r>,
    origin: u32,
    grants: HashMap<Box<str>, u32>,
    ends: HashMap<Box<str>, Option<UnixMicros>>,
    /// Known shapes, by the columns that have a value, and for one rule by the positions in its path.
    shapes: HashMap<(u64, SmallVec<[u8; 8]>), u32>,
}

/// Largest number of columns: which of them have a value is one bit for each.
const COLUMNS_MAX: usize = 64;

impl<'r, 't> Records<'r, 't> {
    fn new(columns: Vec<Column<'t>>, text: &'t str, context: &'r Context<'r>, origin: u32) -> Records<'r, 't> {
        let (grants, ends, shapes) = (HashMap::new(), HashMap::new(), HashMap::new());
        Records { columns: columns.into(), text, context, origin, grants, ends, shapes }
    }

    fn add(&mut self, pen: &mut Pen<'_>, cells: &[Cell<'t>], builder: &mut Builder) {
        let errors = pen.report.errors();
        if !self.has_every_column(pen, cells) {
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
                    named.push((key, &cell.text));
                    at.push(index as u8);
                }
                Column::Reason => reason = &cell.text,
                Column::Owner => owner = &cell.text,
                Column::Expires => expires = Some(cell),
                Column::Limit | Column::Part(_) => {}
            }
        }
        let grant = self.grant(pen, cells, builder);
        let expires = expires.and_then(|cell| self.end(pen, cell));
        let text = self.text;
        let place = |part| match part {
            Part::Row => cells[0].place(text),
            Part::Key(index) | Part::Value(index) => cells[usize::from(at[index])].place(text),
        };
        let Some(bound) = pen.bind(&named, self.context.target, &place) else { return };
        let named_columns = at.iter().fold(0, |columns, column| columns | 1u64 << column);
        let shape = match self.shapes.get(&(named_columns, bound.positions.clone().unwrap_or_default())) {
            Some(shape) => *shape,
            None => {
                let shape = self.context.target.shape(&named, &bound);
                pen.check_shape(&shape, self.context.target, place(Part::Row));
                let number = builder.shape(&shape);
                self.shapes.insert((named_columns, bound.positions.clone().unwrap_or_default()), number);
                number
            }
        };
        if let Some(grant) = grant.filter(|_| pen.report.errors() == errors) {
            let values = bound.order.iter().map(|index| named[usize::from(*index)].1);
            builder.add((self.origin, place(Part::Value(0))), shape, values, Rest { grant, expires, reason, owner });
        }
    }

    fn has_every_column(&self, pen: &mut Pen<'_>, cells: &[Cell<'_>]) -> bool {
        let (has, wants) = (cells.len(), self.columns.len());
        if has != wants {
            let at = cells[wants.min(has - 1)].place(self.text);
            let plural = if has == 1 { "" } else { "s" };
            pen.error(at, format!("this row has {has} cell{plural}, and the first line names {wants} columns"))
                .hint("write an empty cell where there is nothing to say; text with a comma must be in quotes");
        }
        has == wants
    }

    fn end(&mut self, pen: &mut Pen<'_>, cell: &Cell<'_>) -> Option<UnixMicros> {
        if let Some(Some(end)) = self.ends.get(&*cell.text)
            && *end > self.context.read_at
        {
            return Some(*end);
        }
        let end = pen.expires_text(&cell.text, cell.place(self.text), self.context.read_at);
        self.ends.insert(Box::from(&*cell.text), end);
        end
    }

    fn grant(&mut self, pen: &mut Pen<'_>, cells: &[Cell<'_>], builder: &mut Builder) -> Option<u32> {
        let of_limit = |(column, _): &(&Column<'_>, &Cell<'_>)| matches!(column, Column::Limit | Column::Part(_));
        let columns = Rc::clone(&self.columns);
        let words = || columns.iter().zip(cells).filter(of_limit);
        let mut all = String::new();
        words().for_each(|(_, cell)| all.extend([&*cell.text, "\0"]));
        if let Some(grant) = self.grants.get(&*all) {
            return Some(*grant);
        }
        let word = |name: &str| words().find(|(column, _)| column.is_part(name)).map(|(_, cell)| cell);
        let is_missing = |name: &str| word(name).is_none_or(|cell| cell.text.is_empty());
        let node = match words().find(|(column, _)| **column == Column::Limit) {
            Some((_, cell)) if cell.text.is_empty() => {
                pen.error(cell.place(self.text), "`limit` is empty").hint("write it as `30/5m`, `5/s` or `unlimited`");
                return None;
            }
            Some((_, cell)) => Node::scalar(cell.place(self.text), Cow::Borrowed(&cell.text), true),
            None if is_missing("requests_per_unit") && is_missing("tier") => {
                let at = word("requests_per_unit").unwrap_or(&cells[0]).place(self.text);
                pen.error(at, "`requests_per_unit` is empty, and an empty number is not 0")
                    .hint("write the number, or name a `tier`");
                return None;
            }
            None => {
                let written = words().filter(|(_, cell)| !cell.text.is_empty());
                let entries = written.map(|(column, cell)| {
                    let at = cell.place(self.text);
                    (
                        Node::scalar(at, Cow::Borrowed(column.name()), false),
                        Node::scalar(at, Cow::Borrowed(&*cell.text), true),
                    )
                });
                Node::map(cells[0].place(self.text), entries.collect())
            }
        };
        let grant = pen.grant(&node, self.context)?;
        let number = builder.grant(grant);
        self.grants.insert(all.into(), number);
        Some(number)
    }
}

impl Column<'_> {
    fn is_part(&self, name: &str) -> bool {
        matches!(self, Column::Part(part) if *part == name)
    }

    fn name(&self) -> &'static str {
        match self {
            Column::Part(part) => part,
            _ => "limit",
        }
    }
}
