//! Rule files as bytes: which files of a directory are rules, and reading them. Reading is separate from parsing, so
//! that a set can be hashed before it is trusted.

use std::{
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    node::Location,
    overrides_from::{is_override_file, names_of_files},
    problem::{ProblemCollector, Problems, Text},
};
use crate::limit::UnixMicros;

/// Largest size of a rule file in bytes.
const FILE_MAX: u64 = 64 << 20;

/// Largest size of a file of overrides in bytes; overrides may be millions.
const OVERRIDES_MAX: u64 = 1 << 30;

/// Files that a message lists.
const NAMED_MAX: usize = 10;

/// Nesting of directories; deeper is a loop of symlinks.
const DEPTH_MAX: usize = 32;

/// One rule file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Source {
    pub fn read(path: &Path) -> io::Result<Source> {
        Ok(Source { path: path.to_owned(), bytes: read(path, FILE_MAX)? })
    }

    /// For the lines that problems stand on.
    pub(super) fn text(&self) -> Text<'_> {
        Text { path: &self.path, bytes: &self.bytes }
    }
}

/// The files found under some paths, in order of path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub files: Vec<Source>,
    /// Files that rule files name in `overrides_from`, in order of path. They aren't rule files.
    pub overrides: Vec<Source>,
    /// Files of overrides that couldn't be read, and why.
    pub unreadable_overrides: Vec<(PathBuf, String)>,
    /// When the files were read: overrides that ended before are reported.
    pub read_at: UnixMicros,
    /// Files that aren't rule files by their names; a warning lists them.
    pub skipped: Vec<PathBuf>,
    /// Directories among the paths without a rule file; a warning lists them.
    pub empty: Vec<PathBuf>,
    /// Which files are rule files by their names.
    pub names: FileNames,
    /// Files of test cases ([`super::CaseFile`]), which lie next to the rules and aren't rules.
    pub cases: Vec<PathBuf>,
    /// Files and directories below the paths that couldn't be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Which names in a directory are skipped. Names that begin with `..` always are: a ConfigMap uses them itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DotFiles {
    #[default]
    Read,
    /// RUNTIME_IGNOREDOTFILES.
    Ignore,
}

/// Which files of a directory are rule files by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileNames {
    /// `*.yaml` and `*.yml`.
    #[default]
    Yaml,
    /// All files, as envoyproxy/ratelimit does: for the RUNTIME_* directories, and for its own check of them.
    Any,
}

/// Which files of a directory are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub dot_files: DotFiles,
    pub names: FileNames,
}

impl From<DotFiles> for Selection {
    fn from(dot_files: DotFiles) -> Selection {
        Selection { dot_files, ..Selection::default() }
    }
}

impl Sources {
    /// Reads files, and directories with all below them. A file that is named itself is read whatever its name is, except
    /// test cases: `rules/*.yaml` names them too. Files of overrides are read because rule files name them, wherever they
    /// are. The errors are paths that can't be read themselves; what can't be read below them is told when they are loaded.
    pub fn read(paths: &[PathBuf], selection: impl Into<Selection>) -> Result<Sources, Problems> {
        let selection = selection.into();
        let sources = Sources { names: selection.names, ..Sources::default() };
        let (mut reader, mut report) = (SourceWalker { selection, sources }, ProblemCollector::default());
        for path in paths {
            let before = reader.sources.files.len();
            if let Err(error) = reader.path(path, 0) {
                report.error(path, Location::default(), unreadable(&error.to_string()));
            } else if reader.sources.files.len() == before && path.is_dir() {
                reader.sources.empty.push(path.clone());
            }
        }
        if report.errors() > 0 {
            return Err(report.finish(std::iter::empty()));
        }
        let mut sources = reader.sources;
        sources.files.sort_by(|one, other| one.path.cmp(&other.path));
        sources.files.dedup_by(|one, other| one.path == other.path);
        sources.read_overrides();
        sources.skipped.sort();
        sources.cases.sort();
        sources.cases.dedup();
        Ok(sources)
    }

    /// Reads the files in `overrides_from` of the rule files, and removes them from the rule files.
    fn read_overrides(&mut self) {
        let mut named: Vec<PathBuf> = Vec::new();
        for file in &self.files {
            named.extend(names_of_files(&file.bytes).iter().map(|name| beside(&file.path, name)));
        }
        named.retain(|path| is_override_file(path));
        named.sort();
        named.dedup();
        for path in named {
            self.skipped.retain(|skipped| !is_same(skipped, &path));
            self.unreadable.retain(|(unreadable, _)| !is_same(unreadable, &path));
            let read = match self.files.iter().position(|file| is_same(&file.path, &path)) {
                Some(index) => Ok(self.files.remove(index).bytes),
                None => read(&path, OVERRIDES_MAX),
            };
            match read {
                Ok(bytes) => self.overrides.push(Source { path, bytes }),
                Err(error) => self.unreadable_overrides.push((path, error.to_string())),
            }
        }
    }

