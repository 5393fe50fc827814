use std::path::PathBuf;

use super::*;
use crate::rules::{self, Defaults, Source, Sources};

fn read(limits: &str) -> Rules {
    let yaml = format!("domain: api\ndescriptors:\n{limits}");
    let file = Source { path: PathBuf::from("rules.yaml"), bytes: yaml.into_bytes() };
    let load = rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    load.rules
}

fn changes(before: &str, after: &str) -> Vec<String> {
    limit_changes(&read(before), &read(after)).iter().map(ToString::to_string).collect()
}

#[test]
fn a_limit_that_is_added_removed_or_changed_is_told_in_words() {
    let before =
        "  - {key: user, rate_limit: 20/m}\n  - {key: gone, rate_limit: 5/h}\n  - {key: same, rate_limit: 1/s}\n";
    let after = "  - {key: user, rate_limit: 30/m}\n  - {key: new, rate_limit: {requests: 7, window: 90s}}\n  - {key: same, rate_limit: 1/s}\n";
    assert_eq!(
        changes(before, after),
        [
            "api/gone: removed, was 5 an hour, sliding_window",
            "api/new: added, 7 in 90 s, sliding_window",
            "api/user: 20 → 30 a minute, counts go on",
        ]
    );
}

#[test]
fn counts_begin_afresh_where_the_counter_is_another() {
    let of = |limit: &str| format!("  - {{key: user, rate_limit: {limit}}}\n");
    let told = |before: &str, after: &str| changes(&of(before), &of(after)).concat();
    let bucket = "{requests: 20, window: 1m, algorithm: token_bucket}";
    assert_eq!(told("20/m", bucket), "api/user: sliding_window → token_bucket, counts begin afresh");
    assert_eq!(told("20/m", "20/h"), "api/user: 20 a minute → 20 an hour, counts begin afresh");
    let shadow = "{requests: 20, window: 1m, enforce: false}";
    assert_eq!(told("20/m", shadow), "api/user: enforced → shadow, counts go on");
    assert_eq!(told("20/m", "20/m"), "");
}

#[test]
fn a_limit_with_another_name_goes_on_with_its_counts() {
    let of = |limit: &str| format!("  - {{key: user, rate_limit: {limit}}}\n");
    let listed = "[{name: minute, requests: 30, window: 1m}, {name: day, requests: 900, window: 1d}]";
    assert_eq!(
        changes(&of("20/m"), &of(listed)),
        [
            "api/user#day: added, 900 a day, sliding_window",
            "api/user#minute: was called api/user, 20 → 30 a minute, sliding_window, counts go on",
        ]
    );
}

#[test]
fn each_part_that_differs_is_told_by_itself() {
    let of = |limit: &str| format!("  - {{key: user, rate_limit: {{algorithm: token_bucket, {limit}}}}}\n");
    assert_eq!(
        changes(
            &of("requests: 20, window: 1m, burst: 30, on_store_failure: open"),
            &of("requests: 25, window: 1m, burst: 50, on_store_failure: closed"),
        ),
        ["api/user: 20 → 25 a minute, burst 30 → 50, on_store_failure open → closed, counts go on"]
    );
}

#[test]
fn what_becomes_unlimited_is_told_and_has_no_counts() {
    let of = |limit: &str| format!("  - {{key: user, rate_limit: {limit}}}\n");
    assert_eq!(changes(&of("20/m"), &of("unlimited")), ["api/user: 20 a minute, sliding_window → unlimited"]);
    assert_eq!(changes(&of("unlimited"), &of("unlimited")), Vec::<String>::new());
    assert_eq!(changes("  - {key: a, rate_limit: unlimited}\n", "  - {key: b}\n"), ["api/a: removed, was unlimited"]);
}

#[test]
fn counts_begin_afresh_where_values_begin_to_share_a_counter() {
    let of = |share: &str| format!("  - {{key: path, value: /a/*, share_threshold: {share}, rate_limit: 5/s}}\n");
    assert_eq!(
        changes(&of("false"), &of("true")),
        ["api/path=/a/*: a counter for each value → one counter for path=/a/*, counts begin afresh"]
    );
}
