//! Overrides as rows of files: CSV with the columns of override files, besides `id` and `rule`; or NDJSON.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
};

use anyhow::bail;
use serde::Serialize;

use crate::{
    front::api::{Entry, Limit, Override, OverrideSpec, made_override_id},
    limit::written,
    rules::rows::csv,
    visible,
};

pub(super) struct Row {
    pub(super) line: u32,
    pub(super) id: String,
    pub(super) spec: OverrideSpec,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Wrong {
    pub(super) line: u32,
    pub(super) column: u32,
    #[serde(rename = "error")]
    pub(super) what: String,
}

const COLUMNS: [&str; 12] = [
    "id",
    "rule",
    "limit",
    "requests_per_unit",
    "unit",
    "unit_multiplier",
    "algorithm",
    "burst",
    "tier",
    "expires",
    "reason",
    "owner",
];

/// `domain` is the one that the rows are for, as far as it is known.
pub(super) fn read_csv(text: &str, domain: &str) -> Result<Vec<Row>, Vec<Wrong>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut reader, mut cells, mut wrong) = (csv::Reader::new(text), Vec::new(), Vec::new());
    let broken = |broken: csv::Broken| {
        let (line, column) = broken.line_column();
        Wrong { line, column, what: format!("{} ({})", broken.what, broken.hint) }
    };
    match reader.next(&mut cells) {
        Ok(true) => {}
        Ok(false) => return Err(vec![Wrong { line: 1, column: 1, what: "the file is empty".to_owned() }]),
        Err(error) => return Err(vec![broken(error)]),
    }
    let mut header: Vec<String> = Vec::new();
    for cell in &cells {
        let (line, column) = cell.line_column(text);
        let is_known =
            COLUMNS.contains(&&*cell.text) || cell.text.strip_prefix("match.").is_some_and(|k| !k.is_empty());
        if !is_known {
            let what = format!("there is no column `{}`: there are match.<key>, {}", cell.text, COLUMNS.join(", "));
            wrong.push(Wrong { line, column, what });
        }
        if !cell.text.starts_with("match.") && header.iter().any(|earlier| *earlier == cell.text) {
            wrong.push(Wrong { line, column, what: format!("column `{}` is here a second time", cell.text) });
        }
        header.push(cell.text.to_string());
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let (mut rows, mut ids) = (Vec::new(), HashMap::new());
    loop {
        match reader.next(&mut cells) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                wrong.push(broken(error));
                break;
            }
        }
        let before = wrong.len();
        let row = row(text, &header, &cells, &mut wrong);
        if wrong.len() == before {
            keep(domain, row, &mut rows, &mut ids, &mut wrong);
        }
    }
    if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
}

fn row(text: &str, header: &[String], cells: &[csv::Cell<'_>], wrong: &mut Vec<Wrong>) -> Row {
    let line = cells[0].line();
    let mut row = Row { line, id: String::new(), spec: OverrideSpec::default() };
    if cells.len() != header.len() {
        let what = format!("{} cells, where the first line has {}", cells.len(), header.len());
        wrong.push(Wrong { line, column: 1, what });
        return row;
    }
    let mut limit = Limit::default();
    for (name, cell) in header.iter().zip(cells).filter(|(_, cell)| !cell.text.is_empty()) {
        let said = unmarked(&cell.text).to_owned();
        let mut number = || {
            let number = said.parse().ok();
            if number.is_none() {
                let (line, column) = cell.line_column(text);
                wrong.push(Wrong { line, column, what: format!("`{name}` must be a whole number, not `{said}`") });
            }
            number
        };
        match name.as_str() {
            "requests_per_unit" => limit.requests_per_unit = number(),
            "unit_multiplier" => limit.unit_multiplier = number(),
            "burst" => limit.burst = number(),
            "id" => row.id = said,
            "rule" => row.spec.rule = said,
            "limit" => limit.short = said,
            "unit" => limit.unit = said,
            "algorithm" => limit.algorithm = said,
            "tier" => limit.tier = said,
            "expires" => row.spec.expires = said,
            "reason" => row.spec.reason = said,
            "owner" => row.spec.owner = said,
            name => {
                let key = name.strip_prefix("match.").unwrap_or(name).to_owned();
                row.spec.r#match.push(Entry { key, value: said });
            }
        }
    }
    if row.spec.r#match.is_empty() {
        wrong.push(Wrong { line, column: 1, what: "it matches nothing: no match.<key> has a value".to_owned() });
    }
    if limit == Limit::default() {
        wrong.push(Wrong { line, column: 1, what: "it has no limit".to_owned() });
    }
    row.spec.limit = vec![limit];
    row
}

