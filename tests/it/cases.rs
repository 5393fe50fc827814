//! `tollgate test`, by its words and exit codes: cases that pass, that differ, that are wrong, and the documentation's.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tollgate::rules::{CaseFile, Source};

use crate::{
    harness::{RulesDir, Tollgate, run_to_end},
    rules_golden::{assert_golden, files, text},
};

/// What is printed, and the exit code.
fn test(args: &[&str]) -> (String, Option<i32>) {
    let output = run_to_end(&[&["test"], args].concat(), &[]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

#[test]
fn the_starter_rules_pass_their_cases() {
    let (said, code) = test(&["config"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.lines().all(|line| line.starts_with("ok  ") || line.ends_with(" passed")), "{said}");
}

#[test]
fn cases_that_fail_are_told_in_the_words_beside_them() {
    for path in files("tests/cases") {
        let (said, code) = test(&["--rules", "tests/cases/rules", text(&path)]);
        assert_eq!(code, Some(1), "{said}");
        assert_golden(&path.with_extension("txt"), &said);
    }
}

#[test]
fn cases_that_are_wrong_are_refused_in_the_words_beside_them() {
    for path in files("tests/cases/bad") {
        let (said, code) = test(&["--rules", "tests/cases/rules", text(&path)]);
        assert_eq!(code, Some(1), "{said}");
        assert_golden(&path.with_extension("txt"), &said);
    }
}

#[test]
fn failures_come_as_json_too() {
    let path = "tests/cases/failing.test.yaml";
    let (json, code) = test(&["--rules", "tests/cases/rules", "--json", path]);
    let answer: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(code, Some(1));
    let expected = serde_json::json!({
        "ok": false,
        "passed": 0,
        "failed": 1,
        "cases": [{
            "path": path,
            "line": 3,
            "name": "a user has four requests a minute",
            "passed": false,
            "failures": [{
                "line": 5,
                "at_seconds": 0.0,
                "request": ["user=alice"],
                "time": 4,
                "times": 4,
                "differences": [{"what": "answer", "expected": "ok", "got": "over_limit"}],
                "matched": ["(user=alice) meets api/user (tests/cases/rules/api.yaml:5)"],
            }],
        }],
        "problems": [],
        "more_problems": 0,
    });
    assert_eq!(answer, expected);
}

/// A run that played nothing must not look like one that passed.
#[test]
fn no_cases_are_no_success() {
    let output = run_to_end(&["test", "docs/schema"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no cases in docs/schema"), "{output:?}");
    let (said, code) = test(&["--filter", "no case is called so", "config"]);
    assert_eq!((&*said, code), ("0 cases: 0 passed\n", Some(1)));
}

#[test]
fn rules_with_errors_are_told_and_their_cases_not_played() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 5/x}]\n");
    rules.write("a.test.yaml", "cases:\n- {name: x, requests: [{descriptor: user=a, expect: ok}]}\n");
    rules.write("b.test.yaml", "cases:\n- {name: y, requests: [{descriptor: user=a, expect: ok}]}\n");
    let (said, code) = test(&[text(rules.path())]);
    assert_eq!(code, Some(1));
    assert_eq!(said.matches("`5/x` is no limit").count(), 1, "{said}");
    assert!(said.ends_with("0 cases: 0 passed; 1 error: cases of these files were not played\n"), "{said}");
}

/// Cases say what a service with the same settings answers.
#[test]
fn settings_of_the_process_hold_for_cases() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 1/m}]\n");
    // A fixed window ends with its minute, wherever in it the hits came.
    let case = "start: 2026-01-01T00:00:59Z\ncases:\n- name: x\n  requests:\n  - {descriptor: user=a, expect: ok}\n  \
                - {after: 1s, descriptor: user=a, expect: ok}\n";
    rules.write("a.test.yaml", case);
    let path = text(rules.path());
    assert_eq!(test(&[path]).1, Some(1));
    assert_eq!(test(&["--algorithm", "fixed_window", path]).1, Some(0));
    assert_eq!(test(&["--compat", "envoyproxy", path]).1, Some(0));
    assert_eq!(run_to_end(&["test", path], &[("SHADOW_MODE", "true")]).status.code(), Some(0));
}

