use std::time::Duration;

use crate::proto::ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy};

use serde_json::json;
use tokio::time::Instant;

use super::{backoff::Backoff, refusal::NackPace, render::rendered};
use crate::settings::XdsBackoff;

fn waits(jitter: f64) -> Backoff {
    let (connect, initial) = (Duration::from_secs(3), Duration::from_secs(10));
    Backoff::new(XdsBackoff { connect, initial, max: Duration::from_secs(60), jitter })
}

#[test]
fn waits_double_up_to_the_longest_and_begin_anew() {
    let mut waits = waits(0.0);
    let first = Duration::from_secs(10);
    let seconds: Vec<u64> = (0..5).map(|_| waits.next(first).as_secs()).collect();
    assert_eq!(seconds, [10, 20, 40, 60, 60]);
    waits.reset();
    assert_eq!(waits.next(first), first);
}

#[test]
fn jitter_shortens_a_wait_by_its_share_at_most_and_not_always_alike() {
    let all: Vec<Duration> = (0..100).map(|_| waits(0.5).next(Duration::from_secs(10))).collect();
    assert!(all.iter().all(|wait| (5.0..=10.0).contains(&wait.as_secs_f64())), "{all:?}");
    assert!(all.iter().any(|wait| *wait != all[0]));
}

#[test]
fn a_wait_after_very_many_attempts_is_the_longest() {
    let mut waits = waits(0.0);
    let last = (0..100).map(|_| waits.next(Duration::from_secs(3))).last();
    assert_eq!(last, Some(Duration::from_secs(60)));
}

#[test]
fn refusals_go_at_once_a_few_times_and_then_more_than_one_a_second() {
    let (mut pace, began) = (NackPace::default(), Instant::now());
    let mut now = began;
    for sent in 0..100u32 {
        let next = pace.next(now);
        assert!(next - now < Duration::from_secs(1), "a corrected set waits for {:?}", next - now);
        assert!(sent > 3 || next == now, "refusal {sent} is late");
        // What comes meanwhile doesn't put it off.
        assert_eq!(pace.next(next), next);
        pace.sent(next);
        now = next;
    }
    assert!(now - began > Duration::from_secs(75), "a hundred refusals in {:?}", now - began);
    let later = now + Duration::from_secs(10);
    assert_eq!(pace.next(later), later);
}

#[test]
fn a_message_becomes_the_file_that_says_the_same_and_leaves_out_what_is_not_set() {
    let limit = RateLimitPolicy { unit: 2, requests_per_unit: 5, ..RateLimitPolicy::default() };
    let strange = RateLimitPolicy { unit: 99, ..RateLimitPolicy::default() };
    let leaf = |value: &str, limit| RateLimitDescriptor {
        key: "path".into(),
        value: value.into(),
        rate_limit: Some(limit),
        ..RateLimitDescriptor::default()
    };
    let route = RateLimitDescriptor {
        key: "route".into(),
        shadow_mode: true,
        descriptors: vec![leaf("/a \"b\"", limit), leaf("", strange)],
        ..RateLimitDescriptor::default()
    };
    let config = RateLimitConfig { name: "eg/http".into(), domain: "http".into(), descriptors: vec![route] };
    let (path, value) = rendered(&config);
    assert_eq!(path.to_str(), Some("xds:eg/http"));
    let expected = json!({
        "domain": "http",
        "descriptors": [{
            "key": "route",
            "shadow_mode": true,
            "descriptors": [
                {"key": "path", "value": "/a \"b\"", "rate_limit": {"requests_per_unit": 5, "unit": "MINUTE"}},
                {"key": "path", "rate_limit": {"requests_per_unit": 0, "unit": "99"}},
            ],
        }],
    });
    assert_eq!(value, expected);
}
