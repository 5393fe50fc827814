//! What the stores count about themselves, added up over the cores that ask them. They know no metric, and count for each
//! core apart, so that cores don't fight over a line: their sums are brought to the recorder when a page is made.

use super::{recorder::Recorder, table::Metric};
use crate::store::{
    Store,
    deferred::DeferredOutcome,
    memory::Memory,
    redis::{Redis, RedisStats, StatCounter},
};

/// A number that envoyproxy/ratelimit has too.
pub(super) struct Number {
    pub(super) metric: Metric,
    /// As StatsD has it.
    pub(super) name: &'static str,
    pub(super) value: u64,
}

type Names<const N: usize> = [(Metric, &'static str); N];

const POOL: Names<3> = [
    (Metric::PoolActive, "ratelimit.redis_pool.cx_active"),
    (Metric::PoolTotal, "ratelimit.redis_pool.cx_total"),
    (Metric::PoolClosed, "ratelimit.redis_pool.cx_local_close"),
];

const PER_SECOND_POOL: Names<3> = [
    (Metric::PerSecondPoolActive, "ratelimit.redis_per_second_pool.cx_active"),
    (Metric::PerSecondPoolTotal, "ratelimit.redis_per_second_pool.cx_total"),
    (Metric::PerSecondPoolClosed, "ratelimit.redis_per_second_pool.cx_local_close"),
];

const LOCAL_CACHE: Names<4> = [
    (Metric::LocalCacheHits, "ratelimit.localcache.hitCount"),
    (Metric::LocalCacheMisses, "ratelimit.localcache.missCount"),
    (Metric::LocalCacheLookups, "ratelimit.localcache.lookupCount"),
    (Metric::LocalCacheEntries, "ratelimit.localcache.entryCount"),
];

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
    let mut put = |names: &[(Metric, &'static str)], values: &[u64]| {
        let pairs = names.iter().zip(values);
        numbers.extend(pairs.map(|(&(metric, name), &value)| Number { metric, name, value }));
    };
    for (names, all) in [(POOL, &main), (PER_SECOND_POOL, &per_second)] {
        if all.is_empty() {
            continue;
        }
        let active = all.iter().map(|redis| redis.connections()).sum();
        let made: u64 = all.iter().map(|redis| redis.stats().connects.get()).sum();
        put(&names, &[active, made, made.saturating_sub(active)]);
    }
    let all: Vec<&Redis> = main.into_iter().chain(per_second).collect();
    if let Some((lookups, hits)) = local_cache.filter(|_| !all.is_empty()) {
        let entries = all.iter().map(|redis| redis.cached_denials()).sum();
        put(&LOCAL_CACHE, &[hits, lookups - hits, lookups, entries]);
    }
    numbers
}

/// Brings to the recorder what the stores have counted.
pub(super) fn show(recorder: &Recorder, stores: &[Store]) {
    // All cores share one memory store.
    let memory = stores.iter().find_map(|store| match store {
        Store::Memory(memory) => Some(memory),
        Store::Redis(_) | Store::Split(_) => None,
    });
    if let Some(memory) = memory {
        show_memory(recorder, memory);
    }
    let redis: Vec<_> = stores
        .iter()
        .flat_map(|store| match store {
            Store::Redis(redis) => vec![redis],
            Store::Split(split) => vec![&split.main, &split.per_second],
            Store::Memory(_) => Vec::new(),
        })
        .collect();
    if let Some(first) = redis.first() {
        // All cores share one.
        let deferred = first.deferred();
        recorder.show_level(Metric::OwedCounters, &[], deferred.counters() as f64);
        for outcome in DeferredOutcome::ALL {
            recorder.show_count(Metric::OwedHits, &[outcome.name()], deferred.hits(outcome));
        }
        show_redis(recorder, &redis);
    }
}

fn show_memory(recorder: &Recorder, memory: &Memory) {
    recorder.show_level(Metric::MemoryCounters, &[], memory.counters() as f64);
    recorder.show_level(Metric::MemoryBytes, &[], memory.bytes() as f64);
    recorder.show_count(Metric::MemoryOverflowHits, &[], memory.overflow_hits());
    recorder.show_count(Metric::MemoryExpired, &[], memory.expired());
    recorder.show_count(Metric::MemoryThinned, &[], memory.thinned());
    recorder.show_count(Metric::MemorySetBackCounters, &[], memory.clock_steps());
}

fn show_redis(recorder: &Recorder, redis: &[&Redis]) {
    for (metric, count) in REDIS {
        recorder.show_count(metric, &[], redis.iter().map(|redis| count(redis.stats()).get()).sum());
    }
    recorder.show_level(Metric::RedisBreakersOpen, &[], f64::from(open_of(redis)));
    let by_slot = redis.iter().map(|redis| redis.stats().nodes_by_slot.get()).sum::<i64>().max(0);
    recorder.show_level(Metric::RedisNodesBySlot, &[], by_slot as f64);
    let up = redis.iter().filter(|redis| redis.is_up()).count();
    recorder.show_level(Metric::RedisConnections, &[], up as f64);
}

fn open_of(redis: &[&Redis]) -> u32 {
    let open = redis.iter().map(|redis| redis.stats().breakers_open.get()).sum::<i64>();
    u32::try_from(open.max(0)).unwrap_or(u32::MAX)
}

/// Circuit breakers of these stores that are open.
pub(super) fn breakers_open(stores: &[Store]) -> u32 {
    let redis = |store: &Store| match store {
        Store::Memory(_) => 0,
        Store::Redis(redis) => open_of(&[redis]),
        Store::Split(split) => open_of(&[&split.main, &split.per_second]),
    };
    stores.iter().map(redis).sum()
}

/// A metric, and where a core has counted for it.
type OfCore = (Metric, fn(&RedisStats) -> &StatCounter);

const REDIS: [OfCore; 20] = [
    (Metric::RedisBatches, |stats| &stats.batches),
    (Metric::RedisBatchCounters, |stats| &stats.counters),
    (Metric::RedisBatchRequests, |stats| &stats.requests),
    (Metric::RedisMergedRequests, |stats| &stats.merged),
    (Metric::RedisDeniedAgain, |stats| &stats.denied_from_cache),
    (Metric::RedisTimeouts, |stats| &stats.timeouts),
    (Metric::RedisUnreachable, |stats| &stats.unreachable),
    (Metric::RedisRefused, |stats| &stats.refused),
    (Metric::RedisOverloaded, |stats| &stats.overloaded),
    (Metric::RedisDamagedCounters, |stats| &stats.damaged),
    (Metric::RedisSetBackCounters, |stats| &stats.set_back),
    (Metric::RedisLateBatches, |stats| &stats.late),
    (Metric::RedisRefunds, |stats| &stats.refunds),
    (Metric::RedisRefundsFailed, |stats| &stats.refunds_failed),
    (Metric::RedisElsewhere, |stats| &stats.elsewhere),
    (Metric::RedisEvictedKeys, |stats| &stats.evicted),
    (Metric::RedisLayoutMismatches, |stats| &stats.mismatches),
    (Metric::RedisBreakerOpens, |stats| &stats.breaker_opens),
    (Metric::RedisConnects, |stats| &stats.connects),
    (Metric::RedisConnectFailures, |stats| &stats.connect_failures),
];