#[tokio::test]
async fn a_service_passes_cases_over_even_broken_ones() {
    let rules = RulesDir::with("api.yaml", super::serve::PER_USER);
    rules.write("api.test.yaml", "domain: api\ncases:\n  - {name: [\n");
    let tollgate = Tollgate::start(rules.path()).await;
    let line =
        tollgate.process.line("what it says of cases", |line| line.contains("tollgate test").then(|| line.to_owned()));
    assert!(line.await.contains("api.test.yaml"));
    assert_eq!(tollgate.metric("tollgate_rules_last_reload_successful").await, 1.0);
}

#[test]
fn the_documentations_cases_are_cases_and_its_output_is_what_is_printed() {
    let page = fs::read_to_string("docs/src/reference/testing.md").expect("it is in the repository");
    let block = |fence: &str| {
        let fence = format!("\n```{fence}\n");
        let blocks = page.split(&*fence).skip(1);
        blocks.map(|rest| rest.split("\n```").next().expect("its end").to_owned()).collect::<Vec<_>>()
    };
    for text in block("yaml") {
        let source = Source { path: Path::new("docs/src/reference/testing.md").into(), bytes: text.into_bytes() };
        let problems = CaseFile::read(source).1;
        assert!(problems.is_empty(), "{}", problems.render());
    }
    let shown: Vec<String> = [block("console"), block("console fails")].concat();
    // Other commands of that page print what they print elsewhere too.
    let shown: Vec<&str> = shown.iter().filter_map(|shown| shown.strip_prefix("$ tollgate test ")).collect();
    assert_eq!(shown.len(), 2);
    for shown in shown {
        let (args, output) = shown.split_once('\n').expect("a command, then what it prints");
        let args: Vec<&str> = args.split(' ').collect();
        // Where in its file a rule stands is that of the day on which it was written.
        let placeless =
            |text: &str| text.lines().map(|it| it.split(".yaml:").next().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(placeless(&test(&args).0), placeless(output));
    }
}

/// Rules whose limit an override takes the place of, and a case that reckons without it.
fn with_an_override() -> RulesDir {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: 2/m\n    overrides_from: [users.csv]\n",
    );
    rules.write("users.csv", "match.user,limit,expires\nalice,1/m,2026-06-01\n");
    let cases = "cases:\n  - name: alice has <two> & \"more\"\n    requests:\n      \
        - {descriptor: user=alice, times: 2, expect: ok}\n  - name: bob has two\n    requests:\n      \
        - {descriptor: user=bob, times: 2, expect: ok}\n";
    rules.write("api.test.yaml", cases);
    rules
}

#[test]
fn a_failure_names_the_override_that_decided_and_its_line_while_it_holds() {
    let rules = with_an_override();
    let (said, code) = test(&[text(rules.path())]);
    let place = format!("and the override user=alice ({}:2)", rules.path().join("users.csv").display());
    assert!(code == Some(1) && said.contains(&place), "{said}");
    rules.write("api.test.yaml", "start: 2026-06-01\ncases:\n  - name: later\n    requests:\n      - {descriptor: user=alice, times: 3, expect: ok}\n");
    let (said, code) = test(&[text(rules.path())]);
    assert!(code == Some(1) && !said.contains("override"), "it has ended: {said}");
}

