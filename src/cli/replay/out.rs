//! The file of all requests whose answer differs: one JSON object a line.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;

use super::tally::Change;
use crate::limit::{Descriptor, Entry, Request, UnixMicros};

pub(super) struct ChangesFile {
    path: PathBuf,
    to: BufWriter<File>,
}

#[derive(Serialize)]
struct ChangeLine<'a> {
    t: f64,
    /// `refused` or `admitted`: what it is now and wasn't before.
    now: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_id: Option<&'a str>,
    domain: &'a str,
    descriptors: Vec<DescriptorLine<'a>>,
    hits: i64,
}

#[derive(Serialize)]
struct DescriptorLine<'a> {
    entries: Vec<EntryLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<i64>,
}

#[derive(Serialize)]
struct EntryLine<'a> {
    key: &'a str,
    value: &'a str,
}

impl ChangesFile {
    pub(super) fn create(path: &Path) -> anyhow::Result<ChangesFile> {
        let file = File::create(path).with_context(|| format!("{} can't be written", path.display()))?;
        Ok(ChangesFile { path: path.to_owned(), to: BufWriter::new(file) })
    }

    pub(super) fn write(&mut self, request: &Request<'_>, at: UnixMicros, change: &Change) -> anyhow::Result<()> {
        let (now, limit_id) = match change {
            Change::Refused(id) => ("refused", Some(&**id)),
            Change::Admitted(id) => ("admitted", id.as_deref()),
        };
        let line = ChangeLine {
            t: at.0 as f64 / 1e6,
            now,
            limit_id,
            domain: request.domain,
            descriptors: request.descriptors.iter().map(descriptor).collect(),
            hits: request.hits,
        };
        let written = serde_json::to_vec(&line).map_err(Into::into).and_then(|mut line| {
            line.push(b'\n');
            self.to.write_all(&line)
        });
        written.with_context(|| self.cannot())
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.to.flush().with_context(|| self.cannot())
    }

    fn cannot(&self) -> String {
        format!("{} can't be written", self.path.display())
    }
}

fn descriptor<'a>(descriptor: &'a Descriptor<'_>) -> DescriptorLine<'a> {
    let entry = |entry: &'a Entry<'_>| EntryLine { key: entry.key, value: entry.value };
    DescriptorLine { entries: descriptor.entries.iter().map(entry).collect(), hits: descriptor.hits }
}
