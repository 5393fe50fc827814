//! What warnings are called, and which of them a line of a file allows: `# tollgate: allow NAME`. It knows nothing of how
//! they come about.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde::{Serialize, Serializer};
use smallvec::SmallVec;

use super::node::Location;

/// A kind of warning. Its name stands in `warning[…]`, in JSON, as SARIF's rule, and in the comment that allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Warning {
    IgnoredKey,
    RepeatedKey,
    UnreadFile,
    EmptyDirectory,
    AnyName,
    SecondDocument,
    ZeroLimit,
    ShadowedShare,
    LockedOut,
    ExpiredOverride,
    BeatenOverride,
    UnknownAllow,
    CoveredPattern,
    HiddenRules,
    UnknownReplaces,
    UnusedTier,
    PointlessLimit,
    UncheckedRules,
    LiteralPattern,
    OddCharacter,
}

impl Warning {
    /// In the order of the table in `docs/src/reference/rule-errors.md`.
    pub const ALL: [Warning; 20] = [
        Warning::IgnoredKey,
        Warning::RepeatedKey,
        Warning::UnreadFile,
        Warning::EmptyDirectory,
        Warning::AnyName,
        Warning::SecondDocument,
        Warning::ZeroLimit,
        Warning::ShadowedShare,
        Warning::LockedOut,
        Warning::ExpiredOverride,
        Warning::BeatenOverride,
        Warning::UnknownAllow,
        Warning::CoveredPattern,
        Warning::HiddenRules,
        Warning::UnknownReplaces,
        Warning::UnusedTier,
        Warning::PointlessLimit,
        Warning::UncheckedRules,
        Warning::LiteralPattern,
        Warning::OddCharacter,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Warning::IgnoredKey => "ignored-key",
            Warning::RepeatedKey => "repeated-key",
            Warning::UnreadFile => "unread-file",
            Warning::EmptyDirectory => "empty-directory",
            Warning::AnyName => "any-name",
            Warning::SecondDocument => "second-document",
            Warning::ZeroLimit => "zero-limit",
            Warning::ShadowedShare => "shadowed-share",
            Warning::LockedOut => "locked-out",
            Warning::ExpiredOverride => "expired-override",
            Warning::BeatenOverride => "beaten-override",
            Warning::UnknownAllow => "unknown-allow",
            Warning::CoveredPattern => "covered-pattern",
            Warning::HiddenRules => "hidden-rules",
            Warning::UnknownReplaces => "unknown-replaces",
            Warning::UnusedTier => "unused-tier",
            Warning::PointlessLimit => "pointless-limit",
            Warning::UncheckedRules => "unchecked-rules",
            Warning::LiteralPattern => "literal-pattern",
            Warning::OddCharacter => "odd-character",
        }
    }

    /// What it means, in one line: the words of the table in `docs/src/reference/rule-errors.md`, and of SARIF's rules.
    pub const fn meaning(self) -> &'static str {
        match self {
            Warning::IgnoredKey => {
                "a known key stands where it has no meaning; envoyproxy/ratelimit says nothing of it"
            }
            Warning::RepeatedKey => "a map has a key twice; the later one counts",
            Warning::UnreadFile => {
                "rule files are `*.yaml` and `*.yml`: rename the file, or name it itself; with `RUNTIME_*` all are read"
            }
            Warning::EmptyDirectory => {
                "the directory has no rule file; an error for `tollgate check` where there is none at all"
            }
            Warning::AnyName => "the `RUNTIME_*` directory holds something else than rules: keep that elsewhere",
            Warning::SecondDocument => "only what stands before the second `---` is read",
            Warning::ZeroLimit => "a limit without `requests_per_unit` refuses every request",
            Warning::ShadowedShare => {
                "a share beside `shadow_mode: true` denies nobody: take `shadow_mode` out, or the share"
            }
            Warning::LockedOut => {
                "`count_denied: true` with any algorithm but `fixed_window`: a client that retries steadily is never admitted again"
            }
            Warning::ExpiredOverride => "the override has ended, and has no effect any more: remove it",
            Warning::BeatenOverride => "two files have an override with the same match: one of them never counts",
            Warning::UnknownAllow => "a comment `# tollgate: allow …` names no warning, so it silences none",
            Warning::CoveredPattern => "an earlier pattern matches all values of this one, which so never counts",
            Warning::HiddenRules => {
                "a value has a rule of its own, without the descriptors that have limits below the rule for other values"
            }
            Warning::UnknownReplaces => "`replaces` has a name that no limit of the domain has",
            Warning::UnusedTier => "no limit and no override in the files refers to the tier",
            Warning::PointlessLimit => "another limit of the same rule refuses whatever this one would",
            Warning::UncheckedRules => {
                "so many patterns or values are beside each other that `covered-pattern` and `hidden-rules` weren't looked for from there on"
            }
            Warning::LiteralPattern => {
                "a regular expression, or a `*` where it stands for itself: only a descriptor's `value` takes patterns, with `*`"
            }
            Warning::OddCharacter => {
                "a character that can't be seen or looks like another, or a blank at an end, in a key, a value, a domain or a name"
            }
        }
    }

    pub fn parse(name: &str) -> Option<Warning> {
        Warning::ALL.into_iter().find(|warning| warning.name() == name)
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The warnings that the lines of a file allow.
#[derive(Default)]
pub(super) struct Allowed {
    lines: HashMap<u32, SmallVec<[Warning; 2]>>,
    /// Words in such comments that name no warning.
    pub(super) unknown: Vec<(Location, String)>,
}

const MARK: &str = "tollgate: allow ";

impl Allowed {
    /// Finds the comments `# tollgate: allow NAME, NAME` of a YAML text. `None` if there are none.
    pub(super) fn of(text: &str) -> Option<Allowed> {
        // Few files have any.
        if !text.contains(MARK) {
            return None;
        }
        let mut allowed = Allowed::default();
        for (number, line) in (1..).zip(text.lines()) {
            let Some((comment, names)) = comment(line) else { continue };
            let mut column = comment;
            for word in names.split_inclusive([' ', ',']) {
                let name = word.trim_end_matches([' ', ',']);
                match Warning::parse(name) {
                    Some(warning) => allowed.lines.entry(number).or_default().push(warning),
                    None if name.is_empty() => {}
                    None => {
                        let at = line[..column].chars().count() as u32 + 1;
                        let at = Location { line: number, column: at, width: name.chars().count() as u32 };
                        allowed.unknown.push((at, name.to_owned()));
                    }
                }
                column += word.len();
            }
        }
        Some(allowed)
    }

    pub(super) fn has(&self, line: u32, warning: Warning) -> bool {
        self.lines.get(&line).is_some_and(|allowed| allowed.contains(&warning))
    }
}

/// The names in the comment of a line, and where they begin in it. A reason may follow them in parentheses or behind `--`
/// or `:`.
fn comment(line: &str) -> Option<(usize, &str)> {
    for (at, _) in line.match_indices('#') {
        let is_comment = line[..at].chars().next_back().is_none_or(char::is_whitespace);
        let words = line[at + 1..].trim_start();
        if let Some(names) = words.strip_prefix(MARK).filter(|_| is_comment) {
            let end = ["(", " --", ": "].iter().filter_map(|end| names.find(end)).min().unwrap_or(names.len());
            return Some((line.len() - names.len(), &names[..end]));
        }
    }
    None
}
