use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use super::{siblings::PatternIndex, *};
use crate::rules::{Defaults, Pattern, Problem, Source, Sources, load};

mod pointless_limits;

/// For every property of this room.
fn config() -> Config {
    let config = Config::default();
    match config.rng_seed {
        RngSeed::Random => Config { rng_seed: RngSeed::Fixed(0x1147_2024), failure_persistence: None, ..config },
        RngSeed::Fixed(_) => config,
    }
}

fn problems(text: &str) -> crate::rules::Problems {
    let files = vec![Source { path: "a.yaml".into(), bytes: text.as_bytes().to_vec() }];
    load(&Sources { files, ..Sources::default() }, &Defaults::default(), None).problems
}

/// What is warned of, a line for each: `line:column name`.
fn warned(text: &str) -> Vec<String> {
    let problems = problems(text);
    assert!(!problems.has_errors(), "{}", problems.render());
    let line = |it: &Problem| format!("{}:{} {}", it.line, it.column, it.name.expect("a warning").name());
    problems.iter().map(line).collect()
}

/// Rules of one domain, a descriptor in each line from line 3.
fn with(descriptors: &str) -> Vec<String> {
    warned(&format!("domain: d\ndescriptors:\n{descriptors}"))
}

#[test]
fn a_pattern_that_an_earlier_one_covers_is_warned_of() {
    let covered =
        "- {key: p, value: /reports/*, rate_limit: 9/s}\n- {key: p, value: /reports/daily/*, rate_limit: 5/s}\n";
    assert_eq!(with(covered), ["4:19 covered-pattern"]);
    let narrow_first =
        "- {key: p, value: /reports/daily/*, rate_limit: 9/s}\n- {key: p, value: /reports/*, rate_limit: 5/s}\n";
    assert_eq!(with(narrow_first), [""; 0]);
    let other_key =
        "- {key: p, value: /reports/*, rate_limit: 9/s}\n- {key: q, value: /reports/daily/*, rate_limit: 5/s}\n";
    assert_eq!(with(other_key), [""; 0]);
    let stars = "- {key: p, value: a*b*c, rate_limit: 9/s}\n- {key: p, value: ab*bc, rate_limit: 9/s}\n- {key: p, value: a*c, rate_limit: 9/s}\n";
    assert_eq!(with(stars), ["4:19 covered-pattern"]);
    let below = "- key: a\n  descriptors:\n  - {key: p, value: x*, rate_limit: 9/s}\n  - {key: p, value: x*y, rate_limit: 9/s}\n";
    assert_eq!(with(below), ["6:21 covered-pattern"]);
}

#[test]
fn a_star_alone_covers_the_rule_for_any_value() {
    let any =
        "- {key: p, rate_limit: 9/s}\n- {key: p, value: '*', rate_limit: 5/s}\n- {key: p, value: x, rate_limit: 5/s}\n";
    assert_eq!(with(any), ["3:9 covered-pattern"]);
}

#[test]
fn a_value_whose_rule_hides_limits_of_the_rule_for_any_is_warned_of() {
    let rules = |alice: &str| {
        with(&format!(
            "- key: user\n  rate_limit: 9/s\n  descriptors:\n  - {{key: endpoint, value: /a, rate_limit: 5/s}}\n  \
             - {{key: endpoint, value: /b*, rate_limit: 5/s}}\n- {{key: user, value: alice{alice}}}\n"
        ))
    };
    assert_eq!(rules(", rate_limit: 9/s"), ["8:22 hidden-rules"]);
    assert_eq!(rules(""), [""; 0], "a rule without a limit is there to let its value pass");
    assert_eq!(rules(", rate_limit: unlimited"), [""; 0], "and so is an unlimited one");
    let below = |descriptors: &str| rules(&format!(", rate_limit: 9/s, descriptors: [{descriptors}]"));
    assert_eq!(below("{key: endpoint, rate_limit: 5/s}"), [""; 0]);
    assert_eq!(below("{key: endpoint, value: /a, rate_limit: 5/s}"), ["8:22 hidden-rules"]);
    assert_eq!(below("{key: endpoint, value: /a}, {key: endpoint, value: '/*'}"), [""; 0]);
    assert_eq!(below("{key: other, rate_limit: 5/s}"), ["8:22 hidden-rules"]);
}

#[test]
fn patterns_hide_rules_and_are_hidden_as_values_are() {
    let by_pattern =
        "- {key: p, value: /a*, descriptors: [{key: q, rate_limit: 5/s}]}\n- {key: p, value: /ab, rate_limit: 5/s}\n";
    assert_eq!(with(by_pattern), ["4:19 hidden-rules"]);
    let pattern = "- {key: p, descriptors: [{key: q, rate_limit: 5/s}]}\n- {key: p, value: /a*, rate_limit: 5/s}\n";
    assert_eq!(with(pattern), ["4:19 hidden-rules"]);
    let later =
        "- {key: p, value: /a/*, rate_limit: 5/s}\n- {key: p, value: '/*', descriptors: [{key: q, rate_limit: 5/s}]}\n";
    assert_eq!(with(later), ["3:19 hidden-rules"]);
    let no_limit = "- {key: p, descriptors: [{key: q}]}\n- {key: p, value: /a*, rate_limit: 5/s}\n";
    assert_eq!(with(no_limit), [""; 0]);
}

