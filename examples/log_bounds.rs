//! What a request over logs takes of Redis, by their length: alone and over 64 of them at once; and a charge that is taken back
//! from the middle of a log, which is the dearest that can be asked of it. Redis counts the time itself (INFO commandstats).
//!
//! ```text
//! redis-server --port 6400 --save '' &
//! cargo run --example log_bounds 127.0.0.1:6400
//! ```
//!
//! Fails where what doesn't grow with a log is promised and does.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate::{
    limit::{Algorithm, Cost, Entry, Limit, Micros, SECOND, UnixMicros},
    store::{
        CounterCheck, Gate, Key, Role,
        redis::{Address, Redis, RedisSettings, Topology},
    },
};

const START: u64 = 1_800_000_000_123_456;
const WINDOW: Micros = Micros(3_600 * SECOND.0);
const LENGTHS: [u32; 5] = [10, 100, 1_000, 4_000, 10_000];

/// Calls of a spell, and spells: the cheapest counts, for the machine only adds.
const CALLS: u32 = 50;
const SPELLS: u32 = 7;

/// By how much the longest logs may take longer than the shortest, alone and 64 at once, which fit in no near cache.
const GROWTH_MAX: [(usize, f64); 2] = [(1, 2.0), (64, 3.0)];

struct Logs<'a> {
    store: &'a Redis,
    users: Vec<String>,
    limit: Limit,
    now: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("the address of an empty Redis, host:port")?;
    let mut redis = redis::Client::open(format!("redis://{address}/"))?.get_connection()?;
    let size: usize = redis::cmd("DBSIZE").query(&mut redis)?;
    ensure!(size == 0, "the Redis at {address} isn't empty");
    let (host, port) = address.rsplit_once(':').context("host:port")?;
    let settings = RedisSettings::new(Topology::Single(Address::Tcp { host: host.to_owned(), port: port.parse()? }));
    let stop = CancellationToken::new();
    let store = Redis::start(Arc::new(settings), &TaskTracker::new(), stop.clone());
    timeout(Duration::from_secs(10), store.up()).await.context("Redis does not answer")?;

    println!("counters  entries  admitted  refused  taken back from the middle   (µs of Redis for each request)");
    for (counters, growth_max) in GROWTH_MAX {
        let mut of_shortest = None;
        for entries in LENGTHS {
            let mut logs = Logs::filled(&store, &mut redis, entries, counters).await?;
            let [admitted, refused] = [logs.spell(&mut redis, 1).await?, logs.spell(&mut redis, 0).await?];
            let middle = if counters == 1 { format!("{:>8.0}", logs.undo(&mut redis).await?) } else { String::new() };
            println!("{counters:>8}  {entries:>7}  {admitted:>8.0}  {refused:>7.0}  {middle}");
            let [least, other] = *of_shortest.get_or_insert([admitted, refused]);
            ensure!(admitted <= growth_max * least && refused <= growth_max * other, "it grows with the log");
        }
    }
    stop.cancel();
    Ok(())
}

impl Logs<'_> {
    /// Full logs: one is hit until it is, the others are copies.
    async fn filled<'a>(
        store: &'a Redis,
        redis: &mut redis::Connection,
        entries: u32,
        counters: usize,
    ) -> anyhow::Result<Logs<'a>> {
        let limit = Limit::new(entries, WINDOW, Algorithm::SlidingLog);
        let users = (0..counters).map(|nth| format!("{entries}-{counters}-{nth}")).collect();
        let mut logs = Logs { store, users, limit, now: START };
        let others = logs.users.split_off(1);
        for _ in 0..entries {
            logs.put(1).await?;
        }
        let key = |user: &str| store.counter_key(&ask(&[Entry { key: "user", value: user }], limit));
        let full: Vec<u8> = redis::cmd("GET").arg(key(&logs.users[0])).query(redis)?;
        for user in &others {
            redis::cmd("SET").arg(key(user)).arg(&full).arg("EX").arg(86_400).exec(redis)?;
        }
        logs.users.extend(others);
        Ok(logs)
    }

    /// One request over all of them, `paces` after the last: at one pace the oldest hit of each has just left.
    async fn put(&mut self, paces: u64) -> anyhow::Result<()> {
        self.now += paces * WINDOW.0 / u64::from(self.limit.requests);
        let entries: Vec<[Entry<'_>; 1]> = self.users.iter().map(|user| [Entry { key: "user", value: user }]).collect();
        let checks: Vec<CounterCheck<'_>> = entries.iter().map(|entries| ask(entries, self.limit)).collect();
        let answer = self.store.apply_at(&checks, Gate::default(), UnixMicros(self.now), soon()).await?;
        let admitted = answer.iter().all(|reading| reading.admitted);
        ensure!(admitted == (paces > 0), "a full log admits when its oldest hit has left, and not before");
        Ok(())
    }

    /// µs of Redis for each request of the cheapest spell.
    async fn spell(&mut self, redis: &mut redis::Connection, paces: u64) -> anyhow::Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..SPELLS {
            redis::cmd("CONFIG").arg("RESETSTAT").exec(redis)?;
            for _ in 0..CALLS {
                self.put(paces).await?;
            }
            least = least.min(taken(redis)?);
        }
        Ok(least)
    }

    /// µs of Redis to take back a charge that half of the log is newer than.
    async fn undo(&mut self, redis: &mut redis::Connection) -> anyhow::Result<f64> {
        let entries = [Entry { key: "user", value: &self.users[0] }];
        let half = u64::from(self.limit.requests / 2) * (WINDOW.0 / u64::from(self.limit.requests));
        redis::cmd("CONFIG").arg("RESETSTAT").exec(redis)?;
        let (charged, now) = (UnixMicros(self.now - half), UnixMicros(self.now));
        let undone = self.store.undo_at(&ask(&entries, self.limit), charged, now, soon()).await;
        ensure!(undone.is_some_and(|reading| reading.remaining == 1), "one hit was taken back");
        taken(redis)
    }
}

fn ask<'a>(entries: &'a [Entry<'a>], limit: Limit) -> CounterCheck<'a> {
    CounterCheck {
        key: Key { domain: "log_bounds", entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit,
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// µs for each script since the last reset.
fn taken(redis: &mut redis::Connection) -> anyhow::Result<f64> {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(redis)?;
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).context("no script was called")?;
    let field = line.split(',').find_map(|field| field.strip_prefix("usec_per_call=")).context("Redis says it")?;
    Ok(field.parse()?)
}
