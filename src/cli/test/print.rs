//! What became of the cases, for people and for programs.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::play::{Difference, FailedRequest};
use crate::{
    cli::{
        check::OutputFormat,
        exit::Exit,
        findings::{self, Finding, JunitCase, JunitOutcome},
    },
    limiter::explain::words,
    rules::{Case, Problem, Problems, Severity},
    visible,
};

#[derive(Default, Serialize)]
pub(super) struct Results {
    ok: bool,
    passed: usize,
    failed: usize,
    cases: Vec<CaseResult>,
    /// Of files of cases and of rules; cases of a file with an error aren't played.
    problems: Vec<Problem>,
    /// Problems that aren't listed, because there are too many.
    more_problems: usize,
    #[serde(skip)]
    rendered: String,
    #[serde(skip)]
    errors: usize,
}

#[derive(Serialize)]
struct CaseResult {
    path: PathBuf,
    line: u32,
    name: String,
    passed: bool,
    failures: Vec<FailedRequest>,
}

impl Results {
    pub(super) fn problems(&mut self, problems: Problems) {
        self.errors += problems.errors().count();
        self.more_problems += problems.more();
        self.rendered += &problems.render();
        self.problems.extend(problems.iter().cloned());
    }

    pub(super) fn case(&mut self, path: &Path, case: &Case, failures: Vec<FailedRequest>) {
        let passed = failures.is_empty();
        let (path, name) = (path.to_owned(), case.name.clone());
        *(if passed { &mut self.passed } else { &mut self.failed }) += 1;
        self.cases.push(CaseResult { path, line: case.line, name, passed, failures });
    }

    /// Cases that weren't played are no success.
    pub(super) fn print(mut self, format: OutputFormat) -> anyhow::Result<Exit> {
        self.ok = self.failed == 0 && self.errors == 0 && self.passed > 0;
        let text = match format {
            OutputFormat::Json => visible::json(&serde_json::to_string_pretty(&self)?).into_owned() + "\n",
            OutputFormat::Text => visible::lines(&self.for_people()).into_owned(),
            OutputFormat::Github => self.found().iter().map(findings::github).collect(),
            OutputFormat::Sarif => findings::sarif(&self.found())?,
            OutputFormat::Junit => findings::junit(&self.junit()),
        };
        match io::stdout().write_all(text.as_bytes()) {
            // Whoever reads may have read enough (`| head`).
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        Ok(if self.ok { Exit::Done } else { Exit::Failed })
    }

    /// The problems of the files, and each request that wasn't answered as expected, where it is written.
    fn found(&self) -> Vec<Finding> {
        let problems = self.problems.iter().map(Finding::of);
        let failed = self.cases.iter().flat_map(|case| case.failures.iter().map(move |failure| (case, failure)));
        let failures = failed.map(|(case, failure)| Finding {
            kind: "test",
            is_error: true,
            path: Some(findings::shown(&case.path)),
            line: failure.line,
            column: 1,
            text: format!("{}: {}", case.name, in_one_line(failure)),
        });
        problems.chain(failures).collect()
    }

    /// Each case is a test; a file with an error is one that couldn't be tried.
    fn junit(&self) -> Vec<JunitCase> {
        let errors = self.problems.iter().filter(|problem| problem.severity == Severity::Error);
        let broken = errors.map(|problem| JunitCase {
            suite: findings::shown(&problem.path),
            name: format!("line {}", problem.line),
            outcome: JunitOutcome::Broken(problem.what.clone(), problem.render()),
        });
        let of_case = |case: &CaseResult| {
            let words = || case.failures.iter().map(|failure| in_words(&case.path, failure)).collect::<String>();
            let outcome = match case.failures.first() {
                Some(first) => JunitOutcome::Failed(in_one_line(first), words()),
                None => JunitOutcome::Passed,
            };
            JunitCase { suite: findings::shown(&case.path), name: case.name.clone(), outcome }
        };
        broken.chain(self.cases.iter().map(of_case)).collect()
    }

    fn for_people(&self) -> String {
        let mut out = self.rendered.clone();
        for case in &self.cases {
            let sign = if case.passed { "ok  " } else { "FAIL" };
            let _ = writeln!(out, "{sign}  {}", case.name);
            for failure in &case.failures {
                out.push_str(&in_words(&case.path, failure));
            }
        }
        let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let _ = write!(out, "{}: {} passed", plural(self.cases.len(), "case"), self.passed);
        if self.failed > 0 {
            let _ = write!(out, ", {} failed", self.failed);
        }
        if self.errors > 0 {
            let _ = write!(out, "; {}: cases of these files were not played", plural(self.errors, "error"));
        }
        out.push('\n');
        out
    }
}

/// `user=alice at 3s: remaining: 0, not 1; (user=alice) meets api/user (api.yaml:5)`.
fn in_one_line(failure: &FailedRequest) -> String {
    let differs = |it: &Difference| format!("{}: {}, not {}", it.what, it.got, it.expected);
    let parts: Vec<String> = failure.differences.iter().map(differs).chain(failure.matched.iter().cloned()).collect();
    format!("{} at {}: {}", failure.request.join(" and "), words::wait(failure.at), parts.join("; "))
}

fn in_words(path: &Path, failure: &FailedRequest) -> String {
    let FailedRequest { line, at, request, time, times, .. } = failure;
    let time = if *times > 1 { format!(", time {time} of {times}") } else { String::new() };
    let mut out = format!("      {}:{line}: {} at {}{time}\n", path.display(), request.join(" and "), words::wait(*at));
    for difference in &failure.differences {
        let _ = writeln!(out, "        - {}: {}", difference.what, difference.expected);
        let _ = writeln!(out, "        + {}: {}", difference.what, difference.got);
    }
    for matched in &failure.matched {
        let _ = writeln!(out, "        {matched}");
    }
    out
}
