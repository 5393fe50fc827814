//! A key of ours in Redis may hold whatever somebody wrote there: the request is decided all the same, and a counter that
//! begins afresh is counted and logged.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tollgate::{
    algorithm::{State, step},
    limit::{Algorithm, Cost, Entry, Limit, Micros, SECOND, UnixMicros},
    store::{
        CounterCheck, Gate, Key, Role,
        redis::{Redis, RedisSettings},
    },
};

use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate},
    redis_server::RedisServer,
    redis_twin::{settings, soon, store},
};

const NOW: u64 = 1_800_000_000_123_456;
const WINDOW: Micros = Micros(60 * SECOND.0);
const HIT: Cost = Cost { hits: 1, charge_denied: false };

/// Of a fresh counter ten hits pass.
fn limit(algorithm: Algorithm) -> Limit {
    Limit { burst: 10, ..Limit::new(10, WINDOW, algorithm) }
}

fn ask<'a>(entries: &'a [Entry<'a>], algorithm: Algorithm) -> CounterCheck<'a> {
    let key = Key { domain: "damage", entries, shared: &[], limit_name: "", variable: 0 };
    CounterCheck { key, rule: 0, limit: limit(algorithm), cost: HIT, role: Role::Enforced }
}

/// A counter with a past, as Redis holds it under the key of an ask.
async fn sound(
    random: &mut SmallRng,
    redis: &Redis,
    check: CounterCheck<'_>,
    connection: &mut redis::Connection,
) -> Vec<u8> {
    // More than a window, so that the entries of a log go round.
    let mut past: Vec<u64> = (0..random.random_range(1..30)).map(|_| random.random_range(0..2 * WINDOW.0)).collect();
    past.sort_unstable();
    for before in past.iter().rev() {
        let now = UnixMicros(NOW - before);
        redis.apply_at(&[check], Gate::default(), now, soon()).await.expect("Redis answers");
    }
    let key = redis.counter_key(&check);
    redis::cmd("GET").arg(key).query(connection).expect("it was hit")
}

/// Some of it overwritten, cut off or added; or nothing like it at all.
fn damaged(random: &mut SmallRng, mut bytes: Vec<u8>) -> Vec<u8> {
    let any = |random: &mut SmallRng, length: usize| (0..length).map(|_| random.random()).collect::<Vec<u8>>();
    match random.random_range(0..6) {
        0..3 => {
            for _ in 0..random.random_range(1..5) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = [0, 0xff, random.random()][random.random_range(0..3)];
            }
        }
        3 => bytes.truncate(random.random_range(0..bytes.len())),
        4 => {
            let length = random.random_range(0..80);
            bytes = any(random, length);
        }
        _ => bytes = vec![[0, 0x7f, 0xff][random.random_range(0..3)]; random.random_range(0..200)],
    }
    bytes
}

#[tokio::test]
async fn whatever_a_counter_holds_is_decided_as_rust_reads_it_or_begins_afresh() {
    let server = RedisServer::start();
    let redis = store(RedisSettings { denials_bytes_max: 0, ..settings(&server) }).await;
    let mut connection = server.connection();
    let (mut read, mut afresh, mut unseen) = (0, 0, 0);
    for algorithm in Algorithm::ALL {
        for seed in 0..150 {
            let mut random = SmallRng::seed_from_u64(seed);
            let user = format!("user{seed}");
            let entries = [Entry { key: "user", value: &user }];
            let check = ask(&entries, algorithm);
            let bytes = sound(&mut random, &redis, check, &mut connection).await;
            let bytes = damaged(&mut random, bytes);
            let key = settings(&server).counter_key(&check.key, &check.limit);
            let () = redis::cmd("SET").arg(&key).arg(&bytes).query(&mut connection).unwrap();

            let what = format!("{algorithm:?}, seed {seed}: {}", bytes.escape_ascii());
            let before = redis.stats().damaged.get();
            let answer = redis.apply_at(&[check], Gate::default(), UnixMicros(NOW), soon()).await;
            let reading = answer.unwrap_or_else(|error| panic!("{error}, {what}"))[0];
            let fresh = step(&check.limit, State::Empty, HIT, UnixMicros(NOW)).1;
            let is_afresh = redis.stats().damaged.get() > before;
            if is_afresh {
                assert_eq!(reading, fresh, "{what}");
                afresh += 1;
            } else if let Some(state) = State::from_redis(&bytes, algorithm) {
                assert_eq!(reading, step(&check.limit, state, HIT, UnixMicros(NOW)).1, "{what}");
                read += 1;
            } else {
                // A sum of hits that is wrong is seen where the hits are added up: later, or once they have left.
                assert!(matches!(algorithm, Algorithm::SlidingWindow | Algorithm::SlidingLog), "{what}");
                assert!(reading.reset <= Micros(2 * WINDOW.0), "{what}");
                unseen += 1;
            }
            // Again, for what was left there, and when all that it may have counted is long over.
            for now in [NOW, NOW + 4 * WINDOW.0].map(UnixMicros) {
                let answer = redis.apply_at(&[check], Gate::default(), now, soon()).await;
                let reading = answer.unwrap_or_else(|error| panic!("{error}, then {what}"))[0];
                assert!(
                    now.0 == NOW || reading == step(&check.limit, State::Empty, HIT, now).1,
                    "{reading:?}, then {what}"
                );
            }
        }
    }
    assert!(read > 20 && afresh > 100, "{read} were read, {afresh} began afresh");
    assert!(unseen < 50, "{unseen} were not seen at once");
    assert_eq!(redis.stats().refused.get(), 0);
}