#[test]
fn replaces_of_a_name_that_nothing_has_is_warned_of() {
    let rules = |name: &str| {
        with(&format!(
            "- {{key: a, rate_limit: {{requests: 5, window: 1s, name: slow}}}}\n\
             - {{key: b, rate_limit: [{{requests: 5, window: 1s, name: one}}, {{requests: 9, window: 1m, name: two}}]}}\n\
             - {{key: c, rate_limit: 1/s, overrides: [{{match: {{c: x}}, limit: {{requests: 5, window: 1s, name: theirs}}}}]}}\n\
             - {{key: e, rate_limit: {{requests: 5, window: 1s, replaces: [{{name: {name}}}]}}}}\n"
        ))
    };
    for known in ["slow", "one", "two", "theirs"] {
        assert_eq!(rules(known), [""; 0], "{known}");
    }
    assert_eq!(rules("three"), ["6:68 unknown-replaces"]);
}

#[test]
fn a_tier_that_nobody_uses_is_warned_of() {
    let text = "domain: d\ntiers:\n  gold: {requests_per_unit: 9, unit: second}\n  silver: {requests_per_unit: 5, unit: second}\n  \
                bronze: {requests_per_unit: 1, unit: second}\ndescriptors:\n- {key: a, rate_limit: {tier: silver}}\n";
    assert_eq!(warned(text), ["3:3 unused-tier", "5:3 unused-tier"]);
    let overrides = "overrides:\n- {match: {a: x}, limit: {tier: gold}}\n- {match: {a: y}, limit: {tier: bronze, enforce: false}}\n";
    assert_eq!(warned(&format!("{text}{overrides}")), [""; 0]);
    let allowed = text.replace("gold:", "gold: # tollgate: allow unused-tier\n    ").replace(
        "bronze: {requests_per_unit: 1, unit: second}",
        "bronze: {requests_per_unit: 1, unit: second} # tollgate: allow unused-tier",
    );
    assert_eq!(warned(&allowed), [""; 0]);
}

#[test]
fn hundred_thousand_patterns_take_no_long_time_and_what_is_left_out_is_told() {
    let descriptors = |count: u32, value: &dyn Fn(u32) -> String| {
        let one = |number| format!("- {{key: p, value: '{}', rate_limit: 9/s}}\n", value(number));
        (0..count).map(one).collect::<String>()
    };
    // Beginnings and ends tell them apart.
    let paths = descriptors(100_000, &|number| format!("/api/{}/{number}/*/items", number % 7));
    let last = "- {key: p, value: '/api/3/3/*/items/x/items', rate_limit: 9/s}\n";
    assert_eq!(with(&format!("{paths}{last}")), ["100003:19 covered-pattern"]);
    // Only what stands between stars tells these apart.
    let words = descriptors(4_000, &|number| format!("*x{number:06}x*"));
    let said = with(&words);
    assert!(said.iter().any(|line| line.ends_with(" unchecked-rules")), "{said:?}");
}

/// A pattern over two letters.
fn any_pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "ab"]), 1..6).prop_map(|parts| {
        let text = parts.concat();
        if text.contains('*') { text } else { text + "*" }
    })
}

/// Texts that a pattern matches: each star stands for nothing, for its own letters, and for one that no pattern has.
fn instances(pattern: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for letter in pattern.chars() {
        let choices: &[&str] = if letter == '*' { &["", "c", "a", "bc"] } else { &[] };
        let letter = letter.to_string();
        let choices = if choices.is_empty() { vec![letter.as_str()] } else { choices.to_vec() };
        all = all.iter().flat_map(|text| choices.iter().map(move |choice| format!("{text}{choice}"))).collect();
    }
    all
}

#[test]
fn the_index_finds_the_first_pattern_that_covers_all_values_of_another() {
    let patterns = prop::collection::vec(any_pattern(), 1..8);
    proptest!(config(), |(patterns in patterns, value in any_pattern())| {
        let patterns: Vec<(Pattern, u32)> = patterns.iter().map(|text| (Pattern::new(text), 0)).collect();
        let index = PatternIndex::new(&patterns);
        let mut budget = LintBudget::default();
        let values = instances(&value);
        let covers = |pattern: &Pattern| pattern.text() != value && values.iter().all(|text| pattern.matches(text));
        let expected = patterns.iter().position(|(pattern, _)| covers(pattern));
        prop_assert_eq!(index.first(&value, &mut budget).expect("in time"), expected);
        for text in values.iter().step_by(5) {
            let expected = patterns.iter().position(|(pattern, _)| pattern.matches(text));
            prop_assert_eq!(index.first(text, &mut budget).expect("in time"), expected, "{}", text);
        }
    });
}
