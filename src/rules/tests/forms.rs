//! The forms that a limit can be written in, and what is refused.

use crate::limit::{SECOND, WINDOW_MAX};

use super::*;

fn seconds(count: u64) -> u64 {
    count * SECOND.0
}

#[test]
fn every_form_says_how_many_in_how_long() {
    let table = [
        ("{unit: second, requests_per_unit: 5}", 5, seconds(1)),
        ("{unit: MINUTE, requests_per_unit: 5}", 5, seconds(60)),
        ("{unit: Hour, requests_per_unit: 5}", 5, seconds(3_600)),
        ("{unit: day, requests_per_unit: 5}", 5, seconds(86_400)),
        ("{unit: week, requests_per_unit: 5}", 5, seconds(604_800)),
        ("{unit: month, requests_per_unit: 5}", 5, seconds(2_592_000)),
        ("{unit: year, requests_per_unit: 4294967295}", u32::MAX, seconds(31_536_000)),
        ("{unit: hour, requests_per_unit: 0}", 0, seconds(3_600)),
        ("{unit: minute, requests_per_unit: 30, unit_multiplier: 5}", 30, seconds(300)),
        ("{unit: year, requests_per_unit: 1, unit_multiplier: 10}", 1, WINDOW_MAX.0),
        ("{unit: hour, requests_per_unit: 1_000}", 1_000, seconds(3_600)),
        ("{unit: hour, requests_per_unit: 0x10}", 16, seconds(3_600)),
        ("{requests: 100, window: 1h}", 100, seconds(3_600)),
        ("{requests: 100, window: 1h30m}", 100, seconds(5_400)),
        ("{requests: 100, window: 250ms}", 100, 250_000),
        ("{requests: 100, window: 7d}", 100, seconds(604_800)),
        ("30/5m", 30, seconds(300)),
        ("5/s", 5, seconds(1)),
        ("100/hour", 100, seconds(3_600)),
        ("1_000 / Day", 1_000, seconds(86_400)),
    ];
    for (text, requests, window) in table {
        let limit = limit_of(text).limit;
        assert_eq!((limit.requests, limit.window.0), (requests, window), "{text}");
    }
}

#[test]
fn unlimited_is_a_rule_without_a_limit() {
    for text in ["unlimited", "{unlimited: true}", "{unlimited: true, requests_per_unit: 5}", "{unlimited: yes}"] {
        let rules = good(&format!("domain: d\ndescriptors: [{{key: a, rate_limit: {text}}}]"));
        let rule = &rules.domains()[0].rules()[0];
        assert!(rule.unlimited && rule.limits.is_empty(), "{text}");
    }
    let rules = good("domain: d\ndescriptors: [{key: a}, {key: b, rate_limit: ~}]");
    assert!(rules.domains()[0].rules().iter().all(|rule| !rule.unlimited && rule.limits.is_empty()));
}

