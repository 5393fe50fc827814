//! Many overrides at once: every row is read, then put to the service without changing anything, and only if all are good is
//! any written. Each row has an id that doesn't change, so that an import that was cut off is simply run again.

use std::{
    fs,
    io::{IsTerminal as _, Write as _, stderr},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use futures_util::{StreamExt as _, stream};

use super::table::{self, Row, Wrong};
use crate::{api::SetOverrideRequest, cli::client::Service};

/// Calls under way at once, over one connection.
const AT_ONCE: usize = 32;

/// What is wrong that is listed; the rest is counted.
const LISTED: usize = 100;

pub(super) async fn import(service: &Service, domain: &str, file: &Path, dry_run: bool) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
    let is_csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let rows = if is_csv { table::read_csv(&text) } else { table::read_ndjson(&text) };
    let wrong = match rows {
        Ok(rows) => {
            let wrong = put(service, domain, &rows, true).await;
            if wrong.is_empty() && !dry_run {
                let failed = put(service, domain, &rows, false).await;
                if failed.is_empty() {
                    println!("{} written", rows.len());
                    return Ok(ExitCode::SUCCESS);
                }
                list(file, &failed);
                eprintln!(
                    "{} of {} not written: run the import again, which changes nothing twice",
                    failed.len(),
                    rows.len()
                );
                return Ok(ExitCode::FAILURE);
            }
            if wrong.is_empty() {
                println!("{} are good; nothing was changed", rows.len());
                return Ok(ExitCode::SUCCESS);
            }
            wrong
        }
        Err(wrong) => wrong,
    };
    list(file, &wrong);
    eprintln!("{} wrong; nothing was changed", wrong.len());
    Ok(ExitCode::FAILURE)
}

fn list(file: &Path, wrong: &[Wrong]) {
    for Wrong { line, column, what } in wrong.iter().take(LISTED) {
        eprintln!("{}:{line}:{column}: {what}", file.display());
    }
    if wrong.len() > LISTED {
        eprintln!("and {} more", wrong.len() - LISTED);
    }
}

/// What the service refuses, in the order of the rows.
async fn put(service: &Service, domain: &str, rows: &[Row], dry_run: bool) -> Vec<Wrong> {
    let mut bar = Bar::new(if dry_run { "checked" } else { "written" }, rows.len());
    let calls = rows.iter().map(|row| {
        let request = SetOverrideRequest {
            domain: domain.to_owned(),
            id: row.id.clone(),
            spec: Some(row.spec.clone()),
            dry_run,
            ..SetOverrideRequest::default()
        };
        let (mut client, request) = (service.client(), service.call(request));
        async move {
            let answer = client.set_override(request).await;
            answer.err().map(|status| Wrong { line: row.line, column: 1, what: status.message().to_owned() })
        }
    });
    let mut answers = stream::iter(calls).buffered(AT_ONCE);
    let mut wrong = Vec::new();
    while let Some(answer) = answers.next().await {
        wrong.extend(answer);
        bar.step();
    }
    wrong
}

/// Only on a terminal.
struct Bar {
    what: &'static str,
    done: usize,
    all: usize,
    is_shown: bool,
}

impl Bar {
    fn new(what: &'static str, all: usize) -> Bar {
        Bar { what, done: 0, all, is_shown: all > AT_ONCE && stderr().is_terminal() }
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
