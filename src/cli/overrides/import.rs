//! Many overrides at once: every row is read, then put to the service without changing anything, and only if all are good is
//! any written. Each row has an id that doesn't change, so that an import that was cut off is simply run again.

use std::{
    fs,
    io::{IsTerminal as _, Write as _, stderr},
    path::Path,
};

use anyhow::Context;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde::Serialize;

use super::{
    calls::{self, Condition},
    table::{self, ImportRow, RowError},
};
use crate::{
    cli::{
        ask::{Answer, AskError, Service},
        exit::Exit,
    },
    visible,
};

/// Calls under way at once, over one connection. With half as many an import took twice as long.
const AT_ONCE: usize = 64;

/// What is wrong that is listed; the rest is counted.
const LISTED: usize = 100;

const AGAIN: &str = "run the import again, which changes nothing twice";

/// What became of a file, for programs.
#[derive(Default, Serialize)]
struct ImportReport {
    /// In the file; left out where it couldn't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<usize>,
    written: usize,
    dry_run: bool,
    errors: Vec<RowError>,
}

pub(super) async fn import(
    service: &Service,
    domain: &str,
    file: &Path,
    dry_run: bool,
    json: bool,
) -> anyhow::Result<Answer> {
    let text = fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
    let is_csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let read = |domain: &str| if is_csv { table::read_csv(&text, domain) } else { table::read_ndjson(&text, domain) };
    let mut rows = read(domain);
    let placed = rows.iter().flatten().find(|row| row.spec.rule.contains('/'));
    if let Some(row) = placed.filter(|_| domain.is_empty()) {
        rows = read(&calls::domain_of(service, domain, &row.spec).await);
    }
    let outcome = match rows {
        Ok(rows) => {
            let mut outcome = ImportReport { rows: Some(rows.len()), dry_run, ..ImportReport::default() };
            outcome.errors = put(service, domain, &rows, true).await?;
            if outcome.errors.is_empty() && !dry_run {
                outcome.errors = put(service, domain, &rows, false).await?;
                outcome.written = rows.len() - outcome.errors.len();
            }
            outcome
        }
        Err(errors) => ImportReport { dry_run, errors, ..ImportReport::default() },
    };
    let text = if json { String::new() } else { report(file, &outcome) };
    let exit = if outcome.errors.is_empty() { Exit::Done } else { Exit::Failed };
    Ok(Answer { text, json: serde_json::to_value(&outcome)?, exit })
}

/// What became of it; what is wrong is printed to standard error.
fn report(file: &Path, outcome: &ImportReport) -> String {
    let mut out = String::new();
    let (rows, errors) = (outcome.rows.unwrap_or_default(), &outcome.errors);
    for RowError { line, column, what } in errors.iter().take(LISTED) {
        eprintln!("{}:{line}:{column}: {}", file.display(), visible::lines(what));
    }
    if errors.len() > LISTED {
        eprintln!("and {} more", errors.len() - LISTED);
    }
    match (errors.len(), outcome.written) {
        (0, 0) if outcome.dry_run => out += &format!("{rows} are good; nothing was changed\n"),
        (0, written) => out += &format!("{written} written\n"),
        (wrong, 0) => eprintln!("{wrong} wrong; nothing was changed"),
        (failed, _) => eprintln!("{failed} of {rows} not written: {AGAIN}"),
    }
    out
}

/// What the service refuses, in the order of the rows. An error where it would refuse every row.
async fn put(service: &Service, domain: &str, rows: &[ImportRow], dry_run: bool) -> anyhow::Result<Vec<RowError>> {
    let mut bar = ProgressBar::new(if dry_run { "checked" } else { "written" }, rows.len());
    let calls = rows.iter().map(|row| {
        let saved = calls::set(service, (domain, &row.id), &row.spec, Condition::default(), dry_run);
        async move { saved.await.err().map(|error| (row.line, error)) }
    });
    let mut answers = stream::iter(calls).buffered(AT_ONCE);
    let mut wrong = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Some((line, error)) if is_of_the_row(&error) => {
                wrong.push(RowError { line, column: 1, what: error.to_string() });
            }
            Some((line, error)) => {
                let changed = if dry_run { "nothing was changed".to_owned() } else { AGAIN.to_owned() };
                return Err(anyhow::Error::from(error).context(format!("stopped at line {line}; {changed}")));
            }
            None => {}
        }
        bar.step();
    }
    Ok(wrong)
}

/// Not of the token, the domain, the service or the way to it, of which one line says enough.
fn is_of_the_row(error: &AskError) -> bool {
    let of_rows = [StatusCode::BAD_REQUEST, StatusCode::PRECONDITION_FAILED, StatusCode::PAYLOAD_TOO_LARGE];
    error.status().is_some_and(|status| of_rows.contains(&status))
}

/// Only on a terminal.
struct ProgressBar {
    what: &'static str,
    done: usize,
    all: usize,
    is_shown: bool,
}

impl ProgressBar {
    fn new(what: &'static str, all: usize) -> ProgressBar {
        ProgressBar { what, done: 0, all, is_shown: all > AT_ONCE && stderr().is_terminal() }
    }

    fn step(&mut self) {
        const WIDTH: usize = 40;
        self.done += 1;
        let is_due = self.done == self.all || self.done.is_multiple_of((self.all / 200).max(1));
        if self.is_shown && is_due {
            let filled = WIDTH * self.done / self.all;
            let end = if self.done == self.all { "\n" } else { "" };
            let (full, empty) = ("#".repeat(filled), "-".repeat(WIDTH - filled));
            let _ = write!(stderr(), "\r[{full}{empty}] {} of {} {}{end}", self.done, self.all, self.what);
        }
    }
}
