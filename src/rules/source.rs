//! Rule files as bytes: which of a directory's files are rules, and reading them. Reading is apart from parsing, so
//! that a set can be hashed before it is trusted.

use std::path::PathBuf;

use super::Problems;

/// One rule file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

/// The files found under some paths, in order of path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub files: Vec<Source>,
    /// Files that aren't rules by their name; for an INFO line.
    pub skipped: Vec<PathBuf>,
}

/// Which names of a directory are passed over. Those that begin with `..` always are: a ConfigMap's own bookkeeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DotFiles {
    #[default]
    Read,
    /// RUNTIME_IGNOREDOTFILES.
    Ignore,
}

impl Sources {
    /// Reads files, and directories with all below them.
    pub fn read(_paths: &[PathBuf], _dot_files: DotFiles) -> Result<Sources, Problems> {
        todo!()
    }
}
