//! The fleet's blackboard in a real Redis stays small, however many replicas write to it.

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate::{
    run_time::fleet::{Fleet, LISTS_MAX, RECORD_MAX, RatesSeen, ReplicaRecord, RulesSeen, StoreSeen},
    store::redis::CommandConnection,
};

use crate::{harness::eventually, redis_server::RedisServer, redis_twin::settings};

const REPLICAS: usize = 1_000;

/// The record of a replica, by its number.
type Written = fn(usize, &Fleet) -> ReplicaRecord;

/// As a sidecar's, with problems in its files and the names that Kubernetes gives.
fn usual(nth: usize, fleet: &Fleet) -> ReplicaRecord {
    ReplicaRecord {
        id: fleet.id().into(),
        name: format!("checkout-frontend-7d9c5b8f6d-{nth:05}").into(),
        addresses: vec!["10.112.114.117:8081".into(), "10.112.114.117:8080".into()],
        version: "0.10.12".into(),
        started: 1_795_940_000_000_000,
        at: 1_795_940_123_456_789,
        rules: RulesSeen {
            hash: "a22e74e9c02443d7".into(),
            version: 17,
            loaded: 1_795_940_000_000_000,
            problems: 3,
            places: vec!["/etc/tollgate/rules/checkout.yaml:117".into(); 3],
        },
        store: StoreSeen { kind: "redis".into(), answers: true, breakers_open: 0 },
        rates: RatesSeen { requests: 1_234.56, refused: 123.45, degraded: 1.23 },
        overrides_generation: 1_795_940_123_456_789,
        switched: Some((0..8).map(|nth| (format!("domain-{nth}").into(), 1_795_940_123_456_789)).collect()),
        knows_shares: true,
        switched_here: 0,
    }
}

/// With as much text as there may be.
fn longest(nth: usize, fleet: &Fleet) -> ReplicaRecord {
    let long: Box<str> = "x".repeat(4_000).into();
    let usual = usual(nth, fleet);
    ReplicaRecord {
        name: long.clone(),
        addresses: vec![long.clone(); 4],
        rules: RulesSeen { places: vec![long.clone(); 4], ..usual.rules },
        switched: Some((0..8).map(|nth| (format!("{nth}{long}")[..200].into(), 1)).collect()),
        ..usual
    }
}

/// Bytes of all keys of the blackboard, by a command that tells them of one.
fn bytes(redis: &RedisServer, command: &str) -> usize {
    let sum = format!(
        "local sum = 0; for _, key in ipairs(redis.call('KEYS', '*:fleet*')) do
            if redis.call('TYPE', key).ok == 'string' then sum = sum + redis.call({command}, key) end
        end; return sum"
    );
    redis.cli(&["EVAL", &sum, "0"]).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_records_and_lists_of_a_thousand_replicas_stay_below_four_mebibytes() {
    let redis = RedisServer::start();
    let start = CommandConnection::start;
    let connection = start(Arc::new(settings(&redis)), None, &TaskTracker::new(), CancellationToken::new()).0;
    let fleets: Vec<Fleet> = (0..REPLICAS).map(|_| Fleet::in_redis("shop", connection.clone())).collect();
    let lists = || Some(vec![7; LISTS_MAX / REPLICAS]);
    // The first time each learns how many there are.
    let records: [(Written, bool); 3] = [(usual, true), (usual, true), (longest, false)];
    for (record, is_usual) in records {
        for (nth, fleet) in fleets.iter().enumerate() {
            eventually("a beat", || async { fleet.beat(record(nth, fleet), lists()).await.ok() }).await;
        }
        let (written, taken) = (bytes(&redis, "'STRLEN'"), bytes(&redis, "'MEMORY', 'USAGE'"));
        assert!(written < 4 << 20 && written > LISTS_MAX, "{written} bytes");
        assert!(!is_usual || taken < 4 << 20, "{taken} bytes of Redis' memory, its own for each key included");
        let longest_record = redis.cli(&["STRLEN", &format!("tg1:{{0}}:fleet:{}", fleets[7].id())]);
        assert!(longest_record.parse::<usize>().expect("a number") <= RECORD_MAX, "{longest_record}");
    }
    let view = tokio::time::timeout(Duration::from_secs(30), fleets[0].read()).await.expect("it answers");
    assert_eq!((view.replicas.len(), view.partial), (REPLICAS, None), "each answers for all");
}
