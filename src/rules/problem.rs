//! Problems of rule files, each with its file, line, column, source line and a hint, as text, JSON or GitHub
//! annotations. It knows nothing of YAML.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::{
    node::{FieldPaths, Location},
    warning::{Allowed, Warning},
};
use crate::visible;

/// Number of problems that are kept; beyond it they are only counted. Nobody reads on, and a set may have a million
/// mistakes.
const PROBLEMS_MAX: usize = 1_000;

/// Characters of a source line that are shown; of a longer line, the ones around the mistake.
const EXCERPT_MAX: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The domain can't be used.
    Error,
    /// The domain can be used, but likely not as its author intends.
    Warning,
}

/// One thing that is wrong, as plain data. Lines and columns count from 1, columns in characters (a tab is one); 0 means the
/// file as a whole, or that it has no lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub path: PathBuf,
    pub line: u32,
    pub column: u32,
    /// The column behind the last character that is meant, on the same line.
    pub end_column: u32,
    pub severity: Severity,
    /// What a warning is called; errors have no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Warning>,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where it is in what was no text, such as `limit.unit`; empty for the whole of it. `None`: see line and column.
    #[serde(skip)]
    pub field: Option<String>,
    /// The line of the file, or the part of it around the column if it is long.
    pub source_line: String,
    /// Position of the mistake in `source_line`, in bytes.
    #[serde(skip)]
    mark: std::ops::Range<usize>,
    /// The character that is meant, and how many of its kind stand before it in the text that begins at the column: where it
    /// is on the line is known when the line is read.
    #[serde(skip)]
    character: Option<(char, usize)>,
}

/// The problems of a set of files, in order of file and location.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problems {
    problems: Vec<Problem>,
    /// Number of further errors and warnings that weren't kept because there were too many.
    more: usize,
}

impl Problems {
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Warning)
    }

    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Adds an error about a path as a whole.
    pub(crate) fn refuse(&mut self, path: &Path, what: &str, hint: &str) {
        let mut problem = Problem::new(path, Location::default(), Severity::Error, what.to_owned());
        problem.hint(hint);
        self.problems.push(problem);
    }

    /// Makes errors of all warnings but those of the names in `allowed`. All keep their names.
    pub fn strict(mut self, allowed: &[Warning]) -> Problems {
        let refused = |problem: &&mut Problem| problem.name.is_none_or(|name| !allowed.contains(&name));
        self.problems.iter_mut().filter(refused).for_each(|problem| problem.severity = Severity::Error);
        self
    }

    /// Puts the field of each problem before what is said of it, for those who read only that.
    pub(super) fn with_fields(mut self) -> Problems {
        for problem in &mut self.problems {
            if let Some(field) = problem.field.as_deref().filter(|field| !field.is_empty()) {
                problem.what = format!("{field}: {}", problem.what);
            }
        }
        self
    }

    /// Number of errors and warnings besides those that are listed.
    pub fn more(&self) -> usize {
        self.more
    }

    /// The problems for people, each with its source line and a mark under the mistake.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            out.push_str(&problem.render());
            out.push_str("\n\n");
        }
        if self.more > 0 {
            let _ = writeln!(out, "and {} more\n", self.more);
        }
        out
    }
}

impl<'p> IntoIterator for &'p Problems {
    type Item = &'p Problem;
    type IntoIter = std::slice::Iter<'p, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::fmt::Display for Problems {
    /// One line for each problem.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            write!(out, "{gap}{problem}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(out, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Problems {}

impl Problem {
    fn new(path: &Path, at: Location, severity: Severity, what: String) -> Problem {
        Problem {
            path: path.to_owned(),
            line: at.line,
            column: at.column,
            end_column: at.column + at.width,
            severity,
            name: None,
            what: seen(what),
            hint: None,
            field: None,
            source_line: String::new(),
            mark: 0..0,
            character: None,
        }
    }

    /// Whether it stands on a line, or in a field of what has none: otherwise it is about a file as a whole.
    pub fn has_place(&self) -> bool {
        self.line > 0 || self.field.is_some()
    }

    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(seen(hint.into()));
    }

    /// Moves the mark to a character of the text that begins at the problem's place: the one with so many of its kind before
    /// it. Where the line writes it in another way (as an escape) the mark stays.
    pub(super) fn at_character(&mut self, character: char, before: usize) -> &mut Problem {
        self.character = Some((character, before));
        self
    }

