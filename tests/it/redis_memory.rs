//! What a counter takes of Redis' memory, by which docs/src/operating/memory.md says how much to buy: of one key as Redis counts it,
//! and of all that many of them make Redis hold.

use tollgate::limit::{Algorithm, Entry, Limit, Unit, UnixMicros};
use tollgate::store::redis::Redis;
use tollgate::store::{CounterCheck, Gate};

use crate::redis_server::{RedisServer, is_valkey, version};
use crate::redis_twin::{ask_of, settings, soon, store};

const START: u64 = 1_800_000_000_123_456;

/// Counters of one request: fewer round trips.
const AT_ONCE: usize = 50;

struct Cost {
    /// What MEMORY USAGE says of the largest of some: the key, its value and its entry.
    key: u64,
    /// By how much Redis has grown for each counter: its TTL and its places in the tables included.
    whole: f64,
}

/// What Redis uses, without the buffers of its clients and without Lua, which Redis 8 counts too: these are of no counter,
/// and may be 80 bytes for each of 2,000.
fn used(connection: &mut redis::Connection) -> u64 {
    let info: String = redis::cmd("INFO").arg("memory").query(connection).expect("Redis answers");
    let bytes = |name: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|bytes| bytes.trim().parse().ok()).expect("Redis says it")
    };
    let is_lua_counted = !is_valkey() && version().starts_with("8.");
    let lua = if is_lua_counted { bytes("used_memory_vm_eval") } else { 0 };
    bytes("used_memory") - bytes("mem_clients_normal") - lua
}

async fn hit_all(redis: &Redis, users: &[String], limit: Limit, now: u64) {
    for crowd in users.chunks(AT_ONCE) {
        let entries: Vec<[Entry<'_>; 1]> = crowd.iter().map(|user| [Entry { key: "user", value: user }]).collect();
        let checks: Vec<CounterCheck<'_>> = entries.iter().map(|entries| ask_of("api", entries, limit, 1)).collect();
        let readings = redis.apply_at(&checks, Gate::default(), UnixMicros(now), soon()).await.expect("Redis answers");
        assert!(readings.iter().all(|reading| reading.admitted), "{limit:?}");
    }
}

/// Of `counters` that are each hit at every one of `times`.
async fn cost(limit: Limit, counters: usize, times: &[u64]) -> Cost {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let mut connection = server.connection();
    let users: Vec<String> = (0..counters).map(|user| format!("user-{user:05}")).collect();
    // The script and the buffers are there whatever the counters are.
    hit_all(&redis, &["somebody".to_owned()], limit, START).await;
    let before = used(&mut connection);
    for time in times {
        hit_all(&redis, &users, limit, START + time).await;
    }
    let whole = (used(&mut connection) - before) as f64 / counters as f64;
    let keys: Vec<String> = redis::cmd("KEYS").arg("tg1:*user-00*").query(&mut connection).expect("Redis answers");
    let of_one = |key: &String| -> u64 {
        let mut usage = redis::cmd("MEMORY");
        usage.arg("USAGE").arg(key).query(&mut connection).expect("Redis answers")
    };
    let key = keys.iter().map(of_one).max().expect("some are there");
    Cost { key, whole }
}

/// What a TTL and the places in the tables take beside a key, at most.
const BESIDE_A_KEY: f64 = 90.0;

fn per_minute(algorithm: Algorithm) -> Limit {
    Limit { burst: 1_000, ..Limit::new(1_000, Unit::Minute.window(), algorithm) }
}

/// As many hits as there are sub-windows, one in each, and some more, so that the first have left again.
fn one_in_each(limit: Limit) -> Vec<u64> {
    let parts = u64::from(limit.sub_windows);
    (0..parts + 8).map(|part| part * limit.window.0.div_ceil(parts)).collect()
}

#[tokio::test]
async fn counter_that_was_hit_once_takes_200_bytes_at_most() {
    for algorithm in Algorithm::ALL {
        let Cost { key, whole } = cost(per_minute(algorithm), 20_000, &[0]).await;
        assert!(key <= 200, "{algorithm:?}: a key takes {key}");
        assert!((100.0..=240.0).contains(&whole), "{algorithm:?}: Redis grows by {whole}");
    }
}

#[tokio::test]
async fn few_more_hits_take_little_more_and_none_where_hits_are_only_added_up() {
    for algorithm in Algorithm::ALL {
        let Cost { key, whole } = cost(per_minute(algorithm), 2_000, &[0, 2_000_000, 4_000_000]).await;
        let most = if algorithm == Algorithm::SlidingLog { 240 } else { 200 };
        assert!(key <= most, "{algorithm:?}: a key takes {key}");
        assert!(whole <= most as f64 + BESIDE_A_KEY, "{algorithm:?}: Redis grows by {whole}");
    }
}

#[tokio::test]
async fn sliding_window_that_is_hit_in_every_part_takes_500_bytes_at_most() {
    let limit = per_minute(Algorithm::SlidingWindow);
    let Cost { key, whole } = cost(limit, 2_000, &one_in_each(limit)).await;
    assert!(key <= 500, "a key takes {key}");
    // Valkey and Redis 8 take a third less than Redis 7.
    assert!((250.0..=600.0).contains(&whole), "Redis grows by {whole}");
}

#[tokio::test]
async fn sliding_log_takes_24_bytes_a_hit_at_most() {
    let times: Vec<u64> = (0..700).map(|millis| millis * 1_000).collect();
    let Cost { key, .. } = cost(per_minute(Algorithm::SlidingLog), AT_ONCE, &times).await;
    assert!(key <= 200 + 24 * 700, "a key takes {key}");
}
