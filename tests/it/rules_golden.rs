//! Rule files and exactly what `tollgate check` says of them: every file of `tests/rules/bad` is refused in the words that
//! stand beside it, every file of `tests/rules/good` and the starter rules load, with no more warnings than stand there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::harness::run_to_end;

pub(crate) fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .expect("it is in the repository")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{directory} holds rule files");
    files
}

/// What `tollgate check` prints, and its exit code.
fn check(args: &[&str]) -> (String, Option<i32>) {
    let output = run_to_end(&[&["check"], args].concat(), &[]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

/// With `TOLLGATE_BLESS` set the words are written down anew; what changed is then for `git diff` to show.
pub(crate) fn assert_golden(path: &Path, said: &str) {
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        fs::write(path, said).expect("the repository is ours");
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(said, expected, "{} (TOLLGATE_BLESS=1 writes it anew)", path.display());
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("file names are text")
}

#[test]
fn every_bad_file_is_refused_in_the_words_beside_it() {
    for path in files("tests/rules/bad") {
        let (said, code) = check(&[text(&path)]);
        assert_eq!(code, Some(1), "{}", path.display());
        assert_golden(&path.with_extension("txt"), &said);
    }
}

#[test]
fn every_good_file_loads_with_the_words_beside_it() {
    for path in files("tests/rules/good") {
        let (said, code) = check(&[text(&path)]);
        assert_eq!(code, Some(0), "{said}");
        assert_golden(&path.with_extension("txt"), &said);
    }
}

#[test]
fn the_starter_rules_load_without_a_word() {
    assert_eq!(check(&["config"]), ("ok: 1 file, 1 domain, 5 rules\n".to_owned(), Some(0)));
    assert_eq!(check(&["examples/envoy/rules"]).1, Some(0));
}

#[test]
fn problems_come_as_json_and_as_annotations_too() {
    let path = "tests/rules/bad/misspelled_requests.yaml";
    let (json, code) = check(&["--format", "json", path]);
    let answer: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(code, Some(1));
    assert_eq!((&answer["ok"], &answer["rules"]), (&false.into(), &0.into()));
    let expected = serde_json::json!({
        "path": path,
        "line": 4,
        "column": 30,
        "end_column": 46,
        "severity": "error",
        "what": "unknown key `request_per_unit` in `rate_limit`",
        "hint": "did you mean `requests_per_unit`?",
        "source_line": "    rate_limit: {unit: hour, request_per_unit: 1}",
    });
    assert_eq!(answer["problems"], serde_json::json!([expected]));

    assert_eq!(check(&["--json", path]), (json, Some(1)), "as `test` and `diff` have it");

    let (annotations, code) = check(&["--format", "github", path]);
    assert_eq!(code, Some(1));
    assert_eq!(
        annotations,
        format!(
            "::error file={path},line=4,col=30::unknown key `request_per_unit` in `rate_limit` \
             (did you mean `requests_per_unit`?)\n"
        )
    );
}

#[test]
fn problems_come_as_junit_and_sarif_too() {
    let path = "tests/rules/bad/misspelled_requests.yaml";
    let (xml, code) = check(&["--format", "junit", path]);
    let failure =
        "<failure message=\"unknown key `request_per_unit` in `rate_limit` (did you mean `requests_per_unit`?)\">";
    assert!(code == Some(1) && xml.contains("tests=\"1\" failures=\"1\"") && xml.contains(failure), "{xml}");
    let (log, code) = check(&["--format", "sarif", path]);
    let log: serde_json::Value = serde_json::from_str(&log).expect("JSON");
    let region = &log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"];
    assert_eq!((code, region), (Some(1), &serde_json::json!({"startLine": 4, "startColumn": 30})), "{log}");

    let (xml, code) = check(&["--format", "junit", "config"]);
    assert!(code == Some(0) && xml.contains("tests=\"1\" failures=\"0\"") && xml.contains("name=\"rules\"/>"), "{xml}");
    let (log, code) = check(&["--format", "sarif", "config"]);
    let log: serde_json::Value = serde_json::from_str(&log).expect("JSON");
    assert_eq!((code, &log["runs"][0]["results"]), (Some(0), &serde_json::json!([])));
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let (said, code) = check(&["tests/rules/nowhere"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("can't be read") && said.contains("tests/rules/nowhere"), "{said}");
}

#[test]
fn files_of_one_domain_are_refused_unless_they_may_merge() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (file, key) in [("a.yaml", "x"), ("b.yaml", "y")] {
        let text = format!("domain: d\ndescriptors: [{{key: {key}, rate_limit: 5/s}}]\n");
        fs::write(directory.path().join(file), text).expect("the directory is ours");
    }
    assert_eq!(check(&[text(directory.path())]).1, Some(1));
    let merged = check(&["--merge-domain-config", text(directory.path())]);
    assert_eq!(merged, ("ok: 2 files, 1 domain, 2 rules\n".to_owned(), Some(0)));
}

#[test]
fn strict_makes_errors_of_warnings_and_a_comment_silences_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("a.yaml");
    let write = |comment: &str| {
        let text = format!("domain: d\ndescriptors:\n- key: x\n  rate_limit: {{unit: day}} {comment}\n");
        fs::write(&path, text).expect("the directory is ours");
    };
    write("# no number");
    let (said, code) = check(&[text(&path)]);
    assert_eq!(code, Some(0));
    assert!(said.starts_with("warning[zero-limit]: ") && said.ends_with("1 rule, 1 warning\n"), "{said}");
    let (said, code) = check(&["--strict", text(&path)]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("error[zero-limit]: ") && said.ends_with("\n1 error\n"), "{said}");

    write("# tollgate: allow zero-limit -- on purpose");
    let quiet = ("ok: 1 file, 1 domain, 1 rule\n".to_owned(), Some(0));
    assert_eq!((check(&[text(&path)]), check(&["--strict", text(&path)])), (quiet.clone(), quiet));
    write("# tollgate: allow ignored-key");
    assert_eq!(check(&["--strict", text(&path)]).1, Some(1), "the comment allows another warning");
    write("# tollgate: allow zero-limits");
    let (said, code) = check(&[text(&path)]);
    assert_eq!(code, Some(0));
    let unknown = said.contains("warning[unknown-allow]: there is no warning `zero-limits` to allow");
    assert!(unknown && said.contains("did you mean `zero-limit`?") && said.contains("2 warnings"), "{said}");
}

/// A row that ends must not turn the pipeline of everybody else red on that day, and a row has no comments.
#[test]
fn strict_leaves_warnings_that_are_allowed_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |file: &str, text: &str| fs::write(directory.path().join(file), text).expect("the directory is ours");
    write("a.yaml", "domain: d\ndescriptors:\n- {key: x, rate_limit: 5/s, overrides_from: [x.csv]}\n");
    write("x.csv", "match.x,limit,expires\nann,9/s,2020-01-01\n");
    let rules = text(directory.path());
    let (said, code) = check(&["--strict", rules]);
    assert!(code == Some(1) && said.starts_with("error[expired-override]"), "{said}");
    let (said, code) = check(&["--strict", "--allow", "zero-limit", "--allow", "expired-override", rules]);
    assert!(code == Some(0) && said.starts_with("warning[expired-override]") && said.contains("1 warning"), "{said}");

    write("b.yaml", "domain: e\ndescriptors:\n- {key: x, rate_limit: {unit: day}}\n");
    let (said, code) = check(&["--strict", "--allow", "expired-override", rules]);
    assert!(code == Some(1) && said.contains("error[zero-limit]") && said.contains("1 error, 1 warning"), "{said}");
    let unknown = run_to_end(&["check", "--strict", "--allow", "expired", rules], &[]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(2) && said.contains("expired-override"), "{said}");
}

