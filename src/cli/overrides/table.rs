//! Overrides as rows of files: CSV with the columns of override files, besides `id` and `rule`; or NDJSON.

mod object;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
};

use anyhow::bail;
use object::Object;
use serde::Serialize;

use crate::{
    cli::{limits, show},
    front::api::{Entry, Limit, LimitNumbers, Misread, Override, OverrideSpec, made_override_id, read_json},
    limit::{EnforcedShare, UnixMicros, written},
    rules::rows::{
        columns::{Column, Purpose, columns, misses_columns},
        csv,
    },
    visible,
};

pub(super) struct ImportRow {
    pub(super) line: u32,
    pub(super) id: String,
    pub(super) spec: OverrideSpec,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct RowError {
    pub(super) line: u32,
    pub(super) column: u32,
    #[serde(rename = "error")]
    pub(super) what: String,
}

impl From<csv::CsvError> for RowError {
    fn from(broken: csv::CsvError) -> RowError {
        let (line, column) = broken.line_column();
        let hint = broken.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        RowError { line, column, what: broken.what.into_owned() + &hint }
    }
}

/// `domain` is the one that the rows are for, as far as it is known.
pub(super) fn read_csv(text: &str, domain: &str) -> Result<Vec<ImportRow>, Vec<RowError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut reader, mut cells) = (csv::CsvReader::new(text), Vec::new());
    match reader.next(&mut cells) {
        Ok(true) => {}
        Ok(false) => return Err(vec![RowError { line: 1, column: 1, what: "the file is empty".to_owned() }]),
        Err(broken) => return Err(vec![broken.into()]),
    }
    let (columns, broken) = columns(&cells, text, Purpose::Import);
    if !broken.is_empty() {
        return Err(broken.into_iter().map(RowError::from).collect());
    }
    let columns: Vec<Column<'_>> = columns.into_iter().flatten().collect();
    let (mut rows, mut ids, mut wrong) = (Vec::new(), HashMap::new(), Vec::new());
    loop {
        match reader.next(&mut cells) {
            Ok(true) => {}
            Ok(false) => break,
            Err(broken) => {
                wrong.push(broken.into());
                break;
            }
        }
        let before = wrong.len();
        let row = row(text, &columns, &cells, &mut wrong);
        if wrong.len() == before {
            keep(domain, row, &mut rows, &mut ids, &mut wrong);
        }
    }
    if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
}

fn row(text: &str, columns: &[Column<'_>], cells: &[csv::Cell<'_>], wrong: &mut Vec<RowError>) -> ImportRow {
    let line = cells[0].line();
    let mut row = ImportRow { line, id: String::new(), spec: OverrideSpec::default() };
    if let Some(broken) = misses_columns(cells, text, columns) {
        wrong.push(broken.into());
        return row;
    }
    let mut limit = Limit::default();
    for (column, cell) in columns.iter().zip(cells).filter(|(_, cell)| !cell.text.is_empty()) {
        let said = unmarked(&cell.text).to_owned();
        match column {
            Column::Match(key) => row.spec.r#match.push(Entry { key: key.to_string(), value: said }),
            Column::Id => row.id = said,
            Column::Rule => row.spec.rule = said,
            Column::Limit => limit.short = said,
            Column::Part(part) => {
                if let Err(what) = put_part(&mut limit, part, said) {
                    let (line, column) = cell.line_column(text);
                    wrong.push(RowError { line, column, what });
                }
            }
            Column::Expires => row.spec.expires = said,
            Column::Reason => row.spec.reason = said,
            Column::Owner => row.spec.owner = said,
        }
    }
    if row.spec.r#match.is_empty() {
        wrong.push(RowError { line, column: 1, what: "it matches nothing: no match.<key> has a value".to_owned() });
    }
    if limit == Limit::default() {
        wrong.push(RowError { line, column: 1, what: "it has no limit".to_owned() });
    }
    row.spec.limit = vec![limit];
    row
}

