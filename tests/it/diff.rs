//! `tollgate diff`, by its words and exit codes: each kind of difference, each format, each kind of side.

use crate::{
    harness::{RulesDir, run_to_end},
    rules_golden::assert_golden,
};

/// What is printed, and the exit code.
fn diff(args: &[&str]) -> (String, Option<i32>) {
    let output = run_to_end(&[&["diff", "--at", "2026-06-01"], args].concat(), &[]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

/// What is said of a command that fails, and the exit code.
fn refused(args: &[&str]) -> (String, Option<i32>) {
    let output = run_to_end(&[&["diff"], args].concat(), &[]);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (String::from_utf8(output.stderr).expect("text"), output.status.code())
}

const SIDES: [&str; 2] = ["tests/diff/old", "tests/diff/new"];

#[test]
fn each_kind_of_difference_is_told_in_the_words_beside_the_rules() {
    for (format, ending) in [("text", "txt"), ("json", "json"), ("markdown", "md")] {
        let (said, code) = diff(&[&["--format", format], &SIDES[..]].concat());
        assert_eq!(code, Some(0), "{said}");
        assert_golden(format!("tests/diff/expected.{ending}").as_ref(), &said);
    }
}

#[test]
fn json_is_what_format_json_prints() {
    assert_eq!(diff(&[&["--json"], &SIDES[..]].concat()), diff(&[&["--format", "json"], &SIDES[..]].concat()));
}

#[test]
fn a_difference_is_exit_code_3_only_where_that_is_asked() {
    assert_eq!(diff(&[&["--exit-code"], &SIDES[..]].concat()).1, Some(3));
    assert_eq!(diff(&SIDES).1, Some(0));
    assert_eq!(diff(&["--exit-code", SIDES[0], SIDES[0]]), ("no difference\n".to_owned(), Some(0)));
}

/// A file of the directory is the same rules as the directory where it is all that is there.
#[test]
fn a_file_is_a_side_as_a_directory_is() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors:\n- {key: user, rate_limit: 5/s}\n");
    let (directory, file) = (rules.path().to_owned(), rules.path().join("api.yaml"));
    let (said, _) = diff(&[directory.to_str().expect("text"), file.to_str().expect("text")]);
    assert_eq!(said, "no difference\n");
}

#[test]
fn rules_with_errors_are_refused_with_every_problem() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors:\n- {key: user, rate_limit: 5/x}\n");
    let (said, code) = refused(&["config", rules.path().to_str().expect("text")]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`5/x` is no limit") && said.contains("nothing to compare"), "{said}");
    let (said, code) = refused(&["config", "no/such/place"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no/such/place") && said.contains("can't be read"), "{said}");
}

/// A million lines must not make a comment that nobody takes, and what matters most must be in it.
#[test]
fn a_comment_has_at_most_60_000_characters_and_says_what_it_leaves_out() {
    let rules = |limit: &str, prefix: &str| {
        let rules: String =
            (0..3_000).map(|rule| format!("- {{key: '{prefix}{rule}', rate_limit: {limit}}}\n")).collect();
        let rows: String = (0..3_000).map(|user| format!("- {{match: {{user: u{user}}}, limit: {limit}}}\n")).collect();
        let user = "- {key: user, rate_limit: 5/s}\n";
        RulesDir::with("api.yaml", &format!("domain: api\ndescriptors:\n{user}{rules}overrides:\n{rows}"))
    };
    let (old, new) = (rules("5/s", "```old"), rules("6/s", "new"));
    let sides = [old.path().to_str().expect("text"), new.path().to_str().expect("text")];
    let (said, _) = diff(&["--format", "markdown", "--top", "5000", sides[0], sides[1]]);
    assert!(said.chars().count() <= 60_000, "{}", said.chars().count());
    assert!(said.contains("(```old0=x) met api/```old0, now nothing"), "{said}");
    assert!(said.contains("````diff\n"), "a fence must be longer than any run of backticks");
    for section in ["#### Requests that meet another rule", "#### Limits", "#### Overrides"] {
        let section = said.split_once(section).expect("each section is there").1;
        let section = section.split("\n#### ").next().expect("a split has a first part");
        assert!(section.contains("more lines are left out here"), "{section}");
    }
}