/// With its id; one that another row has is wrong, for one would replace the other.
fn keep(domain: &str, mut row: Row, rows: &mut Vec<Row>, ids: &mut HashMap<String, u32>, wrong: &mut Vec<Wrong>) {
    if row.id.is_empty() {
        row.id = made_override_id(domain, &row.spec);
    }
    match ids.insert(row.id.clone(), row.line) {
        Some(first) => {
            let what = format!("`{}` is here a second time: first in line {first}", row.id);
            wrong.push(Wrong { line: row.line, column: 1, what });
        }
        None => rows.push(row),
    }
}

/// An object on each line: what `spec` has, besides `id`.
pub(super) fn read_ndjson(text: &str, domain: &str) -> Result<Vec<Row>, Vec<Wrong>> {
    let (mut rows, mut ids, mut wrong) = (Vec::new(), HashMap::new(), Vec::new());
    for (line, text) in (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let read = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).and_then(|mut fields| {
            let id = fields.remove("id").map(serde_json::from_value).transpose()?.unwrap_or_default();
            Ok(Row { line, id, spec: serde_json::from_value(fields.into())? })
        });
        match read {
            Ok(row) => keep(domain, row, &mut rows, &mut ids, &mut wrong),
            Err(error) => {
                let column = u32::try_from(error.column().max(1)).unwrap_or(1);
                wrong.push(Wrong { line, column, what: error.to_string() });
            }
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
    let names = keys.iter().map(|key| format!("match.{key}")).chain(COLUMNS.map(str::to_owned));
    let mut out = line_of(names, safe);
    for (id, spec) in &specs {
        let room = Limit {
            short: String::new(),
            tier: String::new(),
            requests_per_unit: None,
            unit: String::new(),
            unit_multiplier: None,
            algorithm: String::new(),
            burst: None,
            ..spec.limit.first().cloned().unwrap_or_default()
        };
        let distinct: BTreeSet<&str> = spec.r#match.iter().map(|entry| &*entry.key).collect();
        if spec.limit.len() != 1 || room != Limit::default() || distinct.len() != spec.r#match.len() {
            bail!("`{id}` says more than a row of CSV has room for: export with --ndjson");
        }
        let limit = &spec.limit[0];
        let value = |key: &&str| {
            let entry = spec.r#match.iter().find(|entry| entry.key == **key);
            entry.map(|entry| entry.value.clone()).unwrap_or_default()
        };
        let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let others = [
            (*id).to_owned(),
            spec.rule.clone(),
            limit.short.clone(),
            number(limit.requests_per_unit),
            limit.unit.clone(),
            number(limit.unit_multiplier),
            limit.algorithm.clone(),
            number(limit.burst),
            limit.tier.clone(),
            spec.expires.clone(),
            spec.reason.clone(),
            spec.owner.clone(),
        ];
        out += &line_of(keys.iter().map(value).chain(others), safe);
    }
    Ok(out)
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

/// For people.
pub(super) fn line(it: &Override) -> String {
    let spec = it.spec.clone().unwrap_or_default();
    let entries = spec.r#match.iter().map(|entry| crate::limit::Entry { key: &entry.key, value: &entry.value });
    let limits: Vec<String> = it
        .limits
        .iter()
        .map(|limit| format!("{} in {} s, {}", limit.requests, limit.window_seconds, limit.algorithm))
        .collect();
    let limits = if it.unlimited { "unlimited".to_owned() } else { limits.join(" and ") };
    let mut out = format!("{}: {}: {limits}", it.id, written::text(entries));
    for (what, said) in [("rule", &spec.rule), ("ends", &spec.expires), ("because", &spec.reason), ("of", &spec.owner)]
    {
        if !said.is_empty() {
            let _ = write!(out, ", {what} {said}");
        }
    }
    for warning in &it.warnings {
        let _ = write!(out, "; {warning}");
    }
    visible::text(&out).into_owned() + "\n"
}
