//! Limits that another limit of their rule makes pointless, held to the algorithms themselves.

use std::collections::HashSet;

use super::*;
use crate::{
    algorithm::{State, step},
    limit::{Algorithm, Cost, CountDenied, EnforcedShare, Limit, Micros, UnixMicros},
    rules::{RuleLimit, lint::pointless::decider},
};

fn limits(limits: &str) -> Vec<String> {
    with(&format!("- key: a\n  rate_limit:\n{limits}"))
}

#[test]
fn a_limit_that_another_of_its_rule_makes_pointless_is_warned_of() {
    assert_eq!(limits("  - 100/h\n  - 200/m\n"), ["6:5 pointless-limit"]);
    assert_eq!(limits("  - 200/m\n  - 100/h\n"), ["5:5 pointless-limit"]);
    assert_eq!(limits("  - 10/s\n  - 100/m\n"), [""; 0]);
    assert_eq!(
        limits("  - {requests: 10, window: 1m, name: a}\n  - {requests: 10, window: 1m, name: b}\n"),
        ["6:5 pointless-limit"]
    );
}

#[test]
fn a_limit_that_may_be_needed_is_none() {
    let loose = "  - {requests: 200, window: 1m, name: loose}\n";
    let strict = |more: &str| limits(&format!("{loose}  - {{requests: 100, window: 1h, name: strict{more}}}\n"));
    assert_eq!(strict(""), ["5:5 pointless-limit"]);
    assert_eq!(strict(", enforce: false"), [""; 0]);
    assert_eq!(strict(", enforce: 10%"), [""; 0]);
    assert_eq!(strict(", on_store_failure: open"), [""; 0]);
    assert_eq!(strict(", count_denied: false"), [""; 0]);
    let replaced = "- {key: b, rate_limit: {requests: 5, window: 1s, replaces: [{name: strict}]}}\n";
    let both = format!("- key: a\n  rate_limit:\n{loose}  - {{requests: 100, window: 1h, name: strict}}\n{replaced}");
    assert_eq!(with(&both), [""; 0], "where `b` is there too, the loose one decides");
    assert_eq!(
        limits("  - {requests: 200, window: 1m, enforce: false}\n  - 100/h\n"),
        [""; 0],
        "it is there to be looked at"
    );
}

fn any_limit() -> impl Strategy<Value = Limit> {
    let algorithm = prop::sample::select(Algorithm::ALL.to_vec());
    let window = prop::sample::select(vec![7u64, 10, 20, 40, 60, 61, 120, 400]);
    (algorithm, 0u32..12, window, prop::sample::select(vec![1u8, 2, 4, 5]), 1u32..12).prop_map(
        |(algorithm, requests, window, sub_windows, burst)| {
            let limit = Limit::new(requests, Micros(window), algorithm);
            let burst = if algorithm.has_burst() { burst } else { limit.burst };
            Limit { sub_windows, burst, ..limit }
        },
    )
}

fn rule_limit(limit: Limit, count_denied: CountDenied) -> RuleLimit {
    RuleLimit {
        id: "".into(),
        id_hash: 0,
        limit,
        name: None,
        tier: None,
        key_name: Box::default(),
        enforce: EnforcedShare::ALL,
        count_denied,
        on_store_failure: None,
    }
}

/// Whatever comes, a limit that is called pointless is never the only one that refuses.
#[test]
fn the_other_limit_refuses_whatever_a_pointless_one_does() {
    let event = (prop_oneof![2 => Just(0u64), 3 => 0u64..9, 1 => 0u64..130], 1i64..4);
    let history = prop::collection::vec(event, 1..120);
    let charged = prop::sample::select(vec![CountDenied::Always, CountDenied::Never]);
    let found = std::cell::Cell::new(0);
    proptest!(Config { cases: 3_000, ..config() }, |(one in any_limit(), other in any_limit(), denied in charged, history in history)| {
        let pair = [rule_limit(one, denied), rule_limit(other, denied)];
        let pointless = (0..2).find(|position| decider(&pair, *position, &HashSet::new()).is_some());
        let Some(pointless) = pointless else { return Ok(()) };
        found.set(found.get() + 1);
        let mut states = [State::Empty, State::Empty];
        let mut now = 1_700_000_000_000_003u64;
        for (gap, hits) in history {
            now += gap;
            let look = |state: &State, limit: &Limit, hits: i64, charge_denied: bool| {
                step(limit, state.clone(), Cost { hits, charge_denied }, UnixMicros(now))
            };
            let limits = [one, other];
            // A request is charged to both or to none.
            let readings = [0, 1].map(|nth| look(&states[nth], &limits[nth], hits, false).1.admitted);
            prop_assert!(readings[pointless] || !readings[1 - pointless], "{limits:?} at {now}");
            if readings == [true, true] || denied == CountDenied::Always {
                states = [0, 1].map(|nth| look(&states[nth], &limits[nth], hits, true).0);
            }
        }
    });
    assert!(found.get() > 300, "{} pairs were tried", found.get());
}
