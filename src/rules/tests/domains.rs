//! Files and domains: which files make one, and what a broken file does to those that had rules before.

use super::*;

fn names(rules: &Rules) -> Vec<(&str, usize)> {
    rules.domains().iter().map(|domain| (domain.name(), domain.rules().len())).collect()
}

fn merging() -> Defaults {
    Defaults { merge_domains: true, ..Defaults::default() }
}

const A: &str = "domain: a\ndescriptors: [{key: x}]";
const B: &str = "domain: b\ndescriptors: [{key: x}, {key: y}]";

#[test]
fn a_broken_domain_keeps_its_rules_and_the_others_go_on() {
    let last = load(&sources(&[("a.yaml", A), ("b.yaml", B)]), &Defaults::default(), None).rules;
    assert_eq!(names(&last), [("a", 1), ("b", 2)]);
    let broken = [
        "domain: a\ndescriptors: [{kee: x}]",
        "domain: a\ndescriptors: [{key: x",
        "descriptors: [{key: x}, {key: y}]",
        "\0\u{1}",
        "",
        "domain: *nothing",
    ];
    for text in broken {
        let now = [("a.yaml", text), ("b.yaml", "domain: b\ndescriptors: [{key: z}]")];
        let load = load(&sources(&now), &Defaults::default(), Some(&last));
        assert_eq!(names(&load.rules), [("a", 1), ("b", 1)], "{text:?}");
        assert_eq!(load.kept_domains, [Box::<str>::from("a")], "{text:?}");
        assert!(load.problems.has_errors());
    }
}

#[test]
fn a_broken_domain_that_had_no_rules_is_absent() {
    let load = load(&sources(&[("a.yaml", "domain: a\nx: y"), ("b.yaml", B)]), &Defaults::default(), None);
    assert_eq!(names(&load.rules), [("b", 2)]);
    assert!(load.kept_domains.is_empty() && load.problems.has_errors());
}

#[test]
fn a_domain_whose_files_are_gone_is_gone() {
    let last = load(&sources(&[("a.yaml", A), ("b.yaml", B)]), &Defaults::default(), None).rules;
    let load = load(&sources(&[("a.yaml", A)]), &Defaults::default(), Some(&last));
    assert_eq!(names(&load.rules), [("a", 1)]);
    assert!(load.problems.is_empty());
}

#[test]
fn a_file_that_is_renamed_to_another_domain_takes_its_old_one_along() {
    let last = load(&sources(&[("a.yaml", A)]), &Defaults::default(), None).rules;
    let load = load(&sources(&[("a.yaml", B)]), &Defaults::default(), Some(&last));
    assert_eq!(names(&load.rules), [("b", 2)]);
}

#[test]
fn two_files_of_a_domain_are_refused_unless_they_may_merge() {
    let files = [("a.yaml", A), ("c.yaml", "domain: a\ndescriptors: [{key: y}]")];
    let refused = load(&sources(&files), &Defaults::default(), None);
    let located: Vec<String> = refused.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        located,
        ["c.yaml:1:9: domain `a` has another file already: a.yaml:1 (give this file a domain of its own, or set \
             MERGE_DOMAIN_CONFIG=true to make one domain of both)"]
    );
    assert!(names(&refused.rules).is_empty());

    let merged = load(&sources(&files), &merging(), None);
    assert!(merged.problems.is_empty(), "{}", merged.problems);
    assert_eq!(names(&merged.rules), [("a", 2)]);
    assert_eq!(merged.rules.count(), RuleCounts { files: 2, domains: 1, rules: 2, ..RuleCounts::default() });
}

#[test]
fn merged_files_must_not_say_the_same_twice() {
    let files = [
        ("a.yaml", "domain: a\ndefaults: {algorithm: fixed_window}\ndescriptors: [{key: x}]"),
        ("b.yaml", "domain: a\ndefaults: {algorithm: sliding_log}\ndescriptors: [{key: x}]"),
    ];
    let load = load(&sources(&files), &merging(), None);
    let located: Vec<String> = load.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        located,
        [
            "b.yaml:2:23: `algorithm` holds for the whole domain, and differs from a.yaml:2",
            "b.yaml:3:15: key `x` without a value is here a second time: first in a.yaml:3",
        ]
    );
}

#[test]
fn merged_files_share_their_defaults() {
    let files = [
        ("a.yaml", "domain: a\ndescriptors: [{key: x, rate_limit: 5/s}]"),
        ("b.yaml", "domain: a\ndefaults: {algorithm: fixed_window}"),
    ];
    let load = load(&sources(&files), &merging(), None);
    let algorithms: Vec<Algorithm> = load.rules.limits().map(|(_, _, limit)| limit.limit.algorithm).collect();
    assert_eq!(algorithms, [Algorithm::FixedWindow]);
}

#[test]
fn one_broken_file_of_a_merged_domain_keeps_all_of_it() {
    let good = [("a.yaml", A), ("c.yaml", "domain: a\ndescriptors: [{key: y}]")];
    let last = load(&sources(&good), &merging(), None).rules;
    let now = [("a.yaml", "domain: a\ndescriptors: []"), ("c.yaml", "domain: a\ndescriptors: [{")];
    let load = load(&sources(&now), &merging(), Some(&last));
    assert_eq!(names(&load.rules), [("a", 2)]);
    assert_eq!(load.rules.count().files, 2);
}

#[test]
fn equal_rules_have_equal_hashes_wherever_they_stand() {
    let hash = |files: &[(&str, &str)]| load(&sources(files), &Defaults::default(), None).rules.hash().to_owned();
    assert_eq!(hash(&[("a.yaml", A), ("b.yaml", B)]), hash(&[("1/z.yaml", B), ("2/y.yaml", A)]));
    assert_ne!(hash(&[("a.yaml", A)]), hash(&[("a.yaml", "domain: a\ndescriptors: [{key: z}]")]));
    assert_ne!(hash(&[("a.yaml", A)]), hash(&[("a.yaml", A), ("b.yaml", B)]));
}

#[test]
fn warnings_do_not_crowd_out_errors() {
    let mut text = "domain: d\ndescriptors:\n".to_owned();
    for number in 0..2_000 {
        text.push_str(&format!("- {{key: a{number}, unit: day}}\n"));
    }
    text.push_str("- {kee: b}\n");
    let load = load_one(&text);
    assert!(load.problems.has_errors());
    assert_eq!((load.problems.warnings().count(), load.problems.more()), (1_000, 1_000));
}
