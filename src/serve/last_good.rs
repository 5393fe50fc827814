//! The last rules that had no error, kept in the state directory: what a start goes on with when a domain is broken on
//! disk by then. Holds the files as they were, so that they are checked again like any others.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::rules::{self, Defaults, Rules, Source, Sources};

const FILE: &str = "rules.json";
const TEMPORARY: &str = "rules.json.new";

#[derive(Clone)]
pub(super) struct LastGood {
    directory: PathBuf,
}

/// A file. Text, because what loads without an error is UTF-8.
#[derive(Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    text: String,
    /// It is a file of overrides, which rules name.
    #[serde(default)]
    overrides: bool,
}

impl LastGood {
    pub(super) fn new(directory: &Path) -> LastGood {
        LastGood { directory: directory.to_owned() }
    }

    /// Keeps the files of `rules`. Files that changed since they were loaded are left for the reload that is to come.
    pub(super) fn save(&self, rules: &Rules, defaults: &Defaults) -> io::Result<()> {
        let read = |path: &PathBuf| fs::read(path).map(|bytes| Source { path: path.clone(), bytes });
        let files = rules.files().map(read).collect::<io::Result<Vec<_>>>()?;
        let overrides = rules.override_files().map(read).collect::<io::Result<Vec<_>>>()?;
        let sources = Sources { files, overrides, ..Sources::default() };
        if rules::load(&sources, defaults, None).rules.hash() != rules.hash() {
            return Ok(());
        }
        let kept = |source: Source, overrides| {
            let text = String::from_utf8(source.bytes).map_err(io::Error::other)?;
            Ok(Kept { path: source.path, text, overrides })
        };
        let files = sources.files.into_iter().map(|source| kept(source, false));
        let files = files.chain(sources.overrides.into_iter().map(|source| kept(source, true)));
        let kept = files.collect::<io::Result<Vec<_>>>()?;
        fs::create_dir_all(&self.directory)?;
        let temporary = self.directory.join(TEMPORARY);
        let out = fs::File::create(&temporary)?;
        serde_json::to_writer(io::BufWriter::new(&out), &kept)?;
        out.sync_all()?;
        fs::rename(temporary, self.directory.join(FILE))
    }

    /// What was kept, if anything was and it still loads.
    pub(super) fn load(&self, defaults: &Defaults) -> Option<Rules> {
        let bytes = fs::read(self.directory.join(FILE)).ok()?;
        let kept: Vec<Kept> = serde_json::from_slice(&bytes).ok()?;
        let (overrides, files): (Vec<Kept>, Vec<Kept>) = kept.into_iter().partition(|kept| kept.overrides);
        let sources = |kept: Vec<Kept>| {
            kept.into_iter().map(|kept| Source { path: kept.path, bytes: kept.text.into_bytes() }).collect()
        };
        let sources = Sources { files: sources(files), overrides: sources(overrides), ..Sources::default() };
        let load = rules::load(&sources, defaults, None);
        (!load.problems.has_errors()).then_some(load.rules)
    }
}
