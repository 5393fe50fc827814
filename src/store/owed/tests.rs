use super::*;
use crate::limit::{Algorithm, Entry, SECOND};
use crate::store::Key;

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn ask<'a>(entries: &'a [Entry<'a>], limit: Limit, hits: i64) -> Ask<'a> {
    Ask {
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

fn outcomes(owed: &Owed) -> [u64; 4] {
    Outcome::ALL.map(|outcome| owed.hits(outcome))
}

#[tokio::test]
async fn debt_is_put_before_the_first_question_about_its_counter_and_no_other() {
    for algorithm in Algorithm::ALL {
        let (owed, limit) = (Arc::new(Owed::new(NOW)), hourly(algorithm));
        for _ in 0..3 {
            owed.add(&ask(ALICE, limit, 1));
        }
        owed.add(&ask(ALICE, limit, -1));
        assert!(owed.before(&[ask(BOB, limit, 1)]).is_none(), "{algorithm:?}");
        let (asks, debts) = owed.before(&[ask(BOB, limit, 1), ask(ALICE, limit, 5)]).expect("a debt");
        let told: Vec<_> = asks.iter().map(|ask| (ask.key.entries[0].value, ask.cost.hits, ask.role)).collect();
        let [enforced, shadow] = [Role::Enforced, Role::Shadow];
        assert_eq!(told, [("alice", 2, shadow), ("bob", 1, enforced), ("alice", 5, enforced)], "{algorithm:?}");
        assert!(asks[0].cost.charge_denied, "it is charged whatever becomes of the request");
        debts.settled();
        assert!(owed.before(&[ask(ALICE, limit, 1)]).is_none(), "{algorithm:?}");
        assert_eq!((owed.counters(), owed.bytes.load(Relaxed), owed.hits(Outcome::Charged)), (0, 0, 2));
    }
}

#[tokio::test]
async fn debt_that_was_not_sent_goes_back_and_one_of_unknown_outcome_is_not_sent_again() {
    let (owed, limit) = (Arc::new(Owed::new(NOW)), hourly(Algorithm::SlidingWindow));
    owed.add(&ask(ALICE, limit, 3));
    let asks = [ask(ALICE, limit, 1)];
    let (_, debts) = owed.before(&asks).expect("a debt");
    owed.add(&ask(ALICE, limit, 2));
    drop(debts);
    let (together, mut debts) = owed.before(&asks).expect("both");
    assert_eq!(together[0].cost.hits, 5);
    debts.sent();
    debts.unsent();
    drop(debts);
    let (_, mut debts) = owed.before(&asks).expect("Redis said that it charged nothing");
    debts.sent();
    drop(debts);
    assert!(owed.before(&asks).is_none());
    assert_eq!(outcomes(&owed), [0, 0, 0, 5]);
}

#[tokio::test]
async fn debt_whose_window_has_passed_is_forgotten_and_counted() {
    for algorithm in Algorithm::ALL {
        let owed = Arc::new(Owed::new(NOW));
        // A microsecond is over before anybody can ask.
        let limit = Limit { window: crate::limit::Micros(1), ..hourly(algorithm) };
        owed.add(&ask(ALICE, limit, 3));
        owed.add(&ask(BOB, limit, 4));
        let begun = Instant::now();
        while begun.elapsed().as_micros() < 50 {}
        assert!(owed.before(&[ask(ALICE, limit, 1)]).is_none(), "{algorithm:?}");
        (0..SHARDS).for_each(|_| owed.sweep());
        assert_eq!(
            (owed.counters(), owed.bytes.load(Relaxed), owed.hits(Outcome::Expired)),
            (0, 0, 7),
            "{algorithm:?}"
        );
    }
}

#[tokio::test]
async fn debt_is_never_more_than_the_whole_limit() {
    for algorithm in Algorithm::ALL {
        let (owed, limit) = (Arc::new(Owed::new(NOW)), hourly(algorithm));
        (0..50).for_each(|_| owed.add(&ask(ALICE, limit, 1)));
        let asks = [ask(ALICE, limit, 1)];
        let (asks, debts) = owed.before(&asks).expect("a debt");
        assert_eq!(asks[0].cost.hits, 10, "{algorithm:?}");
        debts.settled();
        assert_eq!(outcomes(&owed), [10, 40, 0, 0], "{algorithm:?}");
    }
}

#[tokio::test]
async fn debt_of_a_counter_that_begins_afresh_is_forgotten_and_no_other() {
    let (owed, limit) = (Arc::new(Owed::new(NOW)), hourly(Algorithm::SlidingWindow));
    owed.forget(&ask(ALICE, limit, 1));
    for entries in [ALICE, BOB] {
        owed.add(&ask(entries, limit, 3));
    }
    owed.forget(&ask(ALICE, limit, 1));
    assert_eq!((owed.counters(), outcomes(&owed)), (1, [0, 3, 0, 0]));
    let asks = [ask(ALICE, limit, 1), ask(BOB, limit, 1)];
    let (due, _debts) = owed.before(&asks).expect("bob's");
    assert_eq!((due.len(), due[0].key.entries[0].value), (3, "bob"));
}

#[tokio::test]
async fn debts_beyond_the_room_are_dropped_and_counted() {
    let owed = Arc::new(Owed::with_room(NOW, 10 * DEBT_BYTES));
    let users: Vec<String> = (0..30).map(|user| user.to_string()).collect();
    for user in &users {
        owed.add(&ask(&[Entry { key: "user", value: user }], hourly(Algorithm::SlidingWindow), 2));
    }
    assert_eq!((owed.counters(), owed.hits(Outcome::Dropped)), (10, 40));
    // Those that are known still take hits.
    owed.add(&ask(&[Entry { key: "user", value: "0" }], hourly(Algorithm::SlidingWindow), 2));
    assert_eq!((owed.counters(), owed.hits(Outcome::Dropped)), (10, 40));
}

#[tokio::test]
async fn known_debts_beyond_the_room_keep_their_hits_in_the_bytes_that_they_have() {
    const HITS: u64 = 1_000;
    for algorithm in Algorithm::ALL {
        let limit = Limit { requests: 5_000, burst: 5_000, ..hourly(algorithm) };
        let (owed, roomy) = (Owed::with_room(NOW, 3 * DEBT_BYTES), Owed::new(NOW));
        let mut now = NOW;
        for _ in 0..HITS {
            now = UnixMicros(now.0 + SECOND.0);
            for owed in [&owed, &roomy] {
                for entries in [ALICE, BOB] {
                    owed.charge(owed.keys.counter(&ask(entries, limit, 1)), &limit, 1, now);
                }
            }
            // A debt that is begun within the room may end beyond it, by its first hit.
            assert!(owed.bytes.load(Relaxed) <= 4 * DEBT_BYTES, "{algorithm:?}: {:?}", owed.bytes);
        }
        let due = |owed: &Owed| {
            let debt = owed.remove(owed.keys.counter(&ask(BOB, limit, 1))).expect("it is known");
            (debt.due(now), debt.hits)
        };
        assert!(due(&owed) >= due(&roomy), "{algorithm:?}");
        assert_eq!(owed.hits(Outcome::Dropped), 0, "{algorithm:?}");
    }
}

#[tokio::test]
async fn request_of_as_many_counters_as_may_be_pays_its_debts_later() {
    let (owed, limit) = (Arc::new(Owed::new(NOW)), hourly(Algorithm::SlidingWindow));
    owed.add(&ask(ALICE, limit, 1));
    let asks = vec![ask(ALICE, limit, 1); COUNTERS_MAX];
    assert!(owed.before(&asks).is_none());
    assert!(owed.before(&asks[1..]).is_some_and(|(asks, _)| asks.len() == COUNTERS_MAX));
}
