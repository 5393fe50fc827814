use std::path::PathBuf;

use super::*;
use crate::rules::{self, Defaults, RuleMatch, Source, Sources};

const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

fn later(minutes: u64) -> UnixMicros {
    UnixMicros(NOW.0 + minutes * MINUTE)
}

#[test]
fn what_envoy_showed_holds_for_an_hour_after_it_showed_it_last() {
    let learned = Learned::default();
    assert_eq!(learned.since(NOW), None);
    learned.note(NOW);
    assert_eq!(learned.since(NOW), Some(NOW));
    assert_eq!(learned.since(later(60)), Some(NOW));
    assert_eq!(learned.since(later(61)), None);
    learned.note(later(60));
    assert_eq!(learned.since(later(120)), Some(NOW), "it has been one all the time");
    learned.note(later(200));
    assert_eq!(learned.since(later(200)), Some(later(200)), "it was forgotten in between");
}

#[test]
fn a_look_is_written_down_once_a_minute() {
    let learned = Learned::default();
    for second in 0..60 {
        learned.note(UnixMicros(NOW.0 + second * 1_000_000));
    }
    assert_eq!(learned.shown.load(Relaxed), NOW.0);
    learned.note(later(1));
    assert_eq!(learned.shown.load(Relaxed), later(1).0);
}

#[test]
fn a_clock_that_was_set_back_by_days_makes_no_budget_of_a_limit_for_days() {
    let learned = Learned::default();
    learned.note(later(2_000));
    assert_eq!(learned.since(NOW), None);
    learned.note(NOW);
    assert_eq!(learned.since(NOW), Some(NOW));
    assert_eq!(learned.since(later(61)), None);
}

fn loaded(yaml: &str) -> Rules {
    let file = Source { path: PathBuf::from("rules.yaml"), bytes: yaml.as_bytes().to_vec() };
    let load = rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    load.rules
}

/// What is known of a limit of the rule for `key`.
fn of<'b>(budgets: &'b Budgets, rules: &Rules, key: &str, place: Option<usize>) -> &'b Learned {
    match rules.find("api", &[Entry { key, value: "x" }]) {
        RuleMatch::Rule { domain, rule } => budgets.of(domain, rule, place),
        _ => panic!("there is a rule for {key}"),
    }
}

#[test]
fn a_reload_keeps_what_was_learned_of_each_limit_that_stays() {
    let user =
        "  - {key: user, rate_limit: [{name: a, requests: 1, window: 1m}, {name: b, requests: 2, window: 1m}]}\n";
    let host = "  - {key: host, rate_limit: 1/m}\n";
    let before = loaded(&format!("domain: api\ndescriptors:\n{user}{host}"));
    let budgets = Budgets::new(&before, None);
    of(&budgets, &before, "user", Some(1)).note(NOW);
    of(&budgets, &before, "host", None).note(NOW);
    let kind = RequestedKind::of("api", &[Entry { key: "user", value: "x" }], Unit::Hour);
    budgets.requested().note(kind, NOW);

    let after = loaded(&format!("domain: api\ndescriptors:\n  - {{key: new, rate_limit: 1/m}}\n{host}{user}"));
    let budgets = Budgets::new(&after, Some((&before, &budgets)));
    let known = |key, place| of(&budgets, &after, key, place).since(later(1));
    assert_eq!(known("user", Some(1)), Some(NOW));
    assert_eq!(known("host", None), Some(NOW), "limits of overrides");
    assert_eq!([known("user", Some(0)), known("user", None), known("host", Some(0)), known("new", Some(0))], [None; 4]);
    assert_eq!(budgets.requested().since(kind, later(1)), Some(NOW));
}

#[test]
fn limits_that_come_with_requests_are_told_apart_by_what_envoys_configuration_says_and_by_no_clients_values() {
    let kind = |domain, entries: &[(&str, &str)], unit| {
        let entries: Vec<_> = entries.iter().map(|(key, value)| Entry { key, value }).collect();
        RequestedKind::of(domain, &entries, unit)
    };
    let alice = kind("api", &[("generic_key", "tokens"), ("user", "alice")], Unit::Hour);
    assert_eq!(alice, kind("api", &[("generic_key", "tokens"), ("user", "bob")], Unit::Hour));
    for other in [
        kind("api", &[("generic_key", "requests"), ("user", "alice")], Unit::Hour),
        kind("api", &[("generic_key", "tokens"), ("team", "alice")], Unit::Hour),
        kind("api", &[("generic_key", "tokens"), ("user", "alice")], Unit::Day),
        kind("api", &[("generic_key", "tokens")], Unit::Hour),
        kind("web", &[("generic_key", "tokens"), ("user", "alice")], Unit::Hour),
    ] {
        assert_ne!(alice, other);
    }
}

#[test]
fn kinds_beyond_the_room_push_out_those_that_were_shown_longest_ago() {
    let requested = RequestedBudgets::default();
    let kind = |number: u64| RequestedKind(FixedState::default().hash_one(number));
    let at = |number: u64| UnixMicros(NOW.0 + number * 1_000_000);
    assert!((0..1_000).all(|number| requested.since(kind(number), NOW).is_none()));
    (0..100_000).for_each(|number| requested.note(kind(number), at(number)));
    assert_eq!(requested.since(kind(99_999), at(99_999)), Some(at(99_999)));
    // Of each place's ways the newest stay: the last thousand kinds fill a quarter of the room.
    let kept = (99_000..100_000).filter(|number| requested.since(kind(*number), at(99_999)).is_some()).count();
    assert!(kept > 950, "{kept}");
    assert!(requested.since(kind(0), at(99_999)).is_none());
}

#[test]
fn what_was_shown_of_a_kind_holds_for_an_hour_too() {
    let requested = RequestedBudgets::default();
    let kind = RequestedKind::of("api", &[Entry { key: "user", value: "x" }], Unit::Day);
    requested.note(kind, NOW);
    requested.note(kind, later(30));
    assert_eq!(requested.since(kind, later(90)), Some(NOW));
    assert_eq!(requested.since(kind, later(91)), None);
    requested.note(kind, later(91));
    assert_eq!(requested.since(kind, later(91)), Some(later(91)));
    assert!(!requested.is_budget(kind, later(200)));
}