#[test]
fn every_format_has_the_names_of_warnings() {
    let path = "tests/rules/good/missing_requests_per_unit_is_zero.yaml";
    let (json, _) = check(&["--format", "json", path]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["problems"][0]["name"], &json["problems"][0]["severity"]),
        (&"zero-limit".into(), &"warning".into())
    );
    let (github, _) = check(&["--format", "github", path]);
    assert!(github.starts_with("::warning file=") && github.contains(",title=zero-limit::"), "{github}");
    let (sarif, code) = check(&["--strict", "--format", "sarif", path]);
    let sarif: serde_json::Value = serde_json::from_str(&sarif).expect("JSON");
    let (run, result) = (&sarif["runs"][0], &sarif["runs"][0]["results"][0]);
    assert_eq!((code, &result["ruleId"], &result["level"]), (Some(1), &"zero-limit".into(), &"error".into()));
    let rule = &run["tool"]["driver"]["rules"][0];
    assert_eq!(rule["id"], "zero-limit");
    assert!(rule["shortDescription"]["text"].as_str().is_some_and(|text| text.contains("refuses every request")));
    let (junit, code) = check(&["--strict", "--format", "junit", path]);
    assert!(code == Some(1) && junit.contains("[zero-limit]\"") && junit.contains("failures=\"1\""), "{junit}");
}

/// What both say is not told of as well: it is one mistake.
#[test]
fn two_files_of_one_domain_are_one_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (file, algorithm, requests) in [("a.yaml", "fixed_window", 5), ("b.yaml", "token_bucket", 6)] {
        let text = format!(
            "domain: d\ndefaults: {{algorithm: {algorithm}}}\ntiers: {{t: {{requests_per_unit: {requests}, unit: day}}}}\n\
             shortcuts: {{user: [{file}]}}\ndescriptors:\n- key: x\n  rate_limit: 5/s\n  descriptors: [{{key: y, rate_limit: 5/s}}]\n\
             - {{key: {file}, rate_limit: {{tier: t}}}}\n"
        );
        fs::write(directory.path().join(file), text).expect("the directory is ours");
    }
    let (said, code) = check(&[text(directory.path())]);
    assert_eq!(code, Some(1));
    assert!(said.ends_with("\n1 error\n") && said.contains("domain `d` has another file already"), "{said}");
    let (said, code) = check(&["--merge-domain-config", text(directory.path())]);
    assert_eq!(code, Some(1));
    assert!(said.ends_with("\n4 errors\n"), "where they may be one domain, all that differs is told:\n{said}");
}
