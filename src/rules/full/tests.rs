//! What is written and read again is the same rules.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::{
    limit::{Algorithm, UnixMicros},
    rules::{self, CountDenied, Defaults, DotFiles, Rules, RulesDiff, Sources},
};

/// The object of each domain, within the answer that carries them.
fn answer(rules: &Rules) -> Vec<u8> {
    let domains: Vec<Value> = rules
        .domains()
        .iter()
        .map(|domain| {
            let full: String = FullPieces::new(domain.clone()).collect();
            let full: Value = serde_json::from_str(&full).unwrap_or_else(|error| panic!("{error}: {full}"));
            json!({"domain": domain.name(), "kept": false, "full": full})
        })
        .collect();
    let defaults = json!({"algorithm": "fixed_window", "count_denied": "auto", "merge_domains": false});
    json!({"process_defaults": defaults, "domains": domains}).to_string().into_bytes()
}

fn read_again(rules: &Rules) -> Rules {
    FullRules::read(&answer(rules)).unwrap_or_else(|error| panic!("{error}")).rules
}

/// With process defaults that aren't those of the reader.
fn load(path: &Path) -> Rules {
    let sources = Sources::read(&[path.to_owned()], DotFiles::Read).expect("it can be read");
    let defaults =
        Defaults { algorithm: Algorithm::TokenBucket, count_denied: CountDenied::Never, merge_domains: false };
    let loaded = rules::load(&sources, &defaults, None);
    assert!(!loaded.problems.has_errors(), "{}", loaded.problems.render());
    loaded.rules
}

#[test]
fn rules_that_are_written_and_read_again_are_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let good = std::fs::read_dir(root.join("tests/rules/good")).expect("the files are there");
    let good = good.map(|entry| entry.expect("it can be listed").path());
    let mut files: Vec<PathBuf> = good.filter(|path| path.extension().is_some_and(|is| is == "yaml")).collect();
    files.extend(["config", "tests/diff/old", "tests/diff/new", "examples/envoy/rules"].map(|path| root.join(path)));
    assert!(files.len() > 20);
    for path in files {
        let rules = load(&path);
        let again = read_again(&rules);
        for (before, after) in rules.domains().iter().zip(again.domains()) {
            let words = |domain: &rules::Domain| -> Vec<String> {
                let limits = |rule: &rules::Rule| format!("{:?} {:?} {:?}", rule.id, rule.limits, rule.shared);
                domain.rules().iter().map(limits).collect()
            };
            assert_eq!(words(before), words(after), "{}", path.display());
            assert_eq!(before.overrides().len(), after.overrides().len(), "{}", path.display());
        }
        let diff = RulesDiff::new(&rules, &again, UnixMicros(0), 10);
        let words: Vec<String> = diff.limits.iter().map(ToString::to_string).collect();
        assert!(diff.is_empty(), "{}: {words:?} {:?} {:?}", path.display(), diff.rules, diff.defaults);
        assert_eq!(rules.domains().len(), again.domains().len());
    }
}

/// Of several rows with one match, the same wins again: an inline one over files, a later file over an earlier one.
#[test]
fn rows_win_as_they_did() {
    let path = |name: &str| PathBuf::from(name);
    let yaml = "domain: a/b\ndescriptors:\n- key: user\n  rate_limit: 20/m\n  overrides_from: [one.csv, two.csv]\n  \
        overrides:\n  - {match: {user: alice}, limit: 3/m, expires: 2026-05-01T00:00:00.5Z}\n\
        overrides_from: [one.csv]\noverrides:\n- {match: {user: 'a\\*b'}, limit: 9/m, reason: 'it\\u{1b} is'}\n";
    let sources = Sources {
        files: vec![rules::Source { path: path("rules.yaml"), bytes: yaml.into() }],
        overrides: vec![
            rules::Source { path: path("one.csv"), bytes: b"match.user,limit\nalice,1/m\nbob,1/m\n".to_vec() },
            rules::Source { path: path("two.csv"), bytes: b"match.user,limit\nalice,2/m\nbob,2/m\n".to_vec() },
        ],
        ..Sources::default()
    };
    let loaded = rules::load(&sources, &Defaults::default(), None);
    assert!(!loaded.problems.has_errors(), "{}", loaded.problems.render());
    let again = read_again(&loaded.rules);
    for now in ["2026-01-01", "2026-06-01"] {
        let now = crate::limit::moment::parse(now).expect("a moment");
        let diff = RulesDiff::new(&loaded.rules, &again, now, 10);
        let words: Vec<&str> = diff.overrides.rows.iter().map(|row| row.words.as_str()).collect();
        assert!(diff.is_empty(), "{words:?}");
        assert_eq!(diff.overrides.in_force, (5, 5));
    }
    let rows =
        |rules: &Rules| -> Vec<String> { rules.domains()[0].overrides().rows().map(|row| row.to_string()).collect() };
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    assert_eq!(sorted(rows(&loaded.rules)), sorted(rows(&again)));
}

#[test]
fn pieces_are_short_however_many_rows_there_are() {
    let rows: String = (0..5_000).map(|user| format!("- {{match: {{user: user{user}}}, limit: 5/m}}\n")).collect();
    let yaml = format!("domain: api\ndescriptors: [{{key: user, rate_limit: 5/s}}]\noverrides:\n{rows}");
    let file = rules::Source { path: PathBuf::from("rules.yaml"), bytes: yaml.into_bytes() };
    let rules = rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None).rules;
    let pieces: Vec<String> = FullPieces::new(rules.domains()[0].clone()).collect();
    assert!(pieces.len() > 10 && pieces.iter().all(|piece| piece.len() < 70_000));
    assert_eq!(read_again(&rules).domains()[0].overrides().len(), 5_000);
}

#[test]
fn what_is_no_answer_of_a_service_is_refused() {
    for text in ["", "{}", "[]", r#"{"domains": [{"domain": "api"}]}"#] {
        let why = FullRules::read(text.as_bytes()).err().expect("it is refused").to_string();
        assert!(why.starts_with("it isn't the rules of a service"), "{why}");
    }
    let limits = json!({"defaults": {}, "tiers": {}, "shortcuts": {}, "overrides": [],
        "rules": [{"id": "api/user", "path": [{"key": "user"}], "rate_limit": "5/x"}]});
    let answer = json!({"domains": [{"domain": "api", "full": limits}]}).to_string();
    let why = FullRules::read(answer.as_bytes()).err().expect("it is refused").to_string();
    assert!(why.contains("can't be read again here") && why.contains("`5/x` is no limit"), "{why}");
}
