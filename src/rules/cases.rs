//! Test cases beside the rules: requests over simulated time, and the expected answers. They are read with the same
//! checks and the same problems as rule files. It doesn't know how cases are run.

mod read;
pub(super) mod schemas;
mod written;

use std::path::{Path, PathBuf};

pub use written::WrittenExpectation;

use super::{
    Rules, Source,
    fields::{Located, nearest},
    node::Location,
    problem::{ProblemCollector, Problems},
};
use crate::limit::{Code, Descriptor, Micros, Origin, Request, SECOND, Unit, UnixMicros, written::OwnedEntry};

/// Cases begin here unless they say otherwise: 2026-01-01T00:00:00Z, where every unit up to the week begins.
pub const START: UnixMicros = UnixMicros(1_767_225_600_000_000);

/// A file of cases.
#[derive(Debug)]
pub struct CaseFile {
    source: Source,
    /// What the rules are read from, relative paths from where the file is; empty: its directory.
    pub rules: Vec<PathBuf>,
    pub cases: Vec<Case>,
}

/// Requests one after the other, with counters that begin empty.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub line: u32,
    domain: Option<Located<String>>,
    at: Location,
    pub start: UnixMicros,
    pub requests: Vec<CaseRequest>,
}

/// A request, maybe several times, and the answer to it.
#[derive(Debug)]
pub struct CaseRequest {
    pub line: u32,
    /// When it is made first, from the case's start; never before the request that is written before it.
    pub at: Micros,
    pub descriptors: Vec<CaseDescriptor>,
    pub hits: i64,
    pub times: u32,
    /// Between one time and the next.
    pub every: Micros,
    pub expected: Expected,
    /// Where that is written.
    pub written: Vec<WrittenExpectation>,
}

#[derive(Debug)]
pub struct CaseDescriptor {
    pub entries: Vec<OwnedEntry>,
    pub hits: Option<i64>,
    pub limit: Option<(u32, Unit)>,
}

/// What is expected; what isn't said isn't looked at.
#[derive(Debug, Default)]
pub struct Expected {
    /// Each time.
    pub answer: Option<Code>,
    /// How many of all times pass.
    pub admitted: Option<u32>,
    /// The last time, as are the following: the longest wait of what refuses.
    pub retry_after: Option<ExpectedWait>,
    /// One per descriptor, or none at all.
    pub descriptors: Vec<ExpectedStatus>,
}

#[derive(Debug, Default)]
pub struct ExpectedStatus {
    pub answer: Option<Code>,
    pub remaining: Option<Remaining>,
    pub limit: Option<ExpectedLimit>,
    pub reset: Option<ExpectedWait>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    Hits(u32),
    Unlimited,
}

/// The id of the limit that a status is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedLimit {
    Id(String),
    None,
}

/// A wait as it is written: whole seconds mean the number that clients see, which is rounded up; others mean exactly
/// that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedWait(pub Micros);

impl ExpectedWait {
    pub fn matches(self, wait: Micros) -> bool {
        self.as_written(wait) == self.0
    }

    /// Another wait with the precision of this one.
    pub fn as_written(self, wait: Micros) -> Micros {
        let second = SECOND.0;
        if self.0.0.is_multiple_of(second) { Micros(wait.seconds_ceil() * second) } else { wait }
    }
}

impl Expected {
    /// Whether anything is: a case without expectations can't fail.
    fn is_something(&self) -> bool {
        let of_status = |it: &ExpectedStatus| {
            it.answer.is_some() || it.remaining.is_some() || it.limit.is_some() || it.reset.is_some()
        };
        self.answer.is_some()
            || self.admitted.is_some()
            || self.retry_after.is_some()
            || self.descriptors.iter().any(of_status)
    }
}

impl CaseRequest {
    /// As the limiter is asked.
    pub fn request<'a>(&'a self, domain: &'a str) -> Request<'a> {
        let descriptors = self.descriptors.iter().map(|it| Descriptor {
            entries: it.entries.iter().map(OwnedEntry::entry).collect(),
            hits: it.hits,
            limit: it.limit,
        });
        Request {
            domain,
            descriptors: descriptors.collect(),
            hits: self.hits,
            caller_limit: None,
            origin: Origin::Envoy,
        }
    }

    /// When it is made the last time.
    pub fn last(&self) -> Micros {
        Micros(self.at.0.saturating_add(self.every.0.saturating_mul(u64::from(self.times.saturating_sub(1)))))
    }
}

impl CaseFile {
    /// Reads a file of cases. `None` if it has errors.
    pub fn read(source: Source) -> (Option<CaseFile>, Problems) {
        let mut report = ProblemCollector::default();
        let file = read::file(&source, &mut report);
        let problems = report.finish(std::iter::once(source.text()));
        let file = file.filter(|_| !problems.has_errors());
        (file.map(|(rules, cases)| CaseFile { source, rules, cases }), problems)
    }

    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Each case with its domain, which it may leave out where the rules have one. Else the problems: a domain that
    /// isn't there lets everything pass, and is more likely misspelled than meant.
    pub fn domains<'c>(&'c self, rules: &'c Rules) -> Result<Vec<(&'c Case, &'c str)>, Problems> {
        let mut report = ProblemCollector::default();
        let names: Vec<&str> = rules.domains().iter().map(|domain| domain.name()).collect();
        let mut found = Vec::new();
        for case in &self.cases {
            match (&case.domain, names.as_slice()) {
                (Some(domain), _) if names.contains(&domain.value.as_str()) => found.push((case, &*domain.value)),
                (Some(domain), _) => {
                    let what = format!("the rules have no domain `{}`", domain.value);
                    let problem = report.error(self.path(), domain.at, what);
                    match nearest(&domain.value, &names) {
                        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                        None => problem.hint(format!("they have {}", listed(&names))),
                    }
                }
                (None, [domain]) => found.push((case, domain)),
                (None, _) => {
                    let what = format!("case `{}` must name its `domain`", case.name);
                    report.error(self.path(), case.at, what).hint(format!("the rules have {}", listed(&names)));
                }
            }
        }
        match report.errors() {
            0 => Ok(found),
            _ => Err(report.finish(std::iter::once(self.source.text()))),
        }
    }
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