/// The damage is seen only when the log is searched, in the middle of a request that another counter then denies.
#[tokio::test]
async fn a_damaged_log_begins_afresh_in_a_denied_request_too() {
    let server = RedisServer::start();
    let redis = store(RedisSettings { denials_bytes_max: 0, ..settings(&server) }).await;
    let entries = [Entry { key: "user", value: "alice" }];
    let log = ask(&entries, Algorithm::SlidingLog);
    for before in [3, 2, 1] {
        redis.apply_at(&[log], Gate::default(), UnixMicros(NOW - before), soon()).await.expect("Redis answers");
    }
    // The sum of hits in the oldest entry, behind the header of 41 bytes and the entry's time of 7: there can't be none.
    let key = settings(&server).counter_key(&log.key, &log.limit);
    let () = redis::cmd("SETRANGE").arg(&key).arg(48).arg(&[0_u8; 6][..]).query(&mut server.connection()).unwrap();

    let full = CounterCheck { limit: Limit { requests: 0, ..limit(Algorithm::FixedWindow) }, ..log };
    for checks in [[log, full], [full, log]] {
        let before = redis.stats().damaged.get();
        let readings = redis.apply_at(&checks, Gate::default(), UnixMicros(NOW), soon()).await.expect("it is decided");
        let of_log = readings[usize::from(checks[0].limit.requests == 0)];
        assert_eq!(
            (of_log.admitted, of_log.remaining),
            (true, 10),
            "an empty log, which the denied request doesn't charge"
        );
        assert_eq!(redis.stats().damaged.get(), before + 1);
    }
    assert_eq!(redis.stats().refused.get(), 0);
}

#[tokio::test]
async fn a_counter_that_holds_something_else_is_logged_by_its_key_and_counted() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", crate::serve::PER_USER);
    // What is remembered of denials would hide what Redis holds by then.
    let env = [("REDIS_URL", &*redis.address()), ("TOLLGATE_DENIALS_MAX_BYTES", "0")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    let client = tollgate.client();
    assert!(client.admits("api", &[("user", "alice")]).await);
    let key = redis.cli(&["--raw", "keys", "tg1:*user=alice"]);
    for foreign in [["set", key.trim(), "not a counter"], ["rpush", key.trim(), "nor this"]] {
        redis.cli(&["del", key.trim()]);
        redis.cli(&foreign);
        for admitted in [true, true, true, false] {
            assert_eq!(client.admits("api", &[("user", "alice")]).await, admitted, "{foreign:?}");
        }
    }
    assert_eq!(tollgate.metric("tollgate_redis_damaged_counters_total").await, 2.0);
    let said = |line: &str| (line.contains("it begins at zero") && line.contains(key.trim())).then_some(());
    tollgate.process.line("which counter began afresh", said).await;
    assert_eq!(tollgate.metric("tollgate_panics_total").await, 0.0);
}
