//! The last rules that had no error, kept in the state directory: what a start goes on with when a domain is broken on
//! disk by then. Holds the files as they were, so that they are checked again like any others.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    rules::{self, Defaults, LoadedTexts, Rules, Source, Sources},
    state_dir::CheckedFile,
};

const FILE: &str = "rules.json";

#[derive(Clone)]
pub(super) struct LastGood {
    file: CheckedFile,
    /// The newest version that was saved. Held while one is, so that an older one is never written after it.
    saved: Arc<Mutex<u64>>,
}

/// A file. Text, because what loads without an error is UTF-8.
#[derive(Serialize, Deserialize)]
struct SavedFile {
    path: PathBuf,
    text: String,
    /// It is a file of overrides, which rules name.
    #[serde(default)]
    overrides: bool,
}

impl LastGood {
    pub(super) fn new(directory: &Path) -> LastGood {
        LastGood { file: CheckedFile::new(directory, FILE), saved: Arc::default() }
    }

    /// Keeps the files of `rules`, unless a later version was kept. Files that changed since they were loaded are left for
    /// the reload that is to come.
    pub(super) fn save(&self, version: u64, rules: &Rules, defaults: &Defaults) -> io::Result<()> {
        let mut saved = self.saved.lock();
        if *saved > version {
            return Ok(());
        }
        let read = |path: &PathBuf| fs::read(path).map(|bytes| Source { path: path.clone(), bytes });
        let files = rules.files().map(read).collect::<io::Result<Vec<_>>>()?;
        let overrides = rules.override_files().map(read).collect::<io::Result<Vec<_>>>()?;
        let sources = Sources { files, overrides, ..Sources::default() };
        if rules::load(&sources, defaults, None).rules.hash() != rules.hash() {
            return Ok(());
        }
        let saved_files = |source: Source, overrides| {
            let text = String::from_utf8(source.bytes).map_err(io::Error::other)?;
            Ok(SavedFile { path: source.path, text, overrides })
        };
        let files = sources.files.into_iter().map(|source| saved_files(source, false));
        let files = files.chain(sources.overrides.into_iter().map(|source| saved_files(source, true)));
        let saved_files = files.collect::<io::Result<Vec<_>>>()?;
        self.file.save(&serde_json::to_vec(&saved_files)?)?;
        *saved = version;
        Ok(())
    }

    /// What was kept, if anything was; the error says why it can't be used.
    pub(super) fn load(&self, defaults: &Defaults) -> io::Result<Option<(Rules, LoadedTexts)>> {
        self.file.load(|content| rules_of(content, defaults))
    }
}

/// The files, read as any others are. The error is why they can't be used.
fn rules_of(content: &[u8], defaults: &Defaults) -> Result<(Rules, LoadedTexts), String> {
    let saved_files: Vec<SavedFile> = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    let (overrides, files): (Vec<SavedFile>, Vec<SavedFile>) =
        saved_files.into_iter().partition(|saved_files| saved_files.overrides);
    let sources = |saved_files: Vec<SavedFile>| {
        saved_files
            .into_iter()
            .map(|saved_files| Source { path: saved_files.path, bytes: saved_files.text.into_bytes() })
            .collect()
    };
    let sources = Sources { files: sources(files), overrides: sources(overrides), ..Sources::default() };
    let load = rules::load(&sources, defaults, None);
    match load.problems.errors().next() {
        None => Ok((load.rules.clone(), LoadedTexts::new(&sources, &LoadedTexts::default(), &load))),
        Some(problem) => Err(format!("its rules have errors: {problem}")),
    }
}
