//! Rules of a revision of git: written to a directory of their own by the git program, and read there as any others are.
//! Paths of problems are then those of the repository.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Component, Path, PathBuf},
    process::{self, Command, Stdio},
};

use anyhow::{Context as _, bail};
use rand::Rng as _;

use super::exit::BadUsage;
use crate::rules::{Problems, Selection, Sources};

/// A path of a revision, as `git show` has it: from the repository's root, or with `./` before it from here.
pub(super) struct Revision {
    revision: String,
    path: String,
}

impl Revision {
    /// Reads `git:REVISION:PATH`; `None` where the text doesn't begin so.
    pub(super) fn named(text: &str) -> anyhow::Result<Option<Revision>> {
        let Some(rest) = text.strip_prefix("git:") else { return Ok(None) };
        let Some((revision, path)) = rest.split_once(':').filter(|(revision, _)| !revision.is_empty()) else {
            let what = format!("{text}: write it as git:REVISION:PATH, such as git:main:config");
            return Err(BadUsage(what).into());
        };
        Ok(Some(Revision { revision: revision.to_owned(), path: path.to_owned() }))
    }

    pub(super) fn name(&self) -> String {
        format!("git:{}:{}", self.revision, self.path)
    }

    /// The rule files, with what they name in `overrides_from`, and their problems.
    pub(super) fn read(&self, selection: Selection) -> anyhow::Result<Result<Sources, Problems>> {
        let root = PathBuf::from(git(Path::new("."), &["rev-parse", "--show-toplevel"])?.trim_end_matches('\n'));
        let commit = format!("{}^{{commit}}", self.revision);
        let named = ["rev-parse", "--verify", "--quiet", "--end-of-options", &commit];
        let Ok(commit) = git(&root, &named) else {
            bail!(
                "{}: this repository has no revision `{}` (a shallow clone has few of them: `git fetch --unshallow`)",
                self.name(),
                self.revision
            )
        };
        let temporary = TempDir::new()?;
        let checkout = Checkout {
            files: temporary.0.join("files"),
            index: temporary.0.join("index"),
            root,
            commit: commit.trim().to_owned(),
        };
        let path = self.below_root(&checkout.root)?;
        if checkout.write(&path)? == 0 {
            bail!("{}: revision `{}` has no file there", self.name(), self.revision);
        }
        let place = checkout.files.join(&path);
        // Rule files may name files of overrides beside what was asked for.
        let read = || Sources::read(std::slice::from_ref(&place), selection);
        let mut sources = read();
        let missing = |sources: &Result<Sources, Problems>| -> Vec<PathBuf> {
            let unreadable = sources.iter().flat_map(|sources| &sources.unreadable_overrides);
            let within =
                unreadable.filter_map(|(path, _)| inside(path).strip_prefix(&checkout.files).ok().map(Path::to_owned));
            within.collect()
        };
        let mut written = 0;
        for path in missing(&sources) {
            written += checkout.write(&path)?;
        }
        if written > 0 {
            sources = read();
        }
        Ok(sources.map(|sources| self.renamed(sources, &checkout.files)))
    }

    /// The path from the repository's root.
    fn below_root(&self, root: &Path) -> anyhow::Result<PathBuf> {
        let is_from_here = self.path.starts_with("./") || self.path.starts_with("../") || self.path == ".";
        let path = match is_from_here {
            true => {
                Path::new(git(Path::new("."), &["rev-parse", "--show-prefix"])?.trim_end_matches('\n')).join(&self.path)
            }
            false => PathBuf::from(&self.path),
        };
        let path = inside(&path);
        if path.is_absolute() || path.starts_with("..") {
            bail!("{}: the path is that within the repository, which is {}", self.name(), root.display());
        }
        Ok(path)
    }

    /// With the paths of the repository in place of those of the directory that was read.
    fn renamed(&self, mut sources: Sources, directory: &Path) -> Sources {
        let prefix = format!("git:{}:", self.revision);
        let rename = |path: &mut PathBuf| {
            // As they are written: rules name others from where they are.
            if let Ok(rest) = path.strip_prefix(directory) {
                *path = Path::new(&prefix).join(rest);
            }
        };
        sources.files.iter_mut().chain(&mut sources.overrides).for_each(|source| rename(&mut source.path));
        let Sources { unreadable_overrides, skipped, empty, cases, unreadable, .. } = &mut sources;
        unreadable_overrides.iter_mut().chain(unreadable).for_each(|(path, _)| rename(path));
        skipped.iter_mut().chain(empty).chain(cases).for_each(rename);
        sources
    }
}

/// A path without `.` and `..`, as far as what is before them is there.
fn inside(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// Files of a commit, written below a directory.
struct Checkout {
    files: PathBuf,
    /// An index of its own: that of the repository stays as it is.
    index: PathBuf,
    root: PathBuf,
    commit: String,
}

impl Checkout {
    /// Writes what the commit has at a path, and returns how many files that are.
    fn write(&self, path: &Path) -> anyhow::Result<usize> {
        // As it is: `*` in a name is no pattern.
        let mut listing = self.git(&["--literal-pathspecs", "ls-tree", "-r", "-z", "--name-only", &self.commit, "--"]);
        if !path.as_os_str().is_empty() {
            listing.arg(path);
        }
        let listed = said(listing.output())?;
        let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).count();
        if names == 0 {
            return Ok(0);
        }
        said(self.git(&["read-tree", &self.commit]).output())?;
        let mut prefixed = OsString::from("--prefix=");
        prefixed.push(self.files.join(""));
        let mut writing = self.git(&["checkout-index", "--force", "-z", "--stdin"]);
        let mut writing =
            writing.arg(prefixed).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = writing.stdin.take().context("its standard input is piped")?;
        stdin.write_all(&listed)?;
        drop(stdin);
        said(writing.wait_with_output())?;
        Ok(names)
    }

    fn git(&self, args: &[&str]) -> Command {
        let mut command = program(&self.root, args);
        command.env("GIT_INDEX_FILE", &self.index);
        command
    }
}

fn program(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(directory).args(args).stdin(Stdio::null());
    command
}

/// What the git program prints.
fn git(directory: &Path, args: &[&str]) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&said(program(directory, args).output())?).into_owned())
}

fn said(output: io::Result<process::Output>) -> anyhow::Result<Vec<u8>> {
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("`git:` needs the git program, which isn't on the PATH")
        }
        output => output.context("git can't be run")?,
    };
    if !output.status.success() {
        bail!("git: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// A directory that is removed when this is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> anyhow::Result<TempDir> {
        let name = format!("tollgate-git-{:016x}", rand::rng().random::<u64>());
        let path = std::env::temp_dir().join(name);
        // Rules are nobody else's matter.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("{} can't be made", path.display()))?;
        Ok(TempDir(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