fn put_part(limit: &mut Limit, part: &str, said: String) -> Result<(), String> {
    match part {
        "unit" => limit.unit = said,
        "algorithm" => limit.algorithm = said,
        "tier" => limit.tier = said,
        "enforce" => put_enforce(limit, &said)?,
        number => {
            let field = match number {
                "requests_per_unit" => &mut limit.requests_per_unit,
                "unit_multiplier" => &mut limit.unit_multiplier,
                _ => &mut limit.burst,
            };
            *field = Some(said.parse().map_err(|_| format!("`{number}` must be a whole number, not `{said}`"))?);
        }
    }
    Ok(())
}

/// `true`, `false` or a share of clients such as `10%`.
pub(super) fn put_enforce(limit: &mut Limit, said: &str) -> Result<(), String> {
    match said {
        "true" | "false" => limit.enforce = Some(said == "true"),
        share => match EnforcedShare::parse(share) {
            Ok(share) => limit.enforce_share = share.to_string(),
            Err(why) => {
                return Err(format!("`enforce` must be true, false or a share such as 10%, not `{said}`: {why}"));
            }
        },
    }
    Ok(())
}

/// With its id; one that another row has is wrong, for one would replace the other.
fn keep(
    domain: &str,
    mut row: ImportRow,
    rows: &mut Vec<ImportRow>,
    ids: &mut HashMap<String, u32>,
    wrong: &mut Vec<RowError>,
) {
    if row.id.is_empty() {
        row.id = made_override_id(domain, &row.spec);
    }
    match ids.insert(row.id.clone(), row.line) {
        Some(first) => {
            let what = format!("`{}` is here a second time: first in line {first}", row.id);
            wrong.push(RowError { line: row.line, column: 1, what });
        }
        None => rows.push(row),
    }
}

/// An object on each line: what `spec` has, besides `id`.
pub(super) fn read_ndjson(text: &str, domain: &str) -> Result<Vec<ImportRow>, Vec<RowError>> {
    let (mut rows, mut ids, mut wrong) = (Vec::new(), HashMap::new(), Vec::new());
    let lines = (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines());
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        match read_json::<Object>(text.as_bytes()) {
            Ok(Object { id, spec }) => keep(domain, ImportRow { line, id, spec }, &mut rows, &mut ids, &mut wrong),
            Err(Misread { column, what, .. }) => wrong.push(RowError { line, column: column.max(1), what }),
        }
    }
    if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
}

pub(super) fn ndjson(overrides: &[Override]) -> anyhow::Result<String> {
    let mut out = String::new();
    for it in overrides {
        let mut fields = serde_json::to_value(it.spec.clone().unwrap_or_default())?;
        fields["id"] = it.id.clone().into();
        let _ = writeln!(out, "{fields}");
    }
    Ok(out)
}

