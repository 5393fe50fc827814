use super::*;
use crate::limit::{Algorithm, Entry, SECOND};
use crate::store::Key;

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn ask<'a>(entries: &'a [Entry<'a>], limit: Limit, hits: i64) -> CounterCheck<'a> {
    CounterCheck {
        key: Key { domain: "owed", entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit,
        cost: Cost { hits, charge_denied: false },
        role: Role::Enforced,
    }
}

const ALICE: &[Entry<'static>] = &[Entry { key: "user", value: "alice" }];
const BOB: &[Entry<'static>] = &[Entry { key: "user", value: "bob" }];

fn hourly(algorithm: Algorithm) -> Limit {
    Limit { burst: 10, ..Limit::new(10, crate::limit::Micros(3_600 * SECOND.0), algorithm) }
}

fn outcomes(deferred: &DeferredCharges) -> [u64; 4] {
    DeferredOutcome::ALL.map(|outcome| deferred.hits(outcome))
}

#[tokio::test]
async fn debt_is_put_before_the_first_question_about_its_counter_and_no_other() {
    for algorithm in Algorithm::ALL {
        let (deferred, limit) = (Arc::new(DeferredCharges::new(NOW)), hourly(algorithm));
        for _ in 0..3 {
            deferred.add(&ask(ALICE, limit, 1));
        }
        deferred.add(&ask(ALICE, limit, -1));
        assert!(deferred.with_deferred(&[ask(BOB, limit, 1)]).is_none(), "{algorithm:?}");
        let (checks, deferred_batch) =
            deferred.with_deferred(&[ask(BOB, limit, 1), ask(ALICE, limit, 5)]).expect("a debt");
        let told: Vec<_> =
            checks.iter().map(|check| (check.key.entries[0].value, check.cost.hits, check.role)).collect();
        let [enforced, shadow] = [Role::Enforced, Role::Shadow];
        assert_eq!(told, [("alice", 2, shadow), ("bob", 1, enforced), ("alice", 5, enforced)], "{algorithm:?}");
        assert!(checks[0].cost.charge_denied, "it is charged whatever becomes of the request");
        deferred_batch.settled();
        assert!(deferred.with_deferred(&[ask(ALICE, limit, 1)]).is_none(), "{algorithm:?}");
        assert_eq!(
            (deferred.counters(), deferred.bytes.load(Relaxed), deferred.hits(DeferredOutcome::Charged)),
            (0, 0, 2)
        );
    }
}

#[tokio::test]
async fn debt_that_was_not_sent_goes_back_and_one_of_unknown_outcome_is_not_sent_again() {
    let (deferred, limit) = (Arc::new(DeferredCharges::new(NOW)), hourly(Algorithm::SlidingWindow));
    deferred.add(&ask(ALICE, limit, 3));
    let checks = [ask(ALICE, limit, 1)];
    let (_, deferred_batch) = deferred.with_deferred(&checks).expect("a debt");
    deferred.add(&ask(ALICE, limit, 2));
    drop(deferred_batch);
    let (together, mut deferred_batch) = deferred.with_deferred(&checks).expect("both");
    assert_eq!(together[0].cost.hits, 5);
    deferred_batch.sent();
    deferred_batch.unsent();
    drop(deferred_batch);
    let (_, mut deferred_batch) = deferred.with_deferred(&checks).expect("Redis said that it charged nothing");
    deferred_batch.sent();
    drop(deferred_batch);
    assert!(deferred.with_deferred(&checks).is_none());
    assert_eq!(outcomes(&deferred), [0, 0, 0, 5]);
}

#[tokio::test]
async fn debt_whose_window_has_passed_is_forgotten_and_counted() {
    for algorithm in Algorithm::ALL {
        let deferred = Arc::new(DeferredCharges::new(NOW));
        // A microsecond is over before anybody can ask.
        let limit = Limit { window: crate::limit::Micros(1), ..hourly(algorithm) };
        deferred.add(&ask(ALICE, limit, 3));
        deferred.add(&ask(BOB, limit, 4));
        let begun = Instant::now();
        while begun.elapsed().as_micros() < 50 {}
        assert!(deferred.with_deferred(&[ask(ALICE, limit, 1)]).is_none(), "{algorithm:?}");
        (0..SHARDS).for_each(|_| deferred.sweep());
        assert_eq!(
            (deferred.counters(), deferred.bytes.load(Relaxed), deferred.hits(DeferredOutcome::Expired)),
            (0, 0, 7),
            "{algorithm:?}"
        );
    }
}

#[tokio::test]
async fn debt_is_never_more_than_the_whole_limit() {
    for algorithm in Algorithm::ALL {
        let (deferred, limit) = (Arc::new(DeferredCharges::new(NOW)), hourly(algorithm));
        (0..50).for_each(|_| deferred.add(&ask(ALICE, limit, 1)));
        let checks = [ask(ALICE, limit, 1)];
        let (checks, deferred_batch) = deferred.with_deferred(&checks).expect("a debt");
        assert_eq!(checks[0].cost.hits, 10, "{algorithm:?}");
        deferred_batch.settled();
        assert_eq!(outcomes(&deferred), [10, 40, 0, 0], "{algorithm:?}");
    }
}

#[tokio::test]
async fn debt_of_a_counter_that_begins_afresh_is_forgotten_and_no_other() {
    let (deferred, limit) = (Arc::new(DeferredCharges::new(NOW)), hourly(Algorithm::SlidingWindow));
    deferred.forget(&ask(ALICE, limit, 1));
    for entries in [ALICE, BOB] {
        deferred.add(&ask(entries, limit, 3));
    }
    deferred.forget(&ask(ALICE, limit, 1));
    assert_eq!((deferred.counters(), outcomes(&deferred)), (1, [0, 3, 0, 0]));
    let checks = [ask(ALICE, limit, 1), ask(BOB, limit, 1)];
    let (due, _debts) = deferred.with_deferred(&checks).expect("bob's");
    assert_eq!((due.len(), due[0].key.entries[0].value), (3, "bob"));
}

#[tokio::test]
async fn debts_beyond_the_room_are_dropped_and_counted() {
    let deferred = Arc::new(DeferredCharges::with_capacity(NOW, 10 * CHARGE_BYTES));
    let users: Vec<String> = (0..30).map(|user| user.to_string()).collect();
    for user in &users {
        deferred.add(&ask(&[Entry { key: "user", value: user }], hourly(Algorithm::SlidingWindow), 2));
    }
    assert_eq!((deferred.counters(), deferred.hits(DeferredOutcome::Dropped)), (10, 40));
    // Those that are known still take hits.
    deferred.add(&ask(&[Entry { key: "user", value: "0" }], hourly(Algorithm::SlidingWindow), 2));
    assert_eq!((deferred.counters(), deferred.hits(DeferredOutcome::Dropped)), (10, 40));
}

#[tokio::test]
async fn known_debts_beyond_the_room_keep_their_hits_in_the_bytes_that_they_have() {
    const HITS: u64 = 1_000;
    for algorithm in Algorithm::ALL {
        let limit = Limit { requests: 5_000, burst: 5_000, ..hourly(algorithm) };
        let (deferred, roomy) = (DeferredCharges::with_capacity(NOW, 3 * CHARGE_BYTES), DeferredCharges::new(NOW));
        let mut now = NOW;
        for _ in 0..HITS {
            now = UnixMicros(now.0 + SECOND.0);
            for deferred in [&deferred, &roomy] {
                for entries in [ALICE, BOB] {
                    deferred.charge(deferred.keys.counter(&ask(entries, limit, 1)), &limit, 1, now);
                }
            }
            // A debt that is begun within the room may end beyond it, by its first hit.
            assert!(deferred.bytes.load(Relaxed) <= 4 * CHARGE_BYTES, "{algorithm:?}: {:?}", deferred.bytes);
        }
        let due = |deferred: &DeferredCharges| {
            let charge = deferred.remove(deferred.keys.counter(&ask(BOB, limit, 1))).expect("it is known");
            (charge.hits_due(now), charge.hits)
        };
        assert!(due(&deferred) >= due(&roomy), "{algorithm:?}");
        assert_eq!(deferred.hits(DeferredOutcome::Dropped), 0, "{algorithm:?}");
    }
}

#[tokio::test]
async fn request_of_as_many_counters_as_may_be_pays_its_debts_later() {
    let (deferred, limit) = (Arc::new(DeferredCharges::new(NOW)), hourly(Algorithm::SlidingWindow));
    deferred.add(&ask(ALICE, limit, 1));
    let checks = vec![ask(ALICE, limit, 1); COUNTERS_MAX];
    assert!(deferred.with_deferred(&checks).is_none());
    assert!(deferred.with_deferred(&checks[1..]).is_some_and(|(checks, _)| checks.len() == COUNTERS_MAX));
}
