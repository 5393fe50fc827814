//! Whom `count_denied` charges for what was refused, and limits of requests that the default algorithm can't count.

use super::*;

#[test]
fn refused_hits_are_charged_as_count_denied_says_and_by_auto_only_where_the_descriptor_has_its_own() {
    let rule = |count_denied| {
        format!("  - {{key: {count_denied}, rate_limit: {{requests: 2, window: 1m, count_denied: {count_denied}}}}}\n")
    };
    let asked = asked(&format!("domain: api\ndescriptors:\n{}", ["auto", "true", "false"].map(rule).concat()), MODES);
    let put = |value: &str, own: Option<i64>, hits: i64| {
        let descriptor = Descriptor { hits: own, ..descriptor(value) };
        let request = Request { domain: "api", descriptors: smallvec![descriptor], hits, own: None };
        asked.request(&request).expect("well formed").overall
    };
    for (case, own, is_charged) in [
        ("auto=own", true, true),
        ("auto=none", false, false),
        ("true=own", true, true),
        ("true=none", false, true),
        ("false=own", true, false),
        ("false=none", false, false),
    ] {
        // Of two, five are refused; charged all the same, they leave no room even for a look.
        let (own_hits, hits) = if own { (Some(5), 1) } else { (None, 5) };
        assert_eq!(put(case, own_hits, hits), Code::OverLimit, "{case}");
        assert_eq!(put(case, Some(0), 1) == Code::OverLimit, is_charged, "{case}");
        // What is given back counts no more.
        assert_eq!(put(case, Some(-HITS_MAX), 1), Code::Ok, "{case}");
        assert_eq!(put(case, Some(2), 1), Code::Ok, "{case}");
    }
}

#[test]
fn a_limit_in_the_request_that_a_log_is_too_small_for_is_decided_by_a_sliding_window_and_counted() {
    let asked = asked(USERS, Modes { algorithm: Algorithm::SlidingLog, ..MODES });
    let with = |requests: u32, hits: i64| {
        let descriptor = Descriptor { limit: Some((requests, Unit::Day)), ..descriptor("user=root") };
        let request = Request { domain: "api", descriptors: smallvec![descriptor], hits, own: None };
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