/// An error where a row has no room for what an override says.
/// `safe`: no cell is a formula where a spreadsheet opens the file.
pub(super) fn csv(overrides: &[Override], safe: bool) -> anyhow::Result<String> {
    let specs: Vec<(&str, OverrideSpec)> =
        overrides.iter().map(|it| (&*it.id, it.spec.clone().unwrap_or_default())).collect();
    let keys: BTreeSet<&str> =
        specs.iter().flat_map(|(_, spec)| spec.r#match.iter().map(|entry| &*entry.key)).collect();
    let columns = keys.into_iter().map(|key| Column::Match(key.into())).chain(Column::all(Purpose::Import));
    let columns: Vec<Column<'_>> = columns.collect();
    let mut out = line_of(columns.iter().map(|column| column.name().into_owned()), safe);
    for (id, spec) in &specs {
        match spec.limit.as_slice() {
            [limit] if has_room(spec, limit) => {
                out += &line_of(columns.iter().map(|column| cell(id, spec, limit, column)), safe);
            }
            _ => bail!("`{id}` says more than a row of CSV has room for: export with --ndjson"),
        }
    }
    Ok(out)
}

/// Whether the columns say all that an override does.
fn has_room(spec: &OverrideSpec, limit: &Limit) -> bool {
    let rest = Limit {
        short: String::new(),
        tier: String::new(),
        requests_per_unit: None,
        unit: String::new(),
        unit_multiplier: None,
        algorithm: String::new(),
        burst: None,
        enforce: None,
        enforce_share: String::new(),
        ..limit.clone()
    };
    let distinct: BTreeSet<&str> = spec.r#match.iter().map(|entry| &*entry.key).collect();
    rest == Limit::default() && distinct.len() == spec.r#match.len()
}

/// What a column says of an override: [`row`] reads it back.
fn cell(id: &str, spec: &OverrideSpec, limit: &Limit, column: &Column<'_>) -> String {
    let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    match column {
        Column::Match(key) => {
            let entry = spec.r#match.iter().find(|entry| entry.key == **key);
            entry.map(|entry| entry.value.clone()).unwrap_or_default()
        }
        Column::Id => id.to_owned(),
        Column::Rule => spec.rule.clone(),
        Column::Limit => limit.short.clone(),
        Column::Part("requests_per_unit") => number(limit.requests_per_unit),
        Column::Part("unit") => limit.unit.clone(),
        Column::Part("unit_multiplier") => number(limit.unit_multiplier),
        Column::Part("algorithm") => limit.algorithm.clone(),
        Column::Part("tier") => limit.tier.clone(),
        Column::Part("enforce") => {
            limit.enforce.map_or_else(|| limit.enforce_share.clone(), |enforce| enforce.to_string())
        }
        Column::Part(_) => number(limit.burst),
        Column::Expires => spec.expires.clone(),
        Column::Reason => spec.reason.clone(),
        Column::Owner => spec.owner.clone(),
    }
}

/// Before a cell that a spreadsheet would take for a formula, and off again when it is read.
const NO_FORMULA: char = '\'';

/// Whether a spreadsheet would take a cell for a formula, but for any marks before it. Such cells get one more mark and lose
/// one, so that each is read as it was.
fn is_formula(cell: &str) -> bool {
    cell.trim_start_matches(NO_FORMULA).starts_with(['=', '+', '-', '@', '\t', '\r'])
}

fn unmarked(cell: &str) -> &str {
    cell.strip_prefix(NO_FORMULA).filter(|rest| is_formula(rest)).unwrap_or(cell)
}

fn line_of(cells: impl Iterator<Item = String>, safe: bool) -> String {
    let marked = |cell: String| if safe && is_formula(&cell) { format!("{NO_FORMULA}{cell}") } else { cell };
    let quoted = |cell: String| match cell.contains(['"', ',', '\n', '\r']) || cell.trim() != cell {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    cells.map(marked).map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

/// `300 in 60 s, sliding_window`, and so on.
pub(super) fn numbers(all: &[LimitNumbers], is_unlimited: bool) -> String {
    let one = |limit: &LimitNumbers| {
        let effect = limits::effect(limit);
        format!("{} in {} s, {}{effect}", limit.requests, limit.window_seconds, limit.algorithm)
    };
    let all: Vec<String> = all.iter().map(one).collect();
    if is_unlimited { "unlimited".to_owned() } else { all.join(" and ") }
}

/// For people: what it says, who set it, when and why.
pub(super) fn line(it: &Override, now: UnixMicros) -> String {
    let spec = it.spec.clone().unwrap_or_default();
    let entries = spec.r#match.iter().map(|entry| crate::limit::Entry { key: &entry.key, value: &entry.value });
    let limits = numbers(&it.limits, it.unlimited);
    let mut out = format!("{}: {}: {limits}", it.id, written::write_entries(entries));
    let ends = show::moment(&spec.expires, now);
    for (what, said) in [("rule", &spec.rule), ("ends", &ends), ("because", &spec.reason), ("of", &spec.owner)] {
        if !said.is_empty() {
            let _ = write!(out, ", {what} {said}");
        }
    }
    if !it.updated_by.is_empty() {
        let _ = write!(out, ", set by {} at {}", it.updated_by, show::moment(&it.updated_at, now));
    }
    for warning in &it.warnings {
        let _ = write!(out, "; {warning}");
    }
    visible::text(&out).into_owned() + "\n"
}