/// A limit, what stands at the place of its mistake, and how what is said of it ends.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("{unit: hour, requests: 1}", "requests: 1", "`requests` and `unit` are of different forms"),
    ("{window: 1h, requests_per_unit: 1}", "window: 1h", "`window` and `requests_per_unit` are of different forms"),
    ("{requests: 1}", "requests: 1", "`requests` without `window`"),
    ("{window: 1h}", "window: 1h", "`window` without `requests`"),
    ("{requests: 1, window: 60}", "60", "`60` is no window: its unit is missing: us, ms, s, m, h, d or w"),
    ("{requests: 1, window: 0s}", "0s", "`0s` is no window: it must be longer than 0"),
    (
        "{requests: 1, window: 5y}",
        "5y",
        "`5y` is no window: there is no unit `y`: it is us, ms, s, m, h, d or w (a year is `365d`)",
    ),
    (
        "{requests: 1, window: 5min}",
        "5min",
        "`5min` is no window: there is no unit `min`: it is us, ms, s, m, h, d or w (minutes are `m`)",
    ),
    (
        "{requests: 1, window: 1 hour}",
        "1 hour",
        "`1 hour` is no window: no blank may stand between a number and its unit",
    ),
    (
        "5/Secs",
        "5/Secs",
        "`5/Secs` is no limit: there is no unit `Secs`: it is us, ms, s, m, h, d or w (seconds are `s`)",
    ),
    ("{requests: 1, window: 3651d}", "3651d", "`3651d` is no window: it is more than ten years, the longest window"),
    ("{requests: -1, window: 1h}", "-1", "`requests` must be a whole number from 0 to 4294967295, not `-1`"),
    (
        "{unit: year, unit_multiplier: 11, requests_per_unit: 1}",
        "unit_multiplier: 11",
        "11 years are more than ten years, the longest window",
    ),
    (
        "{unit: year, unit_multiplier: 0, requests_per_unit: 1}",
        "0, ",
        "`unit_multiplier` must be a whole number from 1 to 4294967295, not `0`",
    ),
    (
        "{unit: hour, requests_per_unit: '5'}",
        "'5'",
        "`requests_per_unit` must be a whole number from 0 to 4294967295, not the text \"5\"",
    ),
    ("5", "5", "`5` is no limit: it has no `/`"),
    ("x/s", "x/s", "`x` isn't a whole number from 0 to 4294967295"),
    (
        "5/fortnight",
        "5/fortnight",
        "`5/fortnight` is no limit: there is no unit `fortnight`: it is us, ms, s, m, h, d or w",
    ),
    ("{unit: hour, requests_per_unit: 1, burst: 5}", "5}", "a sliding_window has no burst"),
    (
        "{unit: hour, requests_per_unit: 1, capacity: 5, algorithm: fixed_window}",
        "5, algo",
        "a fixed_window has no burst",
    ),
    (
        "{unit: hour, requests_per_unit: 10001, algorithm: sliding_log}",
        "10001",
        "a sliding_log remembers every hit: at most 10000 requests",
    ),
    (
        "{unit: hour, requests_per_unit: 1, algorithm: leaky}",
        "leaky}",
        "`algorithm` has no `leaky`: it is one of sliding_window, fixed_window, sliding_log, token_bucket, leaky_bucket",
    ),
    (
        "{unit: hour, requests_per_unit: 1, sub_windows: 65}",
        "65",
        "`sub_windows` must be a whole number from 1 to 64, not `65`",
    ),
    (
        "{unit: hour, requests_per_unit: 1, count_denied: sometimes}",
        "sometimes",
        "`count_denied` must be auto, reported, true or false, not `sometimes`",
    ),
    ("{unlimited: true, window: 1h}", "window: 1h", "`window` has no meaning where `unlimited` is true"),
    (
        "{unit: hour, requests_per_unit: 1, on_store_failure: opne}",
        "opne",
        "`on_store_failure` has no `opne`: it is one of open, closed, local, error",
    ),
];

#[test]
fn a_mistake_in_a_limit_is_told_at_its_place() {
    for (limit, token, expected) in MISTAKES {
        let load = load_one(&format!("domain: d\ndescriptors: [{{key: a, rate_limit: {limit}}}]"));
        let errors: Vec<&Problem> = load.problems.errors().collect();
        let [only] = errors[..] else { panic!("{limit}: one error, not {}", load.problems) };
        let rest = &only.source_line[only.column as usize - 1..];
        assert!(only.line == 2 && rest.starts_with(token), "{limit}: the place is {rest}");
        assert!(only.what.ends_with(expected), "{limit}: {only}");
    }
}

#[test]
fn mistakes_are_warned_of_where_the_reference_is_silent() {
    let table = [
        (
            "{unit: hour, requests_per_unit: 1, shadow_mode: true}",
            "`shadow_mode` in `rate_limit` is ignored: this limit is enforced",
        ),
        ("{unit: hour}", "no `requests_per_unit`: this limit refuses every request"),
        ("{unit: hour, unit: day, requests_per_unit: 1}", "`unit` is written twice; what line 2 says is lost"),
        (
            "{unit: hour, requests_per_unit: 1, count_denied: true}",
            "in a sliding_window, a client that retries steadily is never admitted again",
        ),
        (
            "{unit: hour, requests_per_unit: 1, algorithm: token_bucket, sub_windows: 4}",
            "a token_bucket has no sub-windows: this is ignored",
        ),
    ];
    for (limit, expected) in table {
        let located = said(&format!("domain: d\ndescriptors: [{{key: a, rate_limit: {limit}}}]"));
        let [only] = &located[..] else { panic!("{limit}: one warning, not {located:?}") };
        assert!(only.starts_with("warning 2:") && only.ends_with(expected), "{limit}: {only}");
    }
}