    /// The problem for people, with its source line and a mark under the mistake.
    pub fn render(&self) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let path = self.path.display().to_string();
        let mut title = level.primary_title(self.what.as_str());
        if let Some(name) = self.name {
            title = title.id(name.name());
        }
        let mut report = if self.line == 0 {
            Group::with_title(title).element(annotate_snippets::Origin::path(path.as_str()))
        } else {
            let snippet = Snippet::source(self.source_line.as_str())
                .path(path.as_str())
                .line_start(self.line as usize)
                .fold(false)
                .annotation(AnnotationKind::Primary.span(self.mark.clone()));
            title.element(snippet)
        };
        if let Some(hint) = &self.hint {
            report = report.element(Level::HELP.message(hint.as_str()));
        }
        Renderer::plain().render(&[report])
    }

    /// In the place of a line that nobody ever saw.
    fn put_field(&mut self, fields: &FieldPaths) {
        if self.line > 0 {
            self.field = Some(seen(fields.of(Location { line: self.line, ..Location::default() })));
        }
        (self.line, self.column, self.end_column) = (0, 0, 0);
    }

    /// Finds the character that is meant in its line, from the byte at which the problem's text begins; returns the byte of
    /// what is to be marked.
    fn find_character(&mut self, line: &str, from: usize) -> usize {
        let Some((character, before)) = self.character.take() else { return from };
        let mut found = line[from..].char_indices().enumerate().filter(|(_, (_, other))| *other == character);
        let Some((characters, (bytes, _))) = found.nth(before) else { return from };
        self.column += characters as u32;
        self.end_column = self.column + 1;
        from + bytes
    }

    /// Copies the part of the line around `at`, the byte of the mistake.
    fn quote(&mut self, line: &str, at: usize) {
        let is_short = line.char_indices().nth(EXCERPT_MAX).is_none();
        let begin = match is_short {
            true => 0,
            false => line[..at].char_indices().rev().take(EXCERPT_MAX / 2).last().map_or(at, |(byte, _)| byte),
        };
        let before: String = line[begin..at].chars().map(visible).collect();
        let budget = EXCERPT_MAX.saturating_sub(before.chars().count());
        let after: String = line[at..].chars().take(budget).map(visible).collect();
        let width = self.end_column.saturating_sub(self.column) as usize;
        let end = after.char_indices().nth(width).map_or(after.len(), |(byte, _)| byte);
        self.mark = before.len()..before.len() + end;
        self.source_line = before + &after;
    }
}

/// Makes a message safe to show: it may repeat text of a file.
fn seen(message: String) -> String {
    match visible::lines(&message) {
        Cow::Borrowed(_) => message,
        Cow::Owned(seen) => seen,
    }
}

/// Control characters would garble a terminal, and a tab has no width of its own.
fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        character if visible::is_unseen(character) => '\u{fffd}',
        character => character,
    }
}

