//! The schemas of what people write: as they are committed, and held against every golden file by a validator that isn't
//! ours (PyPI's jsonschema, which `tests/run.sh` puts into target/venv).

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    asking::Ran,
    rules_golden::{assert_golden, files, text},
};

const RULES: &str = "docs/schema/rules.schema.json";
const TESTS: &str = "docs/schema/tests.schema.json";
const OVERRIDES: &str = "docs/schema/overrides.schema.json";

#[test]
fn the_schemas_in_docs_are_what_the_command_prints() {
    for (of, path) in [("rules", RULES), ("tests", TESTS), ("overrides", OVERRIDES)] {
        let ran = Ran::with(&["schema", of], &[]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_golden(Path::new(path), &ran.out);
    }
    assert_eq!(Ran::with(&["schema", "rule"], &[]).code, 2);
}

/// What a validator says of each file: `None` where it is valid.
fn validate(asked: &[(&str, PathBuf, &str)]) -> Vec<Option<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/venv/bin/python");
    let mut child = Command::new(&python)
        .arg("tests/it/schema/validate.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/run.sh makes target/venv");
    let asked: Vec<_> = asked.iter().map(|(schema, path, pointer)| json!([schema, path, pointer])).collect();
    let mut to = child.stdin.take().expect("it is piped");
    to.write_all(json!({"files": asked}).to_string().as_bytes()).expect("it reads");
    drop(to);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "jsonschema and pyyaml are in target/venv (tests/run.sh puts them there)");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn said(schema: &'static str, files: Vec<PathBuf>) -> Vec<(String, Option<String>)> {
    let asked: Vec<_> = files.into_iter().map(|path| (schema, path, "")).collect();
    let answers = validate(&asked);
    asked.iter().map(|(_, path, _)| text(path).to_owned()).zip(answers).collect()
}

#[test]
fn every_file_that_loads_is_valid() {
    let mut rules = files("tests/rules/good");
    rules.extend(["config/api.yaml", "examples/envoy/rules/api.yaml", "tests/cases/rules/api.yaml"].map(PathBuf::from));
    let mut cases = files("tests/cases");
    cases.push("config/api.test.yaml".into());
    for (path, problem) in said(RULES, rules).into_iter().chain(said(TESTS, cases)) {
        assert_eq!(problem, None, "{path}");
    }
    let rows = ("tests/rules/good/overrides_second.ndjson", "#/$defs/override");
    assert_eq!(validate(&[(OVERRIDES, rows.0.into(), rows.1)]), [None]);
}

#[test]
fn every_example_of_the_pages_is_valid() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut examples = Vec::new();
    for (page, schema, first) in [
        ("docs/src/reference/rules.md", RULES, "domain"),
        ("docs/src/reference/limits.md", RULES, "domain"),
        ("docs/src/reference/overrides.md", RULES, "domain"),
        ("docs/src/reference/testing.md", TESTS, "cases"),
    ] {
        let page = std::fs::read_to_string(page).expect("it is in the repository");
        let blocks = page.split("```yaml").skip(1).filter_map(|rest| rest.split_once('\n'));
        let blocks = blocks.filter(|(fence, _)| !fence.contains("refused"));
        for (_, block) in blocks {
            let block = block.split("\n```").next().unwrap_or_default();
            if block.lines().any(|line| line.starts_with(&format!("{first}:"))) {
                let path = directory.path().join(format!("{first}-{}.yaml", examples.len()));
                std::fs::write(&path, block).expect("the directory is ours");
                examples.push((schema, path, ""));
            }
        }
    }
    assert!(examples.len() > 15, "{}", examples.len());
    for ((_, path, _), problem) in examples.iter().zip(validate(&examples)) {
        let block = std::fs::read_to_string(path).expect("it was written");
        assert_eq!(problem, None, "{block}");
    }
}

/// What is wrong with these needs more than a schema: two equal keys, a name that isn't there, another file, aliases.
const NOT_BY_A_SCHEMA: [&str; 7] = [
    "domain.test.yaml",
    "duplicate_key.yaml",
    "duplicate_key_only.yaml",
    "duplicate_nested.yaml",
    "nothing_expected.test.yaml",
    "overrides_csv.yaml",
    "replaces_self.yaml",
];

#[test]
fn every_file_that_is_refused_is_invalid_but_for_what_no_schema_can_say() {
    let bad = said(RULES, files("tests/rules/bad")).into_iter().chain(said(TESTS, files("tests/cases/bad")));
    let mut valid: Vec<String> = bad.filter(|(_, problem)| problem.is_none()).map(|(path, _)| path).collect();
    let name = |path: String| path.rsplit('/').next().map(str::to_owned).expect("a split has a last part");
    valid = valid.into_iter().map(name).collect();
    valid.sort();
    assert_eq!(valid, NOT_BY_A_SCHEMA);
}

/// One mistake each, so that none hides another's absence.
#[test]
fn what_the_reader_refuses_of_a_limit_the_schema_refuses_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = [
        ("30/5m", true),
        ("unlimited", true),
        ("{tier: gold, burst: 5}", true),
        ("{requests: 5, window: 1h30m, enforce: 12.5%}", true),
        ("{requests: 5, window: 1h, enforce: yes}", true),
        ("{requests_per_unit: 0x10, unit: HOUR}", true),
        ("{requests: 5, window: 1h, enforce: 100.5%}", false),
        ("{requests: 5, window: 1h, enforce: 10}", false),
        ("{requests: 5, window: 1h, algorithm: window}", false),
        ("{requests: 5, window: 1h, sub_windows: 65}", false),
        ("{requests: 5, window: 1h, on_store_failure: shut}", false),
        ("{requests: 5, window: 1h, count_denied: maybe}", false),
        ("{requests: 5, window: 1h, burst: 0}", false),
        ("{requests: 5, unit: hour}", false),
        ("{requests: 5}", false),
        ("{requests_per_unit: 5}", false),
        ("{unlimited: true, window: 1h}", false),
        ("{requests: -1, window: 1h}", false),
        ("{requests: \"5\", window: 1h}", false),
        ("{requests: 5, window: 1h, limit: 3}", false),
        ("five", false),
        ("[]", false),
    ];
    let mut asked = Vec::new();
    for (nth, (limit, is_good)) in limits.iter().enumerate() {
        let path = directory.path().join(format!("{nth}.yaml"));
        let rules = format!(
            "domain: d\ntiers: {{gold: {{requests: 5, window: 1m, algorithm: token_bucket}}}}\n\
            descriptors:\n  - key: a\n    rate_limit: {limit}\n"
        );
        std::fs::write(&path, rules).expect("the directory is ours");
        let checked = Ran::with(&["check", text(&path)], &[]);
        assert_eq!(checked.code == 0, *is_good, "{limit}: {checked:?}");
        asked.push((RULES, path, ""));
    }
    for ((limit, is_good), problem) in limits.iter().zip(validate(&asked)) {
        assert_eq!(problem.is_none(), *is_good, "{limit}: {problem:?}");
    }
}