#[test]
fn results_come_in_the_formats_of_pipelines() {
    let rules = with_an_override();
    let cases = rules.path().join("api.test.yaml").display().to_string();
    let formatted = |format: &str| test(&["--format", format, text(rules.path())]);

    let (line, code) = formatted("github");
    assert_eq!((code, line.lines().count()), (Some(1), 1), "{line}");
    let begin = format!(
        "::error file={cases},line=4,col=1::alice has <two> & \"more\": user=alice at 0s: answer: over_limit, not ok; "
    );
    assert!(line.starts_with(&begin) && line.contains("users.csv:2"), "{line}");

    let (log, code) = formatted("sarif");
    let log: serde_json::Value = serde_json::from_str(&log).expect("JSON");
    let result = &log["runs"][0]["results"][0];
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!((code, &log["version"], &result["level"]), (Some(1), &"2.1.0".into(), &"error".into()), "{log}");
    assert_eq!((&place["artifactLocation"]["uri"], &place["region"]["startLine"]), (&cases.into(), &4.into()), "{log}");

    let (xml, code) = formatted("junit");
    let read = std::process::Command::new("python3")
        .args(["-c", "import sys, xml.etree.ElementTree as xml\nroot = xml.fromstring(sys.argv[1])\nprint(root.attrib['tests'], root.attrib['failures'], [(case.attrib['name'], len(case)) for case in root.iter('testcase')])", &xml])
        .output()
        .expect("python3 is installed");
    let read = String::from_utf8_lossy(&read.stdout);
    assert_eq!((code, read.trim()), (Some(1), r#"2 1 [('alice has <two> & "more"', 1), ('bob has two', 0)]"#), "{xml}");

    assert_eq!(formatted("json"), test(&["--json", text(rules.path())]));
    rules.write("api.yaml", "domain: api\n");
    rules.write("api.test.yaml", "cases: 5\n");
    let (xml, code) = formatted("junit");
    assert!(code == Some(1) && xml.contains("errors=\"1\"") && xml.contains("<error message="), "{xml}");
}

#[test]
fn update_writes_the_answers_that_came_and_nothing_else() {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests: 3, window: 1m, name: 'a#b,c'}\n",
    );
    let cases = "# A comment that stays.\ncases:\n  - name: all of it   # and this\n    requests:\n      \
        - {descriptor: user=alice, expect: over_limit}   # one\n      \
        - {descriptor: user=alice, times: 4, expect: ok}\n      \
        - descriptor: user=bob\n        times: 4\n        expect:\n          answer: \"ok\"\n          \
          limit: api/usr   # its id\n          remaining: 7\n      \
        - {descriptors: [user=bob, user=carol], expect: {descriptors: [ok, {remaining: 9, limit: 'none'}]}}\n      \
        - {descriptor: user=dora, expect: {answer: ok, retry_after: 5s}}\n";
    rules.write("api.test.yaml", cases);
    let output = run_to_end(&["test", "--update", text(rules.path())], &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "a wait that there is none of can't be written: {said}");
    assert!(said.contains("- retry_after: 5s") && said.matches("        - ").count() == 1, "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("wrote 8 expected answers"), "{output:?}");
    let expected = cases
        .replace("expect: over_limit}", "expect: ok}")
        .replace("times: 4, expect: ok}", "times: 4, expect: {admitted: 2}}")
        .replace("answer: \"ok\"", "admitted: 3")
        .replace("limit: api/usr ", "limit: \"api/user#a%23b,c\" ")
        .replace("remaining: 7", "remaining: 0")
        .replace("[ok, {remaining: 9, limit: 'none'}]", "[over_limit, {remaining: 3, limit: \"api/user#a%23b,c\"}]");
    let written = fs::read_to_string(rules.path().join("api.test.yaml")).expect("it is there");
    assert_eq!(written, expected);
    let again = run_to_end(&["test", "--update", text(rules.path())], &[]);
    assert!(again.stderr.is_empty(), "nothing is left to write: {again:?}");
}

#[test]
fn update_replaces_a_file_as_a_whole_or_not_at_all() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 3/m}]\n");
    let cases = "cases: [{name: one, requests: [{descriptor: user=alice, expect: over_limit}]}]\n";
    rules.write("real.txt", cases);
    let (file, link, beside) = ["real.txt", "api.test.yaml", "real.txt.new"].map(|name| rules.path().join(name)).into();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("the file is ours");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    fs::write(&beside, "mine").expect("the directory is ours");
    let update = || run_to_end(&["test", "--update", text(rules.path())], &[]);
    let output = update();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("real.txt.new") && said.contains("can't be written"),
        "{said}"
    );
    let read = |path: &Path| fs::read_to_string(path).expect("it is there");
    assert_eq!((read(&file), read(&beside)), (cases.to_owned(), "mine".to_owned()));
    fs::remove_file(&beside).expect("the directory is ours");
    assert_eq!(update().status.code(), Some(0));
    assert_eq!(read(&file), cases.replace("over_limit", "ok"));
    let mode = fs::metadata(&file).expect("it is there").permissions().mode() & 0o777;
    assert!(link.is_symlink() && mode == 0o640 && !beside.exists(), "{mode:o}");
}
