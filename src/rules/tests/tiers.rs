//! Tiers: limits that are written once and referred to by name.

use super::*;

fn with_tiers(limit: &str) -> String {
    format!(
        "domain: d
tiers:
  free: {{requests_per_unit: 60, unit: minute}} # tollgate: allow unused-tier
  gold: {{requests_per_unit: 6000, unit: minute, unit_multiplier: 2, algorithm: token_bucket, burst: 500}} # tollgate: allow unused-tier
  short: 7/10s # tollgate: allow unused-tier
  inside: unlimited # tollgate: allow unused-tier
descriptors:
- key: a
  rate_limit: {limit}"
    )
}

#[track_caller]
fn limit(text: &str) -> Limit {
    let rules = good(&with_tiers(text));
    let limits: Vec<Limit> = rules.limits().map(|(_, _, limit)| limit.limit).collect();
    assert_eq!(limits.len(), 1);
    limits[0]
}

#[test]
fn a_limit_takes_what_its_tier_says_and_replaces_the_fields_that_it_names() {
    let table = [
        ("{tier: free}", 60, 60, Algorithm::SlidingWindow, 60),
        ("{tier: gold}", 6000, 120, Algorithm::TokenBucket, 500),
        ("{tier: gold, burst: 900}", 6000, 120, Algorithm::TokenBucket, 900),
        ("{tier: gold, requests_per_unit: 5}", 5, 120, Algorithm::TokenBucket, 500),
        ("{tier: gold, unit: hour}", 6000, 7200, Algorithm::TokenBucket, 500),
        ("{tier: gold, unit_multiplier: 1}", 6000, 60, Algorithm::TokenBucket, 500),
        ("{tier: gold, window: 1h}", 6000, 3600, Algorithm::TokenBucket, 500),
        ("{tier: free, algorithm: token_bucket}", 60, 60, Algorithm::TokenBucket, 60),
        ("{tier: short, requests: 3}", 3, 10, Algorithm::SlidingWindow, 3),
        ("{tier: short, unit: hour}", 7, 3600, Algorithm::SlidingWindow, 7),
        ("{tier: inside, requests: 3, window: 1s}", 3, 1, Algorithm::SlidingWindow, 3),
        ("[{tier: free}]", 60, 60, Algorithm::SlidingWindow, 60),
    ];
    for (text, requests, seconds, algorithm, burst) in table {
        let limit = limit(text);
        assert_eq!(
            (limit.requests, limit.window.0 / 1_000_000, limit.algorithm),
            (requests, seconds, algorithm),
            "{text}"
        );
        assert_eq!(limit.burst, burst, "{text}");
    }
}

#[test]
fn an_unlimited_tier_makes_an_unlimited_rule() {
    let rules = good(&with_tiers("{tier: inside}"));
    assert!(rules.domains()[0].rules()[0].unlimited);
}

#[test]
fn what_a_tier_leaves_open_the_domain_says() {
    let rules = good(
        "domain: d\ndefaults: {algorithm: fixed_window, on_store_failure: closed}\ntiers: {t: 5/s}\n\
         descriptors: [{key: a, rate_limit: {tier: t}}]",
    );
    let limit = rules.limits().next().expect("there is one").2;
    assert_eq!((limit.limit.algorithm, limit.on_store_failure), (Algorithm::FixedWindow, Some(FailurePolicy::Closed)));
}

#[test]
fn a_mistake_with_a_tier_is_told_at_its_place() {
    let table = [
        ("{tier: glod}", "9:22 there is no tier `glod`"),
        ("{tier: gold, algorithm: fixed_window}", "9:22 a fixed_window has no burst"),
        ("{tier: gold, requests: 5, unit: hour}", "9:28 `requests` and `unit` are of different forms"),
        ("{tier: short, unit_multiplier: 5}", "9:15 a limit must have a `unit`"),
        ("{tier: free, unlimited: true}", "9:16 `tier` has no meaning where `unlimited` is true"),
        (
            "{tier: free, algorithm: sliding_log, requests_per_unit: 10001}",
            "9:71 a sliding_log remembers every hit: at most 10000 requests",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(said(&with_tiers(text)), [format!("error {expected}")], "{text}");
    }
}

#[test]
fn a_mistake_in_a_tier_is_told_once_where_it_stands() {
    let text = "domain: d
tiers:
  a: {requests: 5, window: 1s, burst: 2}
  b: {requests: 5}
  c: [5/s]
  d: {tier: a}
  e: {requests: 5, window: 1s, count_denied: true}
descriptors:
- {key: a, rate_limit: [{tier: a}, {tier: b}, {tier: c}, {tier: e}]}
- {key: b, rate_limit: {tier: e}}";
    assert_eq!(
        said(text),
        [
            "error 3:39 a sliding_window has no burst",
            "error 4:7 `requests` without `window`",
            "error 5:6 a limit must be a map or text such as `5/s`, not a list",
            "error 6:7 `tier` doesn't belong in a tier",
            "warning 7:46 in a sliding_window, a client that retries steadily is never admitted again",
        ]
    );
}

#[test]
fn merged_files_share_their_tiers_and_must_not_differ() {
    let merging = Defaults { merge_domains: true, ..Defaults::default() };
    let files = [
        (
            "a.yaml",
            "domain: d\ndescriptors: [{key: x, rate_limit: {tier: t}}]\ntiers: {same: 5/s} # tollgate: allow unused-tier",
        ),
        ("b.yaml", "domain: d\ntiers: {t: 5/s, same: {requests: 5, window: 1s}}"),
    ];
    let load_all = |files: &[(&str, &str)]| load(&sources(files), &merging, None);
    assert!(load_all(&files).problems.is_empty());
    let third = ("c.yaml", "domain: d\ntiers:\n  t: 6/s\n  u: 1/s\n  u: 1/s");
    let located: Vec<String> =
        load_all(&[files[0], files[1], third]).problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        located,
        [
            "c.yaml:3:3: tier `t` holds for the whole domain, and differs from b.yaml:2",
            "c.yaml:5:3: tier `u` is here a second time: first in line 4",
        ]
    );
}
