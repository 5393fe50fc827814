//! Logs with thousands of entries: what a request over them takes of Redis, whose one thread everybody waits for.

use tollgate::{
    limit::{Algorithm, Entry, Limit, Micros, SECOND, UnixMicros},
    store::{CounterCheck, Gate, redis::Redis},
};

use crate::{
    redis_server::RedisServer,
    redis_twin::{ask_of, settings, soon, store},
};

const START: u64 = 1_800_000_000_123_456;
const WINDOW: Micros = Micros(3_600 * SECOND.0);
const SHORT: u32 = 10;
const LONG: u32 = 10_000;

/// Calls of one spell, and spells of each kind in turn: the cheapest spell counts, for whatever else the machine does only
/// adds to it.
const CALLS: u64 = 100;
const SPELLS: usize = 7;

/// Counters of one limit, each with a log that is full of hits at even distances.
struct Logs<'a> {
    redis: &'a Redis,
    limit: Limit,
    users: Vec<String>,
    now: u64,
}

impl Logs<'_> {
    /// One log is filled by hits, the others are copies of it.
    async fn fill<'a>(redis: &'a Redis, server: &RedisServer, requests: u32, counters: usize) -> Logs<'a> {
        let limit = Limit::new(requests, WINDOW, Algorithm::SlidingLog);
        let users = (0..counters).map(|nth| format!("{requests}-{counters}-{nth}")).collect();
        let mut logs = Logs { redis, limit, users, now: START };
        let others = logs.users.split_off(1);
        for _ in 0..requests {
            assert!(logs.put(1).await, "the log has room until it is full");
        }
        let mut connection = server.connection();
        let key = |user: &str| {
            let entries = [Entry { key: "user", value: user }];
            settings(server).counter_key(&ask_of("long", &entries, limit, 1).key, &limit)
        };
        let filled: Vec<u8> = redis::cmd("GET").arg(key(&logs.users[0])).query(&mut connection).expect("it is there");
        for user in &others {
            redis::cmd("SET")
                .arg(key(user))
                .arg(&filled)
                .arg("EX")
                .arg(86_400)
                .exec(&mut connection)
                .expect("it is ours");
        }
        logs.users.extend(others);
        logs
    }

    /// One request over all of them, when the oldest entry of a full log has just left; whether it was admitted.
    async fn put(&mut self, hits: i64) -> bool {
        self.now += WINDOW.0 / u64::from(self.limit.requests);
        self.ask(hits).await
    }

    async fn ask(&self, hits: i64) -> bool {
        let entries: Vec<[Entry<'_>; 1]> = self.users.iter().map(|user| [Entry { key: "user", value: user }]).collect();
        let checks: Vec<CounterCheck<'_>> =
            entries.iter().map(|entries| ask_of("long", entries, self.limit, hits)).collect();
        let answer = self.redis.apply_at(&checks, Gate::default(), UnixMicros(self.now), soon()).await;
        answer.expect("Redis answers").iter().all(|reading| reading.admitted)
    }

    /// Runs a spell; µs of Redis for each call.
    async fn spell(&mut self, server: &RedisServer, kind: Kind) -> f64 {
        server.cli(&["config", "resetstat"]);
        for _ in 0..CALLS {
            match kind {
                Kind::Admitted => assert!(self.put(1).await),
                Kind::Refused => assert!(!self.ask(1).await),
                Kind::Look => assert!(self.ask(0).await),
            }
        }
        let stats = server.cli(&["info", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).expect("scripts were called");
        let number = |name: &str| line.split(',').find_map(|field| field.strip_prefix(name)?.parse::<f64>().ok());
        assert_eq!(number("calls="), Some(CALLS as f64), "one script for each request");
        number("usec_per_call=").expect("Redis says it")
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Admitted,
    Refused,
    Look,
}

/// By kind: what a request over long logs takes of Redis as a multiple of the same over short ones.
async fn long_by_short(counters: usize) -> Vec<(Kind, f64, f64)> {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let mut short = Logs::fill(&redis, &server, SHORT, counters).await;
    let mut long = Logs::fill(&redis, &server, LONG, counters).await;
    let mut costs = Vec::new();
    for kind in [Kind::Admitted, Kind::Refused, Kind::Look] {
        let (mut of_short, mut of_long) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..SPELLS {
            of_short = of_short.min(short.spell(&server, kind).await);
            of_long = of_long.min(long.spell(&server, kind).await);
        }
        println!("{counters} counters, {kind:?}: {of_short} µs over short logs, {of_long} µs over long ones");
        costs.push((kind, of_short, of_long));
    }
    assert_eq!(redis.stats().damaged.get(), 0);
    costs
}

#[tokio::test]
async fn a_request_on_a_log_of_10_000_entries_takes_as_much_of_redis_as_on_one_of_10() {
    for (kind, short, long) in long_by_short(1).await {
        assert!(long <= 2.0 * short, "{kind:?}: {long} µs, and {short} µs on a short log");
    }
}

#[tokio::test]
async fn one_request_over_64_long_logs_does_not_stall_redis_for_everybody_else() {
    for (kind, short, long) in long_by_short(64).await {
        // More than for one, because what they hold fits in no near cache.
        assert!(long <= 3.0 * short, "{kind:?}: {long} µs, and {short} µs over short logs");
    }
}