    /// The file of overrides at a path that [`beside`] returned; the error says why there is none.
    pub(super) fn overrides(&self, path: &Path) -> Result<&Source, &str> {
        let why = || self.unreadable_overrides.iter().find(|(unreadable, _)| unreadable == path);
        let found = self.overrides.iter().find(|source| source.path == path);
        found.ok_or_else(|| why().map_or("it isn't among the files", |(_, why)| why))
    }

    /// An error if there is no rule file at all: for tools, for which that isn't an empty set of rules but a mistake.
    pub fn require_rules(&self) -> Result<(), Problems> {
        if !self.files.is_empty() || !self.unreadable.is_empty() {
            return Ok(());
        }
        let mut problems = Problems::default();
        let hint = match self.skipped.as_slice() {
            [] if self.names == FileNames::Any => "rule files are YAML".to_owned(),
            [] => "rule files are *.yaml and *.yml".to_owned(),
            skipped => {
                let named: Vec<_> = skipped.iter().take(NAMED_MAX).map(|path| path.display().to_string()).collect();
                let more = if skipped.len() > NAMED_MAX { ", …" } else { "" };
                format!("rule files are *.yaml and *.yml, so these aren't read: {}{more}", named.join(", "))
            }
        };
        for path in self.empty.iter().chain(&self.cases) {
            problems.refuse(path, "no rules were read from it", &hint);
        }
        Err(problems)
    }

    /// Every path besides the rule files that was read.
    pub fn override_paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.overrides.iter().map(|source| &source.path).chain(self.unreadable_overrides.iter().map(|(path, _)| path))
    }

    /// Rule files and files of overrides.
    pub(super) fn all(&self) -> impl Iterator<Item = &Source> + Clone {
        self.files.iter().chain(&self.overrides)
    }

    /// A digest of names and bytes of all files. Names of files that aren't read are included, so that a new one is
    /// reported.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for source in self.all() {
            let path = source.path.as_os_str().as_encoded_bytes();
            hash.update((path.len() as u64).to_le_bytes());
            hash.update(path);
            hash.update((source.bytes.len() as u64).to_le_bytes());
            hash.update(&source.bytes);
        }
        for (path, why) in self.unreadable.iter().chain(&self.unreadable_overrides) {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(why);
        }
        for path in self.skipped.iter().chain(&self.empty) {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

/// The message about a path that can't be read.
pub(super) fn unreadable(why: &str) -> String {
    format!("can't be read: {why}")
}

/// The path that a name in a rule file means.
pub(super) fn beside(rule_file: &Path, name: &str) -> PathBuf {
    let joined = rule_file.parent().unwrap_or(Path::new("")).join(name);
    joined.components().filter(|component| *component != Component::CurDir).collect()
}

/// Whether two paths lead to one file. Only those that end alike can.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || (one.file_name() == other.file_name() && real(one).is_some() && real(one) == real(other))
}

fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let found = file.metadata()?;
    // Reading from something that isn't a file may never end.
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::with_capacity(found.len().min(max) as usize);
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("more than {} MiB", max >> 20)));
    }
    Ok(bytes)
}

struct SourceWalker {
    selection: Selection,
    sources: Sources,
}

impl SourceWalker {
    fn path(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        let found = std::fs::metadata(path)?;
        if found.is_dir() && depth == DEPTH_MAX {
            return Err(io::Error::other("directories are nested too deeply"));
        }
        if found.is_dir() {
            return self.directory(path, depth);
        }
        // Sockets, devices and pipes hold no rules, and reading them may never end.
        if !found.is_file() || (depth > 0 && self.selection.names == FileNames::Yaml && !is_yaml(path)) {
            self.sources.skipped.push(path.to_owned());
            return Ok(());
        }
        self.file(path)
    }

    fn directory(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        let mut below = std::fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        below.sort_by_key(std::fs::DirEntry::file_name);
        for entry in below {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            let hidden = name.starts_with(b".");
            if name.starts_with(b"..") || (hidden && self.selection.dot_files == DotFiles::Ignore) {
                continue;
            }
            let path = entry.path();
            match self.path(&path, depth + 1) {
                Ok(()) => {}
                // An editor's lock is a hidden link that leads nowhere, which isn't worth a problem.
                Err(_) if hidden && path.is_symlink() => {}
                Err(error) => self.sources.unreadable.push((path, error.to_string())),
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let source = Source::read(path)?;
        match is_case_file(&source) {
            true => self.sources.cases.push(source.path),
            false => self.sources.files.push(source),
        }
        Ok(())
    }
}

/// The name alone doesn't say: the reference reads rules from a file of any name, and they must not be lost. So the text
/// has a say too. A `cases` at its beginning would have the reference refuse it, and us as well, so that nothing is passed
/// over that could have been rules; and it is found in YAML that is broken.
fn is_case_file(source: &Source) -> bool {
    let name = source.path.file_name().unwrap_or_default().as_encoded_bytes();
    let has = |key: &[u8]| source.bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(key));
    let is_named = name.ends_with(b".test.yaml") || name.ends_with(b".test.yml");
    is_named && has(b"cases:") && !has(b"descriptors:")
}

pub(super) fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}
