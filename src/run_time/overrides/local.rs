//! Run-time overrides of a single process: in memory, and where there is a state directory in a journal there. Knows what
//! the lines of the files are; what a record says is the business of `row`.
//!
//! The journal `overrides.ndjson` has a line for each write, the last of an id counts. It is kept before a write is
//! answered, and written anew as a whole once most of it is history. `audit.ndjson` has a line for each audit entry,
//! likewise.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::run_time::audit::{self, AuditEntry};
use crate::{limit::UnixMicros, state_dir::Journal};

const OVERRIDES: &str = "overrides.ndjson";
const AUDIT: &str = "audit.ndjson";

/// A journal with this many more lines than rows is rewritten.
const HISTORY_MAX: usize = 1_024;

/// A line of the journal: the last write of an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JournalLine {
    pub domain: Box<str>,
    pub id: Box<str>,
    pub version: u64,
    /// The record; `None` if it was deleted.
    pub record: Option<Box<str>>,
}

/// A line of the audit file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AuditLine {
    pub id: String,
    pub domain: Box<str>,
    pub draft: String,
    pub before: Option<Box<str>>,
    pub after: Option<Box<str>>,
}

/// The storage of a single process, besides the rows themselves. Its methods block for as long as the disk takes.
pub(in crate::run_time) struct LocalStorage {
    journal: Option<Journal>,
    audit_file: Option<Journal>,
    audit: VecDeque<AuditLine>,
    last_version: u64,
}

impl LocalStorage {
    /// Opens the storage, and returns the lines that are in it. Without a directory everything ends with the process.
    pub(super) fn open(directory: Option<&Path>) -> io::Result<(LocalStorage, Vec<JournalLine>)> {
        let Some(directory) = directory else {
            let audit = VecDeque::new();
            return Ok((LocalStorage { journal: None, audit_file: None, audit, last_version: 0 }, Vec::new()));
        };
        let (journal, lines) = Journal::open::<JournalLine>(directory.join(OVERRIDES))?;
        let (audit_file, noted) = Journal::open::<AuditLine>(directory.join(AUDIT))?;
        let skipped = noted.len().saturating_sub(audit::ENTRIES_MAX);
        let audit = noted.into_iter().skip(skipped).collect();
        let last_version = lines.iter().map(|line| line.version).max().unwrap_or(0);
        Ok((LocalStorage { journal: Some(journal), audit_file: Some(audit_file), audit, last_version }, lines))
    }

    pub(super) fn is_kept(&self) -> bool {
        self.journal.is_some()
    }

    /// The version of a write that is made now.
    pub(super) fn next_version(&self, now: UnixMicros) -> u64 {
        now.0.max(self.last_version + 1)
    }

    /// Appends a write; after an error nothing of it is kept.
    pub(super) fn append(&mut self, line: &JournalLine, noted: AuditLine) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.append(line)?;
        }
        self.last_version = line.version;
        self.append_audit(noted);
        Ok(())
    }

    /// Whether most of the journal is history, given how many rows there are.
    pub(super) fn is_long(&self, rows: usize) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.lines() > 2 * rows + HISTORY_MAX)
    }

    /// Rewrites the journal, with these rows alone.
    pub(super) fn rewrite(&mut self, rows: impl Iterator<Item = JournalLine>) {
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.rewrite(rows)
        {
            tracing::error!(%error, "the journal of overrides can't be rewritten, so it keeps growing");
        }
    }

    /// Appends an audit entry. If the disk fails, the write stays, and only the log has the entry.
    pub(crate) fn append_audit(&mut self, noted: AuditLine) {
        if let Some(file) = &mut self.audit_file
            && let Err(error) = file.append(&noted)
        {
            tracing::error!(%error, "can't write an audit entry to the state directory");
        }
        self.audit.push_back(noted);
        if self.audit.len() > audit::ENTRIES_MAX {
            self.audit.pop_front();
        }
        if let Some(file) = &mut self.audit_file
            && file.lines() > 2 * audit::ENTRIES_MAX
            && let Err(error) = file.rewrite(self.audit.iter().cloned())
        {
            tracing::error!(%error, "the audit file can't be rewritten");
        }
    }

    /// The next entry's id, in the order of time.
    pub(crate) fn next_audit_id(&self, now: UnixMicros) -> String {
        let ms = now.0 / 1_000;
        let last = self.audit.back().and_then(|noted| audit::entry_order(&noted.id)).unwrap_or((0, 0));
        let (ms, number) = if last.0 >= ms { (last.0, last.1 + 1) } else { (ms, 0) };
        format!("{ms}-{number}")
    }

    /// A domain's entries before `before` (an id; empty for the newest), newest first.
    pub(super) fn audit(&self, domain: &str, before: &str, count: usize) -> Vec<(Box<str>, AuditEntry)> {
        let before = audit::entry_order(before).unwrap_or((u64::MAX, u64::MAX));
        let entries = self.audit.iter().rev();
        let entries = entries.filter(|noted| audit::entry_order(&noted.id).is_some_and(|at| at < before));
        let entries = entries.filter(|noted| *noted.domain == *domain);
        let entry = |noted: &AuditLine| {
            let (before, after) = (noted.before.as_deref(), noted.after.as_deref());
            Some((noted.domain.clone(), AuditEntry::read(noted.id.clone(), &noted.draft, before, after)?))
        };
        entries.filter_map(entry).take(count).collect()
    }
}