#[test]
fn counting_denied_hits_is_warned_of_wherever_it_locks_out_who_retries() {
    for algorithm in Algorithm::ALL {
        for (when, warns) in [("true", algorithm != Algorithm::FixedWindow), ("reported", false), ("auto", false)] {
            let name = algorithm.name();
            let limit = format!("{{unit: hour, requests_per_unit: 1, algorithm: {name}, count_denied: {when}}}");
            let located = said(&format!("domain: d\ndescriptors: [{{key: a, rate_limit: {limit}}}]"));
            let expected = format!("in a {name}, a client that retries steadily is never admitted again");
            assert_eq!(located.iter().any(|line| line.ends_with(&expected)), warns, "{limit}: {located:?}");
            assert_eq!(located.len(), usize::from(warns), "{limit}: {located:?}");
        }
    }
}

#[test]
fn nearest_wins_limit_descriptor_domain_process() {
    let load = |defaults: &str, descriptor: &str, limit: &str| {
        let text = format!(
            "domain: d\ndefaults: {{{defaults}}}\ndescriptors: [{{key: a, {descriptor} rate_limit: {{unit: hour, requests_per_unit: 9, {limit}}}}}]"
        );
        let rules = good(&text);
        let limit = &rules.domains()[0].rules()[0].limits[0];
        (limit.limit.algorithm, limit.limit.sub_windows, limit.count_denied, limit.on_store_failure)
    };
    let all = "algorithm: fixed_window, count_denied: true, on_store_failure: open";
    assert_eq!(load("", "", ""), (Algorithm::SlidingWindow, 32, CountDenied::Auto, None));
    assert_eq!(load(all, "", ""), (Algorithm::FixedWindow, 32, CountDenied::Always, Some(FailurePolicy::Open)));
    assert_eq!(load(all, "", "count_denied: reported").2, CountDenied::Reported);
    assert_eq!(
        load(all, "on_store_failure: closed,", "count_denied: false, algorithm: sliding_log"),
        (Algorithm::SlidingLog, 32, CountDenied::Never, Some(FailurePolicy::Closed))
    );
    assert_eq!(
        load("sub_windows: 8", "on_store_failure: closed,", "on_store_failure: error").3,
        Some(FailurePolicy::Error)
    );
    assert_eq!(load("sub_windows: 8", "", "sub_windows: 16").1, 16);
    assert_eq!(load("sub_windows: 8", "", "").1, 8);
}

#[test]
fn buckets_hold_a_windows_worth_or_one_hit_unless_told() {
    assert_eq!(limit_of("{unit: hour, requests_per_unit: 9, algorithm: token_bucket}").limit.burst, 9);
    assert_eq!(limit_of("{unit: hour, requests_per_unit: 9, algorithm: leaky_bucket}").limit.burst, 1);
    assert_eq!(limit_of("{unit: hour, requests_per_unit: 9, algorithm: leaky_bucket, capacity: 3}").limit.burst, 3);
}

#[test]
fn a_named_limit_has_its_name_in_its_id() {
    let limit = limit_of("{unit: hour, requests_per_unit: 9, name: per_user, enforce: false}");
    assert_eq!(
        (&*limit.id, limit.name.as_deref(), limit.enforce),
        ("d/a#per_user", Some("per_user"), EnforcedShare::NONE)
    );
    assert_eq!(limit_of("9/h").enforce, EnforcedShare::ALL);
    assert_eq!(limit_of("{requests: 9, window: 1h, enforce: 2.5%}").enforce.parts(), 250);
}
