use std::path::PathBuf;

use super::*;
use crate::rules::{self, Defaults, RuleMatch, Rules, Source, Sources};

fn loaded(descriptors: &str) -> Rules {
    let yaml = format!("domain: d:1\ndescriptors:\n{descriptors}");
    let file = Source { path: PathBuf::from("rules.yaml"), bytes: yaml.into_bytes() };
    let load = rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    load.rules
}

/// The key of a descriptor written `k=v,k=v`, with dots between its parts.
fn key(rules: &Rules, descriptor: &str) -> String {
    let pairs = descriptor.split(',').map(|pair| pair.split_once('=').expect("k=v"));
    let entries: Vec<Entry<'_>> = pairs.map(|(key, value)| Entry { key, value }).collect();
    let RuleMatch::Rule { rule, .. } = rules.find("d:1", &entries) else { panic!("{descriptor} has no rule") };
    let key = if is_detailed(rule) { key_of_ruled("d:1", rule, &entries) } else { SeriesKey::of_rule("d:1", rule) };
    key.parts().collect::<Vec<_>>().join(".")
}

const LIMIT: &str = "rate_limit: {unit: day, requests_per_unit: 2}";

#[test]
fn a_rule_without_flags_is_named_by_its_own_words() {
    let rules =
        loaded(&format!("  - {{key: 'a|b', value: 10.0.0.1, descriptors: [{{key: p, value: 'x*', {LIMIT}}}]}}"));
    assert_eq!(key(&rules, "a|b=10.0.0.1,p=xy"), "d_1.a_b_10_0_0_1.p_x*");
}

#[test]
fn detailed_metric_shows_every_value_and_an_empty_one_as_an_underscore() {
    let rules = loaded(&format!("  - {{key: u, detailed_metric: true, {LIMIT}}}"));
    assert_eq!(key(&rules, "u=alice:b"), "d_1.u_alice_b");
    assert_eq!(key(&rules, "u="), "d_1.u_");
}

#[test]
fn value_to_metric_shows_the_value_of_its_own_level_only() {
    let rules = loaded(&format!(
        "  - {{key: u, value_to_metric: true, descriptors: [{{key: p, value: 'x*', descriptors: [{{key: q, {LIMIT}}}]}}]}}"
    ));
    assert_eq!(key(&rules, "u=1,p=xy,q=z"), "d_1.u_1.p_x*.q");
    assert_eq!(key(&rules, "u=,p=x*,q=z"), "d_1.u.p_x*.q");
}

#[test]
fn a_shared_threshold_is_named_by_its_pattern_whatever_the_flags_say() {
    let shared = "value: 'x*', share_threshold: true, value_to_metric: true";
    let rules = loaded(&format!(
        "  - {{key: a, {shared}, {LIMIT}}}\n  - {{key: b, {shared}, descriptors: [{{key: u, detailed_metric: true, {LIMIT}}}]}}"
    ));
    assert_eq!(key(&rules, "a=xy"), "d_1.a_x*");
    assert_eq!(key(&rules, "b=xy,u=1"), "d_1.b_x*.u_1");
    assert_eq!(key(&rules, "b=xy,u="), "d_1.b_x*.u");
    // The pattern's own text is met as a value: nothing is shared, and detailed_metric has its way.
    assert_eq!(key(&rules, "b=x*,u="), "d_1.b_x*.u_");
}

/// Of deeper trees, as config_impl.go's two paths make them: only the leaf's detailed_metric counts, each level's
/// value_to_metric, and a shared threshold at any level before either.
#[test]
fn flags_of_several_levels_each_do_their_own_part() {
    let tree = |top: &str, middle: &str, leaf: &str| {
        loaded(&format!(
            "  - {{key: a, {top}, descriptors: [{{key: b, {middle}, descriptors: [{{key: c, {leaf}, {LIMIT}}}]}}]}}"
        ))
    };
    let (wild, shared) = ("value: 'x*'", "value: 'x*', share_threshold: true");
    let (detailed, to_metric) = ("detailed_metric: true", "value_to_metric: true");
    let with = |one: &str, other: &str| format!("{one}, {other}");
    for (top, middle, leaf, expected) in [
        (detailed, wild, to_metric, "d_1.a.b_x*.c_3"),
        (to_metric, wild, "value: '3'", "d_1.a_x1.b_x*.c_3"),
        (&with(wild, to_metric), &with(wild, detailed), "value: '3*'", "d_1.a_x1.b_x*.c_3*"),
        (to_metric, shared, detailed, "d_1.a_x1.b_x*.c_3"),
        (shared, &with(wild, to_metric), to_metric, "d_1.a_x*.b_x2.c_3"),
        (shared, &with(shared, to_metric), to_metric, "d_1.a_x*.b_x*.c_3"),
        ("value: x1", &with(wild, to_metric), detailed, "d_1.a_x1.b_x2.c_3"),
    ] {
        assert_eq!(key(&tree(top, middle, leaf), "a=x1,b=x2,c=3"), expected, "{top} / {middle} / {leaf}");
    }
}

#[test]
fn addresses_lose_their_dots_and_other_words_keep_them() {
    let cases = [
        ("10.0.0.1", "10_0_0_1"),
        ("v1.2.3.4567", "v1_2_3_4567"),
        ("1.2.3", "1.2.3"),
        ("1.2.3.4.5.6.7.8", "1_2_3_4.5_6_7_8"),
        ("1234.1.1.1", "1234_1_1_1"),
        ("a.b.c.d", "a.b.c.d"),
        ("é.1.2.3.4", "é.1_2_3_4"),
    ];
    for (text, expected) in cases {
        assert_eq!(sanitised(text), expected);
    }
}

#[test]
fn values_beyond_the_bound_are_counted_as_other() {
    let named = DetailedSeries::new(70);
    let hit = HitCounts { within: 1, ..HitCounts::default() };
    for number in 0..1_000 {
        let value = number.to_string();
        named.add("d", key_of_requested("d", &[Entry { key: "u", value: &value }]), hit);
    }
    named.add("d", key_of_requested("d", &[Entry { key: "u", value: &"x".repeat(2_000) }]), hit);
    let (mut keys, mut other) = (0, 0);
    named.each(|key, [_, _, _, _, within, ..]| if *key == SeriesKey::other("d") { other = within } else { keys += 1 });
    assert_eq!((keys, other), (10, 991));
    assert_eq!(named.others(), other);
}

#[test]
fn a_cost_without_hits_makes_no_series() {
    let named = DetailedSeries::new(60);
    named.add("d", key_of_requested("d", &[Entry { key: "u", value: "1" }]), HitCounts::default());
    named.each(|key, _| panic!("{key:?}"));
}
