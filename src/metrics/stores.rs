//! What the stores count about themselves, added up over the cores that ask them.

use std::fmt::Write;

use super::render::{head, row};
use crate::store::{
    Store,
    memory::Memory,
    owed::Outcome,
    redis::{Count, Redis, Tally},
};

/// A number under the reference's name of it.
pub(super) struct Number {
    pub(super) name: String,
    pub(super) is_gauge: bool,
    pub(super) value: u64,
}

/// What the reference counts of its pools and of its local cache, as far as there is the like here.
/// `local_cache` is how often denials were looked for in memory and found there, where that is counted.
pub(super) fn reference(stores: &[Store], local_cache: Option<(u64, u64)>) -> Vec<Number> {
    let (mut main, mut per_second) = (Vec::new(), Vec::new());
    for store in stores {
        match store {
            Store::Memory(_) => {}
            Store::Redis(redis) => main.push(redis),
            Store::Split(split) => {
                main.push(&split.main);
                per_second.push(&split.per_second);
            }
        }
    }
    let mut numbers = Vec::new();
    let mut put = |name: String, is_gauge, value| numbers.push(Number { name, is_gauge, value });
    for (pool, all) in [("redis_pool", &main), ("redis_per_second_pool", &per_second)] {
        if all.is_empty() {
            continue;
        }
        let active = all.iter().map(|redis| redis.connections()).sum();
        let made: u64 = all.iter().map(|redis| redis.tally().connects.get()).sum();
        put(format!("ratelimit.{pool}.cx_active"), true, active);
        put(format!("ratelimit.{pool}.cx_total"), false, made);
        put(format!("ratelimit.{pool}.cx_local_close"), false, made.saturating_sub(active));
    }
    let all: Vec<&Redis> = main.into_iter().chain(per_second).collect();
    if let Some((lookups, hits)) = local_cache.filter(|_| !all.is_empty()) {
        let entries = all.iter().map(|redis| redis.denials()).sum();
        for (name, value) in
            [("hitCount", hits), ("missCount", lookups - hits), ("lookupCount", lookups), ("entryCount", entries)]
        {
            put(format!("ratelimit.localcache.{name}"), true, value);
        }
    }
    numbers
}

pub(super) fn write(out: &mut String, stores: &[Store]) {
    // All cores share one memory store.
    let memory = stores.iter().find_map(|store| match store {
        Store::Memory(memory) => Some(memory),
        Store::Redis(_) | Store::Split(_) => None,
    });
    if let Some(memory) = memory {
        of_memory(out, memory);
    }
    let redis: Vec<_> = stores
        .iter()
        .flat_map(|store| match store {
            Store::Redis(redis) => vec![redis],
            Store::Split(split) => vec![&split.main, &split.per_second],
            Store::Memory(_) => Vec::new(),
        })
        .collect();
    if redis.is_empty() {
        return;
    }
    let owed = redis[0].owed();
    let name = "tollgate_owed_counters";
    one(out, name, "gauge", "Counters whose local hits Redis is yet to be told.", owed.counters() as u64);
    let name = "tollgate_owed_hits_total";
    head(out, name, "counter", "Hits admitted locally while Redis was away, by what became of them.");
    for outcome in Outcome::ALL {
        row(out, name, &[("outcome", outcome.name())], owed.hits(outcome));
    }
    for (name, help, count) in REDIS {
        let sum: u64 = redis.iter().map(|redis| count(redis.tally()).get()).sum();
        one(out, name, "counter", help, sum);
    }
    let open = redis.iter().map(|redis| redis.tally().breakers_open.get()).sum::<i64>().max(0) as u64;
    let help = "Circuit breakers that are open: failure policies answer what that node would.";
    one(out, "tollgate_redis_breakers_open", "gauge", help, open);
    let up = redis.iter().filter(|redis| redis.is_up()).count() as u64;
    one(out, "tollgate_redis_connections", "gauge", "Connections to Redis in use, one for each core.", up);
}

fn of_memory(out: &mut String, memory: &Memory) {
    one(out, "tollgate_memory_counters", "gauge", "Counters in memory.", memory.counters());
    one(out, "tollgate_memory_bytes", "gauge", "Bytes that they take.", memory.bytes());
    let overflow = "Hits on counters that several keys share, because the bound is reached.";
    one(out, "tollgate_memory_overflow_hits_total", "counter", overflow, memory.overflow_hits());
    one(out, "tollgate_memory_expired_total", "counter", "Counters that were swept out.", memory.expired());
    let thinned = "Times that a counter was made coarser, because there was no room for it to grow.";
    one(out, "tollgate_memory_thinned_total", "counter", thinned, memory.thinned());
    let set_back = "Counters ahead of the clock by more than a window that were set back.";
    one(out, "tollgate_memory_set_back_counters_total", "counter", set_back, memory.clock_steps());
}

type Row = (&'static str, &'static str, fn(&Tally) -> &Count);

const REDIS: [Row; 19] = [
    ("tollgate_redis_batches_total", "Scripts sent.", |tally| &tally.batches),
    ("tollgate_redis_batch_counters_total", "Counters in them.", |tally| &tally.counters),
    ("tollgate_redis_batch_requests_total", "Requests in them.", |tally| &tally.requests),
    ("tollgate_redis_merged_requests_total", "Requests that shared the work of an identical one.", |tally| {
        &tally.merged
    }),
    ("tollgate_redis_denied_again_total", "Requests denied from memory, without asking Redis.", |tally| {
        &tally.denied_again
    }),
    ("tollgate_redis_timeouts_total", "Requests whose answer did not come in time.", |tally| &tally.timeouts),
    ("tollgate_redis_unreachable_total", "Requests for which no connection stood.", |tally| &tally.unreachable),
    ("tollgate_redis_refused_total", "Requests that Redis answered with an error.", |tally| &tally.refused),
    ("tollgate_redis_overloaded_total", "Requests that found too many others waiting.", |tally| &tally.overloaded),
    ("tollgate_redis_damaged_counters_total", "Counters that held something else and began afresh.", |tally| {
        &tally.damaged
    }),
    ("tollgate_redis_set_back_counters_total", "Counters ahead of Redis' clock that were set back.", |tally| {
        &tally.set_back
    }),
    ("tollgate_redis_late_batches_total", "Scripts that came too late and charged nothing.", |tally| &tally.late),
    ("tollgate_redis_refunds_total", "Charges in a Cluster, or in one of two Redis, that were given back.", |tally| {
        &tally.refunds
    }),
    (
        "tollgate_redis_refunds_failed_total",
        "Of those, without an answer in time: too much may stay charged.",
        |tally| &tally.refunds_failed,
    ),
    ("tollgate_redis_evicted_keys_total", "Keys that Redis threw out for lack of room.", |tally| &tally.evicted),
    (
        "tollgate_redis_layout_mismatches_total",
        "Connections that found another replica's keys made otherwise.",
        |tally| &tally.mismatches,
    ),
    ("tollgate_redis_breaker_opens_total", "Times that a circuit breaker opened.", |tally| &tally.breaker_opens),
    ("tollgate_redis_connects_total", "Connections made.", |tally| &tally.connects),
    ("tollgate_redis_connect_failures_total", "Attempts to connect that failed.", |tally| &tally.connect_failures),
];

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}
