use std::sync::Arc;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::*;
use crate::{
    limit::{Descriptor, Entry, Origin},
    limiter::{Limiter, tests::limiter},
};

const START: UnixMicros = UnixMicros(1_700_000_000_000_000);
const MEMORY_BYTES: u64 = 64 << 20;

const RULES: &str = "
domain: api
descriptors:
  - key: user
    rate_limit:
      - {name: burst, requests: 4, window: 1s}
      - {name: minute, requests: 40, window: 1m, algorithm: sliding_log}
    descriptors:
      - {key: path, rate_limit: {requests: 3, window: 5s, algorithm: token_bucket}}
  - {key: user, value: root, rate_limit: {unlimited: true}}
  - {key: host, rate_limit: {name: trial, requests: 20, window: 10s, algorithm: fixed_window, enforce: false}}
";

fn snapshot(yaml: &str) -> Snapshot {
    let limiter: Limiter = limiter(yaml);
    let snapshot = limiter.snapshot();
    drop(limiter);
    Arc::into_inner(snapshot).expect("nobody else has it")
}

fn replayer(yaml: &str, purpose: Purpose) -> Replayer {
    Replayer::new(snapshot(yaml), Modes::default(), purpose, MEMORY_BYTES)
}

/// Each descriptor is written as `user=alice,path=/a`.
fn request<'a>(descriptors: &[&'a str]) -> Request<'a> {
    let entry = |text: &'a str| text.split_once('=').map(|(key, value)| Entry { key, value });
    let descriptor =
        |text: &&'a str| Descriptor { entries: text.split(',').filter_map(entry).collect(), ..Descriptor::default() };
    let descriptors = descriptors.iter().map(descriptor).collect();
    Request { domain: "api", descriptors, hits: 1, caller_limit: None, origin: Origin::Envoy }
}

fn after(micros: u64) -> UnixMicros {
    UnixMicros(START.0 + micros)
}

/// What a limiter answers that serves is what is played, for any rules' algorithms and costs.
#[test]
fn a_random_history_is_decided_as_the_limiter_decides_it() {
    let serving = limiter(RULES);
    let mut replayer = replayer(RULES, Purpose::Decide);
    let mut random = SmallRng::seed_from_u64(24);
    let (mut now, mut denied) = (START, 0);
    for _ in 0..20_000 {
        now.0 += random.random_range(0..40_000);
        let user = ["user=alice", "user=bob", "user=carol", "user=root", "user=zoe"][random.random_range(0..5)];
        let path = format!("{user},path={}", random.random_range(0..2));
        let mut request = match random.random_range(0..4) {
            0 => request(&[user]),
            1 => request(&[&path]),
            2 => request(&[user, "host=x"]),
            _ => request(&[user, &path, "host=x"]),
        };
        request.hits = random.random_range(1..3);
        if random.random_range(0..8) == 0 {
            request.descriptors[0].hits = Some(random.random_range(-1..4));
        }
        let served = serving.decide_now(&request, now).expect("it counts in memory").expect("well formed");
        let mut deciding = 0;
        let played = replayer.play(&request, now, None, |check| deciding += u32::from(check.is_deciding));
        let played = played.expect("well formed");
        assert_eq!(played.code, served.overall, "{request:?} at {now:?}");
        assert_eq!(deciding, u32::from(served.overall == Code::OverLimit), "exactly one denies");
        denied += deciding;
    }
    assert!((1_000..19_000).contains(&denied), "{denied} were denied: the history tells nothing");
    assert_eq!(replayer.overflow_hits(), 0);
}

#[test]
fn every_counter_is_told_with_its_limit_and_the_one_that_denies() {
    let mut replayer = replayer(RULES, Purpose::Decide);
    let request = request(&["user=alice", "host=x", "user=root", "nobody=x"]);
    let mut told = Vec::new();
    for _ in 0..5 {
        told.clear();
        replayer
            .play(&request, START, None, |check| {
                let id = check.limit_id.map(|id| id.to_string()).unwrap_or_default();
                told.push((id, check.is_shadow, check.is_deciding, check.reading.admitted, check.reading.remaining));
            })
            .expect("well formed");
    }
    let expected = [
        ("api/user#burst", false, true, false, 0),
        ("api/user#minute", false, false, true, 36),
        ("api/host#trial", true, false, true, 16),
    ];
    let expected =
        expected.map(|(id, shadow, deciding, admitted, left)| (id.to_owned(), shadow, deciding, admitted, left));
    assert_eq!(told, expected);
    let unlimited = self::request(&["user=root"]);
    let played = replayer.play(&unlimited, START, None, |_| panic!("no counter")).expect("well formed");
    assert_eq!(played, Played { code: Code::Ok, is_limited: false });
}

/// What a limit would have to admit: nothing is refused, and a counter tells all that it holds.
#[test]
fn a_measured_limit_refuses_nothing_and_tells_what_it_holds() {
    let mut replayer = replayer(RULES, Purpose::Measure);
    let request = request(&["user=alice", "user=alice,path=/a"]);
    let mut most = [0, 0];
    for nth in 0..100 {
        let played = replayer.play(&request, after(nth * 10_000), None, |check| match check.limit_id.map(|id| &**id) {
            Some("api/user#burst") => most[0] = check.used().max(most[0]),
            Some("api/user#minute") => most[1] = check.used().max(most[1]),
            _ => assert!(!check.is_measured(), "a bucket has no single number"),
        });
        assert_eq!(played.expect("well formed").code, Code::Ok);
    }
    assert_eq!(most, [100, 100]);
    replayer.play(&request, after(30_000_000), None, |check| most[0] = check.used().min(most[0])).expect("well formed");
    assert_eq!(most[0], 1, "a window that is over holds nothing of before");
}

/// Counters end by the requests' own time, so that a long log needs no more memory than the service did.
#[test]
fn counters_that_ended_are_dropped_on_the_way() {
    let mut replayer = replayer(RULES, Purpose::Decide);
    let names: Vec<String> = (0..50_000).map(|nth| format!("host={nth}")).collect();
    let mut most = 0;
    for (nth, name) in names.iter().enumerate() {
        let request = request(&[name.as_str()]);
        replayer.play(&request, after(nth as u64 * 10_000), None, |_| {}).expect("well formed");
        most = most.max(replayer.memory.counters());
    }
    assert!(most < 5_000, "{most} counters at once, where 1,000 are within a window of 10 s");
}

#[test]
fn a_request_that_the_service_refuses_to_decide_is_an_error() {
    let mut replayer = replayer(RULES, Purpose::Decide);
    assert!(replayer.play(&request(&[]), START, None, |_| {}).is_err(), "it has no descriptors");
    let nowhere = Request { domain: "", ..request(&["user=alice"]) };
    assert!(replayer.play(&nowhere, START, None, |_| {}).is_err(), "it has no domain");
}

/// A hit of a client stands for those of all clients where they share the counter.
#[test]
fn hits_of_a_sampled_client_count_for_others_where_they_share_a_counter() {
    let mut replayer = replayer(RULES, Purpose::Decide);
    let request = request(&["user=alice", "host=x"]);
    let client = SampledClient { key: "user", hits: 5 };
    let mut told = Vec::new();
    let played = replayer.play(&request, START, Some(client), |check| {
        told.push((check.hits, check.is_scaled, check.reading.remaining));
    });
    assert_eq!(played.expect("well formed").code, Code::Ok);
    assert_eq!(told, [(1, false, 3), (1, false, 39), (5, true, 15)]);
}
