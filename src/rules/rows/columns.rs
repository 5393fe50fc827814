//! The columns of overrides as CSV: which there are, and what a first line says of them. The same for the files that rules
//! name and for those that the command line imports and exports. Knows nothing of what the cells below them mean.

use std::borrow::Cow;

use super::csv::{Cell, CsvError};
use crate::rules::{fields::nearest, node::Location};

/// Columns of the parts of a limit, in place of the column `limit`.
pub(super) const PARTS: [&str; 7] =
    ["requests_per_unit", "unit", "unit_multiplier", "algorithm", "burst", "tier", "enforce"];

/// Of a table that rules name: a bit for each of them tells what a row names.
const COLUMNS_MAX: usize = 64;

/// What a column says of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column<'t> {
    /// The value of a key.
    Match(Cow<'t, str>),
    /// In one word.
    Limit,
    /// By its name.
    Part(&'static str),
    Expires,
    Reason,
    Owner,
    Id,
    Rule,
}

/// What a table is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A rule file names it: it says where rows belong, and nobody changes them by their id.
    Rules,
    /// It goes to a service, or comes from one.
    Import,
}

impl<'t> Column<'t> {
    /// All that are called the same in every table, in the order in which they are written.
    pub(crate) fn all(purpose: Purpose) -> impl Iterator<Item = Column<'t>> {
        let own = [Column::Id, Column::Rule].into_iter().filter(move |_| purpose == Purpose::Import);
        let ends = [Column::Expires, Column::Reason, Column::Owner];
        own.chain([Column::Limit]).chain(PARTS.map(Column::Part)).chain(ends)
    }

    fn of(name: &Cow<'t, str>, purpose: Purpose) -> Option<Column<'t>> {
        if let Some(known) = Column::all(purpose).find(|column| column.name() == **name) {
            return Some(known);
        }
        let key = match name {
            Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix("match.")?),
            Cow::Owned(text) => Cow::Owned(text.strip_prefix("match.")?.to_owned()),
        };
        // Where rules say which keys there are, they also say that this is none of them.
        (!key.is_empty() || purpose == Purpose::Rules).then_some(Column::Match(key))
    }

    /// As a first line writes it.
    pub(crate) fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Column::Match(key) => return Cow::Owned(format!("match.{key}")),
            Column::Limit => "limit",
            Column::Part(part) => part,
            Column::Expires => "expires",
            Column::Reason => "reason",
            Column::Owner => "owner",
            Column::Id => "id",
            Column::Rule => "rule",
        })
    }
}

/// The columns that the first line of a text names, `None` for a cell that is none of them; and what is wrong with it.
pub(crate) fn columns<'t>(
    cells: &[Cell<'t>],
    text: &str,
    purpose: Purpose,
) -> (Vec<Option<Column<'t>>>, Vec<CsvError>) {
    if purpose == Purpose::Rules && cells.len() > COLUMNS_MAX {
        let (at, what) = (cells[0].location(text), format!("{} columns are more than {COLUMNS_MAX}", cells.len()));
        return (Vec::new(), vec![CsvError { at, what: what.into(), hint: None }]);
    }
    let (mut columns, mut broken) = (Vec::with_capacity(cells.len()), Vec::new());
    for cell in cells {
        // A single column of that form is a line with another separator.
        let is_line =
            |column: &Column<'_>| cells.len() == 1 && matches!(column, Column::Match(key) if key.contains(';'));
        let column = Column::of(&cell.text, purpose).filter(|column| !is_line(column));
        match &column {
            None => broken.push(unknown(cell, text, purpose)),
            // A key that occurs twice in a rule's path has two columns.
            Some(Column::Match(_)) => {}
            Some(_) if columns.contains(&column) => {
                let what = format!("column `{}` is here a second time", cell.text);
                broken.push(CsvError { at: cell.location(text), what: what.into(), hint: None });
            }
            Some(_) => {}
        }
        columns.push(column);
    }
    (columns, broken)
}

fn unknown(cell: &Cell<'_>, text: &str, purpose: Purpose) -> CsvError {
    let names: Vec<Cow<'_, str>> = Column::all(purpose).map(|column| column.name()).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let hint: Cow<'static, str> = match nearest(&cell.text, &names) {
        Some(meant) => format!("did you mean `{meant}`?").into(),
        None if cell.text.contains(';') => "cells are separated by commas".into(),
        None => header(purpose).into(),
    };
    CsvError { at: cell.location(text), what: format!("unknown column `{}`", cell.text).into(), hint: Some(hint) }
}

/// What a first line may be.
pub(crate) fn header(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Rules => "the first line is such as `match.user,limit,expires,reason,owner`",
        Purpose::Import => "the first line is such as `match.user,id,rule,limit,expires,reason,owner`",
    }
}

/// Why a record isn't one of a table with these columns, if so.
pub(crate) fn misses_columns(cells: &[Cell<'_>], text: &str, columns: &[Column<'_>]) -> Option<CsvError> {
    let (has, wants) = (cells.len(), columns.len());
    if has == wants {
        return None;
    }
    let at: Location = cells[wants.min(has - 1)].location(text);
    let plural = if has == 1 { "" } else { "s" };
    let what = format!("this row has {has} cell{plural}, and the first line names {wants} columns");
    let hint = "write an empty cell where there is nothing to say; text with a comma must be in quotes";
    Some(CsvError { at, what: what.into(), hint: Some(hint.into()) })
}