impl std::fmt::Display for Problem {
    /// The problem on one line, for logs.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.path.display())?;
        if self.line > 0 {
            write!(out, ":{}:{}", self.line, self.column)?;
        }
        write!(out, ": {}", self.what)?;
        if let Some(name) = self.name {
            write!(out, " [{}]", name.name())?;
        }
        match &self.hint {
            Some(hint) => write!(out, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// The text of a file, for the lines that problems stand on.
#[derive(Clone, Copy)]
pub(super) struct Text<'t> {
    pub(super) path: &'t Path,
    pub(super) bytes: &'t [u8],
}

/// Collects the problems of a set while it is read.
#[derive(Default)]
pub(super) struct ProblemCollector {
    errors: ProblemList,
    warnings: ProblemList,
    /// Of what was no text, by its path: what its places mean.
    fields: HashMap<PathBuf, FieldPaths>,
    /// The warnings that lines of a file allow.
    allowed: HashMap<PathBuf, Allowed>,
    /// The last warning that its line allows: whoever warns may still add to it, and nobody sees it.
    silenced: Option<Problem>,
}

/// The first problems of one severity, and how many came after them. Warnings are kept on their own, so that they can't
/// crowd out errors.
#[derive(Default)]
struct ProblemList {
    problems: Vec<Problem>,
    count: usize,
}

impl ProblemList {
    fn put(&mut self, problem: Problem) -> &mut Problem {
        self.count += 1;
        // The last place is for those that come when all others are taken.
        self.problems.truncate(PROBLEMS_MAX);
        self.problems.push(problem);
        self.problems.last_mut().expect("one was just pushed")
    }

    fn finish(mut self) -> (Vec<Problem>, usize) {
        self.problems.truncate(PROBLEMS_MAX);
        let more = self.count - self.problems.len();
        (self.problems, more)
    }
}

impl ProblemCollector {
    /// Adds an error, and returns it so that a hint can be added.
    pub(super) fn error(&mut self, path: &Path, at: Location, what: impl Into<String>) -> &mut Problem {
        self.errors.put(Problem::new(path, at, Severity::Error, what.into()))
    }

    /// Adds a warning, unless its line allows it.
    pub(super) fn warn(
        &mut self,
        path: &Path,
        at: Location,
        warning: Warning,
        what: impl Into<String>,
    ) -> &mut Problem {
        let problem = Problem { name: Some(warning), ..Problem::new(path, at, Severity::Warning, what.into()) };
        // Few files allow any, and the path needn't be looked up then.
        if !self.allowed.is_empty() && self.allowed.get(path).is_some_and(|allowed| allowed.has(at.line, warning)) {
            return self.silenced.insert(problem);
        }
        self.warnings.put(problem)
    }

    /// Silences the warnings that the lines of a file allow. False if that is known of the file already.
    pub(super) fn allow(&mut self, path: &Path, allowed: Allowed) -> bool {
        let is_new = !self.allowed.contains_key(path);
        if is_new {
            self.allowed.insert(path.to_owned(), allowed);
        }
        is_new
    }

    /// From now on places in `path` are those of a tree that was no text.
    pub(super) fn has_fields(&mut self, path: &Path, fields: FieldPaths) {
        self.fields.insert(path.to_owned(), fields);
    }

    /// Whether the places of a file are lines of a text.
    pub(super) fn has_lines(&self, path: &Path) -> bool {
        self.fields.is_empty() || !self.fields.contains_key(path)
    }

    /// What a message calls a place beside the one that it is about: `line 3`, or the path of a field.
    pub(super) fn beside(&self, path: &Path, at: Location) -> String {
        match self.fields.get(path) {
            Some(fields) => fields.of(at),
            None => format!("line {}", at.line),
        }
    }

    /// The same for a place in another file: `api.yaml:3`.
    pub(super) fn elsewhere(&self, path: &Path, at: Location) -> String {
        match self.fields.get(path) {
            Some(fields) => format!("{}: {}", path.display(), fields.of(at)),
            None => format!("{}:{}", path.display(), at.line),
        }
    }

    /// Number of errors so far; comparing it before and after tells whether something was sound.
    pub(super) fn errors(&self) -> usize {
        self.errors.count
    }

    /// The problems sorted and without repetitions (what an alias repeats is one mistake), with their source lines.
    pub(super) fn finish<'t>(self, texts: impl Iterator<Item = Text<'t>> + Clone) -> Problems {
        let ((mut problems, errors), (warnings, more)) = (self.errors.finish(), self.warnings.finish());
        problems.extend(warnings);
        problems.sort_by(|one, other| {
            (&one.path, one.line, one.column, &one.what).cmp(&(&other.path, other.line, other.column, &other.what))
        });
        problems.dedup();
        for of_file in problems.chunk_by_mut(|one, other| one.path == other.path) {
            if let Some(fields) = self.fields.get(&of_file[0].path) {
                of_file.iter_mut().for_each(|problem| problem.put_field(fields));
                continue;
            }
            let Some(text) = texts.clone().find(|text| text.path == of_file[0].path) else { continue };
            let text = String::from_utf8_lossy(text.bytes);
            quote_lines(text.strip_prefix('\u{feff}').unwrap_or(&text), of_file);
        }
        Problems { problems, more: errors + more }
    }
}

/// Adds the source lines to the problems of one file, which are sorted by location. The text is read once: it may be
/// one long line.
fn quote_lines(text: &str, problems: &mut [Problem]) {
    let mut lines = (1..).zip(text.lines());
    let mut current = lines.next();
    // Position in the current line that is known both in characters and in bytes.
    let (mut characters, mut bytes) = (0, 0);
    for problem in problems {
        while current.is_some_and(|(number, _)| number < problem.line) {
            current = lines.next();
            (characters, bytes) = (0, 0);
        }
        let Some((_, line)) = current.filter(|(number, _)| *number == problem.line) else { continue };
        let column = problem.column.saturating_sub(1);
        let ahead = (column - characters) as usize;
        bytes += line[bytes..].char_indices().nth(ahead).map_or(line.len() - bytes, |(byte, _)| byte);
        characters = column;
        let marked = problem.find_character(line, bytes);
        problem.quote(line, marked);
    }
}
