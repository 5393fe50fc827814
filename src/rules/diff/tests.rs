//! Each kind of difference in its words, and that nothing is said where nothing differs.

use std::path::PathBuf;

use super::*;
use crate::{
    limit::moment,
    rules::{self, Defaults, Source, Sources},
};

fn read(yaml: &str) -> Rules {
    let file = Source { path: PathBuf::from("rules.yaml"), bytes: yaml.as_bytes().to_vec() };
    let load = rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    load.rules
}

/// Of the domain `api`.
fn of(rest: &str) -> Rules {
    read(&format!("domain: api\n{rest}"))
}

fn now() -> UnixMicros {
    moment::parse("2026-06-01").expect("a moment")
}

fn told<T: ToString>(changes: &[T]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

const USER: &str = "descriptors:\n- key: user\n  rate_limit: 20/m\n";

#[test]
fn the_same_rules_differ_in_nothing() {
    let yaml = "defaults: {algorithm: token_bucket}\ntiers: {gold: 50/m}\ndescriptors:\n\
        - key: user\n  rate_limit: {tier: gold}\n  descriptors: [{key: path, value: /a*}, {key: path, rate_limit: 1/s}]\n\
        overrides:\n- {match: {user: alice}, limit: 5/s, expires: 2026-01-01}\n- {match: {user: bob}, limit: unlimited}\n";
    let (old, new) = (of(yaml), of(yaml));
    let diff = RulesDiff::new(&old, &new, now(), 10);
    assert!(diff.is_empty());
    assert_eq!(diff.overrides.in_force, (1, 1));
    assert_eq!(diff.overrides.ended, 1);
}

#[test]
fn a_rule_that_moved_is_told_once_with_what_is_below_it() {
    let below = "rate_limit: 20/m, descriptors: [{key: path, descriptors: [{key: method, rate_limit: 3/s}]}]";
    let old = of(&format!("descriptors:\n- {{key: user, {below}}}\n- {{key: plan, rate_limit: 9/s}}\n"));
    let new = of(&format!(
        "descriptors:\n- {{key: tenant, descriptors: [{{key: user, {below}}}]}}\n- {{key: plan, rate_limit: 9/s}}\n"
    ));
    let diff = RulesDiff::new(&old, &new, now(), 10);
    assert_eq!(
        told(&diff.moved),
        ["api/user → api/tenant/user, 20 a minute, sliding_window, with a rule below it, counts begin afresh"]
    );
    assert!(diff.limits.is_empty(), "{:?}", diff.limits);
}

#[test]
fn of_two_rules_that_say_the_same_the_one_with_the_same_last_level_is_taken() {
    let old = of("descriptors:\n- {key: a, rate_limit: 5/s}\n- {key: b, rate_limit: 5/s}\n");
    let new = of("descriptors:\n- {key: c, descriptors: [{key: b, rate_limit: 5/s}]}\n- {key: d, rate_limit: 5/s}\n");
    let moved = RulesDiff::new(&old, &new, now(), 10).moved;
    let places: Vec<(&str, &str)> = moved.iter().map(|moved| (&*moved.before, &*moved.after)).collect();
    assert_eq!(places, [("api/a", "api/d"), ("api/b", "api/c/b")]);
}

#[test]
fn a_tier_is_told_with_the_limits_and_overrides_that_name_it() {
    let yaml = |gold: &str| {
        format!(
            "tiers: {{gold: {gold}, silver: 5/m}}\ndescriptors:\n- key: user\n  rate_limit: {{tier: gold}}\n\
             - {{key: plan, rate_limit: {{tier: silver}}}}\noverrides:\n\
             - {{match: {{user: alice}}, limit: {{tier: gold}}}}\n- {{match: {{user: bob}}, limit: {{tier: gold}}}}\n\
             - {{match: {{user: eve}}, limit: {{tier: gold}}, expires: 2026-01-01}}\n"
        )
    };
    let (old, new) = (of(&yaml("50/m")), of(&yaml("60/m")));
    let diff = RulesDiff::new(&old, &new, now(), 10);
    assert_eq!(told(&diff.tiers), ["gold: 50 → 60 a minute"]);
    assert_eq!(told(&diff.tiers[0].limits), ["api/user"]);
    assert_eq!(diff.tiers[0].overrides, 2);
    assert_eq!(told(&diff.limits), ["api/user: 50 → 60 a minute, counts go on"]);
    let words: Vec<&str> = diff.overrides.rows.iter().map(|row| row.words.as_str()).collect();
    assert_eq!(words, ["50 → 60 a minute, counts go on"; 2]);
    assert_eq!(diff.overrides.groups.len(), 1);
}

#[test]
fn overrides_are_told_by_kind() {
    let rows = |rows: &str| of(&format!("{USER}overrides:\n{rows}"));
    let old = rows(
        "- {match: {user: gone}, limit: 5/m}\n- {match: {user: ended}, limit: 5/m}\n\
         - {match: {user: more}, limit: 5/m, reason: trial}\n- {match: {user: same}, limit: 5/m}\n\
         - {match: {user: bucket}, limit: 5/m}\n- {match: {user: whole}, limit: 5/m}\n",
    );
    let new = rows(
        "- {match: {user: ended}, limit: 5/m, expires: 2026-05-01}\n\
         - {match: {user: more}, limit: 6/m, reason: contract, expires: 2026-07-01}\n- {match: {user: same}, limit: 5/m}\n\
         - {match: {user: bucket}, limit: {requests: 5, window: 1m, algorithm: token_bucket}}\n\
         - {match: {user: whole}, limit: unlimited}\n- {match: {user: new}, limit: 7/m}\n",
    );
    let overrides = RulesDiff::new(&old, &new, now(), 10).overrides;
    let told: Vec<String> =
        overrides.rows.iter().map(|row| format!("{} {}: {}", row.matched(), row.kind.name(), row.words)).collect();
    assert_eq!(
        told,
        [
            "user=gone removed: was 5 a minute, sliding_window",
            "user=ended expired: was 5 a minute, sliding_window, ended 2026-05-01T00:00:00Z",
            "user=more changed: 5 → 6 a minute, counts go on; ends never → 2026-07-01T00:00:00Z; reason `trial` → `contract`",
            "user=bucket changed: sliding_window → token_bucket, counts begin afresh",
            "user=whole changed: 5 a minute, sliding_window → unlimited",
            "user=new added: 7 a minute, sliding_window",
        ]
    );
    assert_eq!(overrides.in_force, (6, 5));
    assert_eq!(overrides.ended, 1);
}

/// A row of a file and an inline one for the same match: the inline one counts until it ends.
#[test]
fn of_several_rows_with_one_match_the_one_in_force_is_compared() {
    let with = |inline: &str| {
        let path = |name: &str| PathBuf::from(name);
        let yaml = format!("domain: api\n{USER}  overrides_from: [u.csv]\n  overrides:\n{inline}");
        let sources = Sources {
            files: vec![Source { path: path("rules.yaml"), bytes: yaml.into_bytes() }],
            overrides: vec![Source { path: path("u.csv"), bytes: b"match.user,limit\nalice,5/m\nbob,5/m\n".to_vec() }],
            ..Sources::default()
        };
        let load = rules::load(&sources, &Defaults::default(), None);
        assert!(!load.problems.has_errors(), "{:?}", load.problems);
        load.rules
    };
    let old = with("  - {match: {user: alice}, limit: 9/m, expires: 2026-07-01}\n");
    let new = with("  - {match: {user: alice}, limit: 9/m, expires: 2026-05-01}\n");
    let overrides = RulesDiff::new(&old, &new, now(), 10).overrides;
    let words: Vec<&str> = overrides.rows.iter().map(|row| row.words.as_str()).collect();
    assert_eq!(words, ["9 → 5 a minute, counts go on; ends 2026-07-01T00:00:00Z → never"]);
    assert_eq!(overrides.in_force, (2, 2));
}

#[test]
fn rows_beyond_those_that_are_named_are_counted() {
    let rows = |limit: &str| {
        let rows: String = (0..100).map(|user| format!("- {{match: {{user: u{user}}}, limit: {limit}}}\n")).collect();
        of(&format!("{USER}overrides:\n{rows}"))
    };
    let (old, new) = (rows("5/m"), rows("6/m"));
    let overrides = RulesDiff::new(&old, &new, now(), 3).overrides;
    assert_eq!(overrides.rows.len(), 3);
    assert_eq!(overrides.differing(), 100);
    assert_eq!(&*overrides.groups[0].words, "5 → 6 a minute, counts go on");
}

#[test]
fn defaults_and_what_rules_say_besides_are_told() {
    let old = of("defaults: {algorithm: fixed_window}\ndescriptors:\n- {key: user, rate_limit: 5/s}\n- {key: gone}\n");
    let new = of(
        "shortcuts: {user: [account]}\ndescriptors:\n- {key: user, switchable: false, rate_limit: {requests: 5, window: 1s, \
         algorithm: fixed_window}}\n- {key: here}\n",
    );
    let diff = RulesDiff::new(&old, &new, now(), 10);
    let told = |changes: &[SettingChange]| -> Vec<String> {
        let words = |words: &Option<Box<str>>| words.as_deref().unwrap_or("absent").to_owned();
        changes.iter().map(|of| format!("{}: {} → {}", of.what, words(&of.before), words(&of.after))).collect()
    };
    assert_eq!(
        told(&diff.defaults),
        ["default algorithm: fixed_window → sliding_window", "shortcut user: [user] → [account]"]
    );
    assert_eq!(
        told(&diff.rules),
        ["api/gone: no limit → absent", "api/here: absent → no limit", "api/user: switchable true → switchable false"]
    );
    assert!(diff.limits.is_empty(), "{:?}", diff.limits);
}

fn other_rules(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (of(&format!("descriptors:\n{old}")), of(&format!("descriptors:\n{new}")));
    let found = RulesDiff::new(&old, &new, now(), 10).other_rules.found;
    for found in &found {
        for example in &found.examples {
            let entries: Vec<_> = example.iter().map(|(key, value)| crate::limit::Entry { key, value }).collect();
            let met = |rules: &Rules| match rules.find("api", &entries) {
                rules::RuleMatch::Rule { rule, .. } => Some(rule.id.clone()),
                _ => None,
            };
            assert_eq!((met(&old), met(&new)), (found.before.clone(), found.after.clone()), "{example:?}");
        }
    }
    told(&found)
}

#[test]
fn an_exact_rule_that_hides_what_the_key_only_one_has_below_it_is_found() {
    let user = "- key: user\n  rate_limit: 20/m\n  descriptors: [{key: endpoint, rate_limit: 5/m}]\n";
    let with_alice = format!("{user}- {{key: user, value: alice, rate_limit: 90/m}}\n");
    assert_eq!(
        other_rules(user, &with_alice),
        [
            "(user=alice)(endpoint=x) met api/user/endpoint, now nothing",
            "(user=alice) met api/user, now api/user=alice",
        ]
    );
    let with_bob = format!("{with_alice}- {{key: user, value: bob}}\n");
    assert_eq!(
        other_rules(user, &with_bob),
        [
            "(user=alice)(endpoint=x) met api/user/endpoint, now nothing, and one more descriptor does",
            "(user=bob) met api/user, now api/user=bob without a limit",
            "(user=alice) met api/user, now api/user=alice",
        ]
    );
}

#[test]
fn patterns_that_change_places_are_found_by_a_value_that_both_match() {
    let (one, other) =
        ("- {key: path, value: /a/*, rate_limit: 5/m}\n", "- {key: path, value: '*/b', rate_limit: 9/m}\n");
    assert_eq!(
        other_rules(&format!("{one}{other}"), &format!("{other}{one}")),
        ["(path=/a/x/b) met api/path=/a/*, now api/path=*%2Fb"]
    );
    let narrow = "- {key: path, value: /a/daily/*, rate_limit: 1/m}\n";
    assert_eq!(
        other_rules(one, &format!("{narrow}{one}")),
        ["(path=/a/daily/x) met api/path=/a/*, now api/path=/a/daily/*, and one more descriptor does"]
    );
    // Behind the one that covers it, it is met by nothing.
    assert!(other_rules(one, &format!("{one}{narrow}")).is_empty());
}

#[test]
fn values_that_no_rule_names_are_tried_too() {
    let (exact, any) = ("- {key: path, value: /x, rate_limit: 5/m}\n", "- {key: path, rate_limit: 9/m}\n");
    assert_eq!(other_rules(&format!("{exact}{any}"), exact), ["(path=/xx) met api/path, now nothing"]);
    let (all, many) = ("- {key: path, value: '*', rate_limit: 5/m}\n", "- {key: path, value: '**', rate_limit: 7/m}\n");
    assert_eq!(other_rules(all, many), ["(path=x) met api/path=*, now api/path=**, and one more descriptor does"]);
}
