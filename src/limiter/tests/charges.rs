//! Whom `count_denied` charges for what was refused, and limits of requests that the default algorithm can't count.

use super::*;

const RULES: &str = "
domain: api
descriptors:
  - {key: auto, rate_limit: {requests: 2, window: 1m, count_denied: auto}}
  - {key: reported, rate_limit: {requests: 2, window: 1m, count_denied: reported}}
  - {key: \"true\", rate_limit: {requests: 2, window: 1m, count_denied: true}}
  - {key: \"false\", rate_limit: {requests: 2, window: 1m, count_denied: false}}
";

/// Of an entry with these hits, its own or the request's.
fn put(asked: &Asked, entry: &str, (own, hits): (Option<i64>, i64), origin: Origin) -> Code {
    let descriptor = Descriptor { hits: own, ..descriptor(entry) };
    let request = Request { domain: "api", descriptors: smallvec![descriptor], hits, caller_limit: None, origin };
    asked.request(&request).expect("well formed").overall
}

/// Whether five hits that two refuse leave no room even for a look.
fn is_charged(asked: &Asked, entry: &str, own: bool, origin: Origin) -> bool {
    let hits = if own { (Some(5), 1) } else { (None, 5) };
    assert_eq!(put(asked, entry, hits, origin), Code::OverLimit, "{entry}");
    put(asked, entry, (Some(0), 1), Origin::Tool) == Code::OverLimit
}

#[test]
fn refused_hits_are_charged_as_count_denied_says() {
    for (key, own, expected) in [
        ("reported", true, [true, true, false]),
        ("reported", false, [false; 3]),
        ("true", true, [true; 3]),
        ("true", false, [true; 3]),
        ("false", true, [false; 3]),
        ("false", false, [false; 3]),
    ] {
        for (origin, expected) in [Origin::Envoy, Origin::Tool, Origin::Api].into_iter().zip(expected) {
            let (asked, entry) = (asked(RULES, MODES), format!("{key}=a"));
            assert_eq!(is_charged(&asked, &entry, own, origin), expected, "{key} {own} {origin:?}");
            // What is given back counts no more.
            assert_eq!(put(&asked, &entry, (Some(-HITS_MAX), 1), origin), Code::Ok, "{key}");
            assert_eq!(put(&asked, &entry, (Some(2), 1), origin), Code::Ok, "{key}");
        }
    }
}

/// What comes before is that of another user: what is learned is learned of the limit.
#[test]
fn by_auto_refused_hits_are_charged_only_where_envoy_asks_as_about_a_budget() {
    for (before, expected) in [
        (None, [false; 3]),
        (Some((None, Origin::Envoy)), [true, true, false]),
        (Some((Some(0), Origin::Envoy)), [true, true, false]),
        (Some((Some(1), Origin::Envoy)), [false; 3]),
        (Some((Some(-1), Origin::Envoy)), [false; 3]),
        (Some((None, Origin::Tool)), [false; 3]),
        (Some((Some(0), Origin::Tool)), [false; 3]),
        (Some((None, Origin::Api)), [false; 3]),
        (Some((Some(0), Origin::Api)), [false; 3]),
    ] {
        for (origin, expected) in [Origin::Envoy, Origin::Tool, Origin::Api].into_iter().zip(expected) {
            let asked = asked(RULES, MODES);
            if let Some((own, origin)) = before {
                assert_eq!(put(&asked, "auto=other", (own, 1), origin), Code::Ok);
            }
            assert_eq!(is_charged(&asked, "auto=a", true, origin), expected, "{before:?} {origin:?}");
            assert!(!is_charged(&asked, "auto=b", false, origin), "hits of the request: {before:?} {origin:?}");
        }
    }
}

#[test]
fn a_budget_is_one_for_an_hour_after_envoy_last_looked() {
    let asked = asked("domain: api\ndescriptors: [{key: user, rate_limit: 2/m}]", MODES);
    let at = |minutes: u64, hits| {
        let now = UnixMicros(NOW.0 + minutes * 60_000_000);
        asked.ask_at(Descriptor { hits: Some(hits), ..descriptor("user=a") }, now).overall
    };
    assert_eq!(at(0, 0), Code::Ok, "a look");
    assert_eq!(at(60, 5), Code::OverLimit);
    assert_eq!(at(60, 1), Code::OverLimit, "the five were charged");
    assert_eq!(at(122, 5), Code::OverLimit);
    assert_eq!(at(122, 1), Code::Ok, "it has been forgotten, so that these were not");
}

#[test]
fn in_a_request_that_another_limit_denies_only_budgets_are_charged_and_what_is_given_back_is() {
    let yaml = "
domain: api
descriptors:
  - {key: auto, rate_limit: 10/m}
  - {key: budget, rate_limit: 10/m}
  - {key: reported, rate_limit: {requests: 10, window: 1m, count_denied: reported}}
  - {key: \"true\", rate_limit: {requests: 10, window: 1m, count_denied: true}}
  - {key: \"false\", rate_limit: {requests: 10, window: 1m, count_denied: false}}
  - {key: none, rate_limit: 0/m}
";
    let asked = asked(yaml, MODES);
    let keys = ["auto=a", "budget=a", "reported=a", "true=a", "false=a", "none=a"];
    let all = |own: [i64; 5]| {
        let hits = own.map(Some).into_iter().chain([None]);
        let descriptors = keys.into_iter().zip(hits).map(|(entry, hits)| Descriptor { hits, ..descriptor(entry) });
        let descriptors = descriptors.collect();
        let request = Request { domain: "api", descriptors, hits: 1, caller_limit: None, origin: Origin::Envoy };
        asked.request(&request).expect("well formed")
    };
    let left = || {
        let lookup = |entry| {
            let lookup = Descriptor { hits: Some(0), ..descriptor(entry) };
            let request = Request {
                domain: "api",
                descriptors: smallvec![lookup],
                hits: 1,
                caller_limit: None,
                origin: Origin::Tool,
            };
            asked.request(&request).expect("well formed").statuses[0].remaining
        };
        [keys[0], keys[1], keys[2], keys[3], keys[4]].map(lookup)
    };
    assert_eq!(put(&asked, "budget=b", (Some(0), 1), Origin::Envoy), Code::Ok);
    assert_eq!(all([4; 5]).overall, Code::OverLimit);
    assert_eq!(left(), [10, 6, 6, 6, 10]);
    for entry in &keys[..5] {
        assert_eq!(put(&asked, entry, (Some(4), 1), Origin::Envoy), Code::Ok);
    }
    assert_eq!(left(), [6, 2, 2, 2, 6]);
    assert_eq!(all([-1; 5]).overall, Code::OverLimit);
    assert_eq!(left(), [7, 3, 3, 3, 6]);
}

#[test]
fn limits_that_come_with_requests_are_budgets_by_kind_and_a_callers_own_never_is() {
    let asked = asked(USERS, MODES);
    let with = |entry: &'static str, own, unit| {
        let descriptor = Descriptor { limit: Some((2, unit)), hits: own, ..descriptor(entry) };
        let descriptors = smallvec![descriptor];
        let request = Request { domain: "api", descriptors, hits: 1, caller_limit: None, origin: Origin::Envoy };
        asked.request(&request).expect("well formed").overall
    };
    let is_charged = |entry: &'static str, unit| {
        assert_eq!(with(entry, Some(5), unit), Code::OverLimit);
        with(entry, Some(1), unit) == Code::OverLimit
    };
    assert!(!is_charged("team=a", Unit::Hour), "nobody has looked");
    assert_eq!(with("team=b", None, Unit::Hour), Code::Ok);
    assert!(is_charged("team=c", Unit::Hour));
    assert!(!is_charged("team=c", Unit::Day));
    assert!(!is_charged("squad=c", Unit::Hour));

    let limit = Limit::new(2, Unit::Minute.window(), Algorithm::SlidingWindow);
    let own = |hits| {
        let descriptor = Descriptor { hits: Some(hits), ..descriptor("=check,user=a") };
        let (descriptors, own) = (smallvec![descriptor], Some(&limit));
        let request = Request { domain: "api", descriptors, hits: 1, caller_limit: own, origin: Origin::Api };
        asked.request(&request).expect("well formed").overall
    };
    assert_eq!([own(0), own(5), own(2)], [Code::Ok, Code::OverLimit, Code::Ok]);
}

#[test]
fn a_limit_is_a_budget_under_an_override_too() {
    let yaml = "
domain: api
descriptors:
  - key: user
    rate_limit: 9/m
    overrides:
      - {match: {user: one}, limit: 2/m}
      - {match: {user: two}, limit: [{name: a, requests: 2, window: 1m}, {name: b, requests: 3, window: 1h}]}
      - {match: {user: three}, limit: [{name: c, requests: 2, window: 1m}, {name: d, requests: 3, window: 1h}]}
";
    let lookup = (Some(0), 1);
    let asked = asked(yaml, MODES);
    assert!(!is_charged(&asked, "user=one", true, Origin::Envoy));
    assert!(!is_charged(&asked, "user=two", true, Origin::Envoy));
    assert_eq!(put(&asked, "user=anybody", lookup, Origin::Envoy), Code::Ok);
    assert!(is_charged(&asked, "user=one", true, Origin::Envoy), "it takes the place of the rule's one limit");
    assert!(!is_charged(&asked, "user=two", true, Origin::Envoy), "these take the place of none");
    assert_eq!(put(&asked, "user=three", lookup, Origin::Envoy), Code::Ok);
    assert!(is_charged(&asked, "user=two", true, Origin::Envoy), "what was learned of the rule's overrides holds");
}

#[test]
fn a_limit_in_the_request_that_a_log_is_too_small_for_is_decided_by_a_sliding_window_and_counted() {
    let asked = asked(USERS, Modes { algorithm: Algorithm::SlidingLog, ..MODES });
    let with = |requests: u32, hits: i64| {
        let descriptor = Descriptor { limit: Some((requests, Unit::Day)), ..descriptor("user=root") };
        let request = Request {
            domain: "api",
            descriptors: smallvec![descriptor],
            hits,
            caller_limit: None,
            origin: Origin::Envoy,
        };
        asked.request(&request).expect("well formed")
    };
    let fallbacks = |count: u32| asked.metrics().contains(&format!("tollgate_sliding_log_fallbacks_total {count}\n"));
    let log = with(10_000, 9_999);
    assert_eq!((log.overall, log.statuses[0].remaining), (Code::Ok, 1));
    assert!(fallbacks(0), "{}", asked.metrics());
    let window = with(10_001, 10_000);
    assert_eq!((window.overall, window.statuses[0].remaining), (Code::Ok, 1), "a counter of its own");
    assert_eq!(with(10_001, 2).overall, Code::OverLimit);
    assert!(fallbacks(2), "{}", asked.metrics());
}
