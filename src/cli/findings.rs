//! What `check` and `test` found, in the formats that pipelines read: workflow commands of GitHub, SARIF 2.1.0, and the XML of
//! JUnit. It knows nothing of how things are found.

#[cfg(test)]
mod tests;

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use crate::{
    rules::{Problem, Severity, Warning},
    visible,
};

/// One thing that was found, at a place of a file.
pub(super) struct Finding {
    /// What kind of thing, as SARIF's rule: the name of a warning, or what else it is about.
    pub(super) kind: &'static str,
    pub(super) is_error: bool,
    /// `None`: it is no file's.
    pub(super) path: Option<String>,
    /// From 1.
    pub(super) line: u32,
    /// From 1.
    pub(super) column: u32,
    pub(super) text: String,
}

/// A test of JUnit: what it is called, and what became of it.
pub(super) struct JunitCase {
    /// The file that it is of.
    pub(super) suite: String,
    pub(super) name: String,
    pub(super) outcome: JunitOutcome,
}

pub(super) enum JunitOutcome {
    Passed,
    /// It was tried and isn't as it should be: the first line, and all of it.
    Failed(String, String),
    /// It couldn't be tried.
    Broken(String, String),
}

impl Finding {
    pub(super) fn of(problem: &Problem) -> Finding {
        let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Finding {
            kind: problem.name.map_or("rules", Warning::name),
            is_error: problem.severity == Severity::Error,
            path: Some(shown(&problem.path)),
            line: problem.line.max(1),
            column: problem.column.max(1),
            text: format!("{}{hint}", problem.what),
        }
    }

    /// The warning that it is; `--strict` may have made an error of it.
    fn warning(&self) -> Option<Warning> {
        Warning::parse(self.kind)
    }
}

/// A path as all formats have it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A workflow command that marks a line of a pull request.
pub(super) fn github(finding: &Finding) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let kind = if finding.is_error { "error" } else { "warning" };
    let text = escape(&visible::lines(&finding.text));
    match &finding.path {
        Some(path) => {
            let path = escape(&visible::text(path)).replace(':', "%3A").replace(',', "%2C");
            let title = finding.warning().map(|warning| format!(",title={}", warning.name())).unwrap_or_default();
            format!("::{kind} file={path},line={},col={}{title}::{text}\n", finding.line, finding.column)
        }
        None => format!("::{kind}::{text}\n"),
    }
}

/// A log of SARIF with one run.
pub(super) fn sarif(findings: &[Finding]) -> anyhow::Result<String> {
    let result = |finding: &Finding| {
        let mut result = json!({
            "ruleId": finding.kind,
            "level": if finding.is_error { "error" } else { "warning" },
            "message": {"text": finding.text},
        });
        if let Some(path) = &finding.path {
            result["locations"] = json!([{"physicalLocation": {
                "artifactLocation": {"uri": path.replace('\\', "/")},
                "region": {"startLine": finding.line, "startColumn": finding.column},
            }}]);
        }
        result
    };
    let mut kinds: Vec<&str> = findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let rule = |kind: &&str| match Warning::parse(kind) {
        Some(warning) => json!({"id": kind, "shortDescription": {"text": warning.meaning()}}),
        None => json!({"id": kind}),
    };
    let rules: Vec<Value> = kinds.iter().map(rule).collect();
    let driver = json!({"name": "tollgate", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    let results: Vec<Value> = findings.iter().map(result).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    });
    super::show::json(&log)
}

/// Tests in the XML of JUnit, a suite for each file, in the order in which they come.
pub(super) fn junit(cases: &[JunitCase]) -> String {
    let count = |cases: &[JunitCase]| {
        let failed = cases.iter().filter(|case| matches!(case.outcome, JunitOutcome::Failed(..))).count();
        let broken = cases.iter().filter(|case| matches!(case.outcome, JunitOutcome::Broken(..))).count();
        format!(r#"tests="{}" failures="{failed}" errors="{broken}""#, cases.len())
    };
    let mut out =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"tollgate\" {}>\n", count(cases));
    for suite in cases.chunk_by(|one, other| one.suite == other.suite) {
        let name = escaped(&suite[0].suite);
        let _ = writeln!(out, "  <testsuite name=\"{name}\" {}>", count(suite));
        for case in suite {
            let head = format!("    <testcase classname=\"{name}\" name=\"{}\"", escaped(&case.name));
            let (tag, message, text) = match &case.outcome {
                JunitOutcome::Passed => {
                    let _ = writeln!(out, "{head}/>");
                    continue;
                }
                JunitOutcome::Failed(message, text) => ("failure", message, text),
                JunitOutcome::Broken(message, text) => ("error", message, text),
            };
            let (message, text) = (escaped(message), escaped(text));
            let _ = writeln!(out, "{head}>\n      <{tag} message=\"{message}\">{text}</{tag}>\n    </testcase>");
        }
        out.push_str("  </testsuite>\n");
    }
    out + "</testsuites>\n"
}

/// Problems as tests of JUnit: each error fails one, and a file set without any passes.
pub(super) fn junit_of_check(findings: &[Finding], what: &str) -> Vec<JunitCase> {
    let errors = findings.iter().filter(|finding| finding.is_error);
    let mut cases: Vec<JunitCase> = errors
        .map(|finding| JunitCase {
            suite: finding.path.clone().unwrap_or_else(|| what.to_owned()),
            name: match finding.warning() {
                Some(warning) => format!("line {}: {} [{}]", finding.line, finding.text, warning.name()),
                None => format!("line {}: {}", finding.line, finding.text),
            },
            outcome: JunitOutcome::Failed(finding.text.clone(), finding.text.clone()),
        })
        .collect();
    if cases.is_empty() {
        cases.push(JunitCase { suite: what.to_owned(), name: what.to_owned(), outcome: JunitOutcome::Passed });
    }
    cases
}

/// Text within XML, also within quotes. Control characters, which XML can't hold, are shown as elsewhere; of two others that it
/// can't hold nothing is left but that something stood there.
fn escaped(text: &str) -> String {
    let text = visible::lines(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
