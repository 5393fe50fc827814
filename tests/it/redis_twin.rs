//! The script in Redis is the twin of the Rust algorithms: random histories are played on both, with time passed in,
//! and every reading and every stored state must be the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tollgate::algorithm::{State, undo};
use tollgate::limit::{Algorithm, Cost, Entry, Limit, Micros, Reading, UnixMicros};
use tollgate::store::redis::{Address, Redis, RedisSettings, Topology};
use tollgate::store::settle::settle;
use tollgate::store::{CounterCheck, Gate, Key, Readings, Role, key};

use crate::redis_server::RedisServer;

const START: u64 = 1_800_000_000_123_456;

pub(crate) fn settings(server: &RedisServer) -> RedisSettings {
    RedisSettings::new(Topology::Single(Address::Tcp { host: "127.0.0.1".into(), port: server.port() }))
}

/// A store on the runtime of the test, connected.
pub(crate) async fn store(settings: RedisSettings) -> Redis {
    let redis = Redis::start(Arc::new(settings), &TaskTracker::new(), CancellationToken::new());
    tokio::time::timeout(Duration::from_secs(10), redis.up()).await.expect("Redis is there");
    redis
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// What a limit for users asks, enforced.
pub(crate) fn ask_of<'a>(domain: &'a str, entries: &'a [Entry<'a>], limit: Limit, hits: i64) -> CounterCheck<'a> {
    CounterCheck {
        key: Key { domain, entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit,
        cost: Cost { hits, charge_denied: false },
        role: Role::Enforced,
    }
}

/// What is put to one counter, owned.
#[derive(Clone, Debug)]
struct Put {
    user: String,
    limit: Limit,
    cost: Cost,
    role: Role,
}

#[derive(Clone, Debug)]
struct Question {
    puts: Vec<Put>,
    gate: Gate,
}

/// The Rust half: states by key.
#[derive(Default)]
struct Model {
    states: HashMap<Vec<u8>, (State, Limit)>,
}

impl Question {
    fn entries(&self) -> Vec<[Entry<'_>; 1]> {
        self.puts.iter().map(|put| [Entry { key: "user", value: &put.user }]).collect()
    }

    fn asks<'a>(&self, entries: &'a [[Entry<'a>; 1]]) -> Vec<CounterCheck<'a>> {
        let check = |(put, entries): (&Put, &'a [Entry<'a>; 1])| CounterCheck {
            key: Key { domain: "twin", entries, shared: &[], limit_name: "", variable: 0 },
            rule: 0,
            limit: put.limit,
            cost: put.cost,
            role: put.role,
        };
        self.puts.iter().zip(entries).map(check).collect()
    }
}

fn text(check: &CounterCheck<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    key::write(&mut out, "", key::bucket(&check.key, key::Buckets::DEFAULT), &check.key, &check.limit);
    out
}

impl Model {
    fn apply(&mut self, question: &Question, now: UnixMicros) -> Readings {
        let entries = question.entries();
        let checks = question.asks(&entries);
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let slots: Vec<usize> = checks
            .iter()
            .map(|check| {
                let key = text(check);
                keys.iter().position(|known| *known == key).unwrap_or_else(|| {
                    keys.push(key);
                    keys.len() - 1
                })
            })
            .collect();
        let mut states: Vec<State> =
            keys.iter().map(|key| self.states.get(key).map_or(State::Empty, |(state, _)| state.clone())).collect();
        let readings = settle(&checks, &slots, &mut states, question.gate, now);
        for (check, &slot) in checks.iter().zip(&slots) {
            self.states.insert(keys[slot].clone(), (states[slot].clone(), check.limit));
        }
        readings
    }

    /// Takes back what the one put of `question` charged as of `charged`.
    fn undo(&mut self, question: &Question, charged: UnixMicros, now: UnixMicros) -> Reading {
        let entries = question.entries();
        let [check] = &question.asks(&entries)[..] else { panic!("one charge at a time") };
        let (state, _) = self.states.remove(&text(check)).unwrap_or((State::Empty, check.limit));
        let (state, reading) = undo(&check.limit, state, check.cost.hits, charged, now);
        self.states.insert(text(check), (state, check.limit));
        reading
    }
}

/// What Redis holds under a key, as the Rust half would have it.
fn stored(connection: &mut redis::Connection, key: &[u8], algorithm: Algorithm) -> State {
    let bytes: Option<Vec<u8>> = redis::cmd("GET").arg(key).query(connection).unwrap();
    match bytes {
        None => State::Empty,
        Some(bytes) => State::from_redis(&bytes, algorithm).unwrap_or_else(|| panic!("{algorithm:?}: {bytes:?}")),
    }
}

fn random_limits(random: &mut SmallRng, algorithm: Algorithm) -> Vec<Limit> {
    let window = *[1_000, 999_983, 1_000_000, 60_000_000, 3_600_000_000, 315_360_000_000_000].choose(random).unwrap();
    let sub_windows = *[1, 2, 3, 7, 32, 64].choose(random).unwrap();
    let requests: Vec<u32> = match random.random_range(0..6) {
        0 => vec![0],
        1 if algorithm != Algorithm::SlidingLog => vec![u32::MAX],
        // A limit that is changed now and then goes on with the count that it has.
        2 => vec![3, 11],
        _ => vec![random.random_range(1..30)],
    };
    let burst = match random.random_range(0..3) {
        0 => 1,
        1 => random.random_range(0..40),
        _ => requests[0],
    };
    let limit = |requests| Limit { burst, sub_windows, ..Limit::new(requests, Micros(window), algorithm) };
    requests.into_iter().map(limit).collect()
}

fn random_cost(random: &mut SmallRng, limit: Limit) -> Cost {
    let hits = match random.random_range(0..12) {
        0 => 0,
        1 => -random.random_range(1..6),
        2 => i64::from(limit.requests),
        3 => i64::from(limit.requests) + 1,
        4 => random.random_range(1..10),
        5 => *[i64::MAX, 1 << 32, i64::MIN, -(1 << 32), 1 << 31].choose(random).unwrap(),
        _ => 1,
    };
    Cost { hits, charge_denied: random.random_bool(0.2) }
}

fn random_question(random: &mut SmallRng, counters: &[(String, Vec<Limit>)]) -> Question {
    let checks = *[1, 1, 1, 2, 3, 5].choose(random).unwrap();
    let puts = (0..checks)
        .map(|_| {
            let (user, limits) = counters.choose(random).unwrap();
            let limit = *limits.choose(random).unwrap();
            let role = *[Role::Enforced, Role::Enforced, Role::Quota, Role::Shadow].choose(random).unwrap();
            Put { user: user.clone(), limit, cost: random_cost(random, limit), role }
        })
        .collect();
    Question { puts, gate: Gate { quota_open: random.random_bool(0.2), never_deny: random.random_bool(0.1) } }
}

/// Mostly forward: not at all, a little, about a sub-window, about a window; sometimes back, by little or by far.
fn random_step(random: &mut SmallRng, window: u64, now: u64) -> u64 {
    let by = match random.random_range(0..10) {
        0..=2 => 0,
        3 => random.random_range(0..=window / 100),
        4..=6 => random.random_range(0..=window / 16),
        7 => random.random_range(0..=2 * window),
        8 => return now.saturating_sub(random.random_range(0..=window)).max(1),
        _ => return now.saturating_sub(random.random_range(0..=3 * window)).max(1),
    };
    now + by
}

async fn play(redis: &Redis, server: &RedisServer, seed: u64, algorithm: Algorithm) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut connection = server.connection();
    let counters: Vec<(String, Vec<Limit>)> =
        (0..3).map(|n| (format!("{algorithm:?}{seed}-{n}"), random_limits(&mut random, algorithm))).collect();
    let window = counters[0].1[0].window.0;
    let mut now = START;
    let mut times = vec![START];
    for turn in 0..40 {
        now = random_step(&mut random, window, now);
        // Several at once make one batch; some of them are identical and share its work.
        let mut questions = vec![random_question(&mut random, &counters)];
        for _ in 0..random.random_range(0..4) {
            let next = if random.random_bool(0.6) {
                questions.choose(&mut random).unwrap().clone()
            } else {
                random_question(&mut random, &counters)
            };
            questions.push(next);
        }
        let said = ask_together(redis, &questions, now).await;
        // Identical requests are decided together, at the place of the first.
        let mut expected: Vec<Option<Readings>> = vec![None; questions.len()];
        for first in 0..questions.len() {
            for nth in first..questions.len() {
                if expected[nth].is_none() && format!("{:?}", questions[nth]) == format!("{:?}", questions[first]) {
                    expected[nth] = Some(model.apply(&questions[nth], UnixMicros(now)));
                }
            }
        }
        for (nth, (said, expected)) in said.iter().zip(&expected).enumerate() {
            let expected = expected.as_ref().unwrap();
            assert_eq!(said, expected, "seed {seed}, turn {turn}, now {now}, question {nth} of {questions:#?}");
        }
        times.push(now);
        if random.random_bool(0.4) {
            let mut taken = random_question(&mut random, &counters);
            taken.puts.truncate(1);
            taken.puts[0].cost = Cost { hits: random.random_range(1..8), charge_denied: false };
            // Mostly of the last turns; some have left, and of some nothing was charged.
            let charged = UnixMicros(times[times.len().saturating_sub(random.random_range(1..6))]);
            let entries = taken.entries();
            let said = redis.undo_at(&taken.asks(&entries)[0], charged, UnixMicros(now), soon()).await;
            let expected = model.undo(&taken, charged, UnixMicros(now));
            assert_eq!(said, Some(expected), "seed {seed}, turn {turn}, now {now}, back to {charged:?} in {taken:#?}");
        }
        for (key, (state, limit)) in &model.states {
            let held = stored(&mut connection, key, limit.algorithm);
            assert_eq!(&held, state, "seed {seed}, turn {turn}, now {now}, after {questions:#?}");
        }
    }
}

/// All at once, so that they leave as one batch: none is answered before all were asked.
async fn ask_together(redis: &Redis, questions: &[Question], now: u64) -> Vec<Readings> {
    let mut asked = tokio::task::JoinSet::new();
    for (nth, question) in questions.iter().cloned().enumerate() {
        let redis = redis.clone();
        asked.spawn(async move {
            let entries = question.entries();
            let checks = question.asks(&entries);
            (nth, redis.apply_at(&checks, question.gate, UnixMicros(now), soon()).await.expect("Redis answers"))
        });
    }
    let mut said = asked.join_all().await;
    said.sort_by_key(|(nth, _)| *nth);
    said.into_iter().map(|(_, readings)| readings).collect()
}

#[tokio::test]
async fn random_histories_read_and_store_the_same_in_lua_as_in_rust() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    for algorithm in Algorithm::ALL {
        for seed in 0..30 {
            play(&redis, &server, seed, algorithm).await;
        }
    }
    assert!(redis.stats().merged.get() > 1_000, "identical requests were merged");
    assert!(redis.stats().set_back.get() > 0, "some clocks stepped back by far");
    assert_eq!(redis.stats().damaged.get(), 0);
}

/// What is put to a long log: mostly single hits at its pace, so that it is full and goes round; now and then everything else
/// that can happen to it. A clock far ahead is set back by years.
fn long_step(random: &mut SmallRng, limit: Limit, now: u64) -> (u64, Cost) {
    let (pace, requests) = (limit.window.0 / u64::from(limit.requests), i64::from(limit.requests));
    let now = match random.random_range(0..500) {
        0 => now + random.random_range(0..=limit.window.0),
        1 => now + limit.window.0 / 2,
        2 => now - random.random_range(0..=limit.window.0 / 10),
        3 => now - random.random_range(0..=3 * limit.window.0),
        4 if now > 1 << 52 => now - random.random_range(1 << 47..=1 << 50),
        5..80 => now,
        _ => now + random.random_range(1..=2 * pace),
    };
    let hits = match random.random_range(0..150) {
        0 => 0,
        1 => requests / 2,
        2 => -random.random_range(1..=requests / 3),
        3 => -random.random_range(1..4),
        4 => *[i64::MAX, 1 << 31, -(1 << 33)].choose(random).unwrap(),
        5 => requests + 1,
        6..12 => random.random_range(2..9),
        _ => 1,
    };
    (now, Cost { hits, charge_denied: random.random_bool(0.05) })
}

#[tokio::test]
async fn long_logs_read_and_store_the_same_in_lua_as_in_rust() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let mut connection = server.connection();
    let (mut entries_max, mut rewrites) = (0, 0);
    for (seed, requests, start) in [(1, 24, START), (2, 90, START), (3, 400, START), (4, 300, 7_000_000_000_000_000)] {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut model = Model::default();
        let limit = Limit::new(requests, Micros(3_600_000_000), Algorithm::SlidingLog);
        let user = format!("long{seed}");
        let question = |cost| Question {
            puts: vec![Put { user: user.clone(), limit, cost, role: Role::Enforced }],
            gate: Gate::default(),
        };
        let (mut now, mut set_back, mut times) = (start, 0, Vec::new());
        for turn in 0..2_000 {
            let (next, mut cost) = long_step(&mut random, limit, now);
            set_back += now.saturating_sub(next);
            rewrites += u32::from(set_back > 1 << 50 && next + limit.window.0 < now);
            now = next;
            let what = format!("seed {seed}, turn {turn}, now {now}, {cost:?}");
            times.push(now);
            if random.random_range(0..20) == 0 {
                // Of the last turns, of which some lie in the middle of the log.
                let charged = UnixMicros(times[times.len().saturating_sub(random.random_range(1..200))]);
                cost.hits = random.random_range(1..4);
                let taken = question(cost);
                let entries = taken.entries();
                let said = redis.undo_at(&taken.asks(&entries)[0], charged, UnixMicros(now), soon()).await;
                assert_eq!(said, Some(model.undo(&taken, charged, UnixMicros(now))), "back to {charged:?}: {what}");
            } else {
                let asked = question(cost);
                let said = ask_together(&redis, std::slice::from_ref(&asked), now).await;
                assert_eq!(said[0], model.apply(&asked, UnixMicros(now)), "{what}");
            }
            for (key, (state, limit)) in model.states.iter().filter(|_| turn % 7 == 0) {
                assert_eq!(&stored(&mut connection, key, limit.algorithm), state, "{what}");
                entries_max = entries_max.max(state.contents(limit, UnixMicros(now)).omitted);
            }
        }
    }
    assert!(entries_max > 150, "a log had {entries_max} entries and twenty more");
    assert!(rewrites > 0, "a clock was set back by more than a log can note");
    assert!(redis.stats().set_back.get() > 10, "clocks were set back by far");
    assert_eq!(redis.stats().damaged.get(), 0);
}

/// A request of `asks` counters of its own: what comes in a crowd, of which Redis decides many in one go.
fn own_question(random: &mut SmallRng, user: usize, limits: &[Limit]) -> Question {
    let put = |(nth, limit): (usize, &Limit)| Put {
        user: format!("crowd{}-{user}-{nth}", limits.len()),
        limit: *limit,
        cost: Cost { hits: if random.random_range(0..30) == 0 { 3 } else { 1 }, charge_denied: false },
        role: Role::Enforced,
    };
    Question { puts: limits.iter().enumerate().map(put).collect(), gate: Gate::default() }
}

/// Crowds of requests that share no counter, most of them usual; here and there one is refused, by any of its limits.
#[tokio::test]
async fn a_crowd_of_requests_reads_and_stores_the_same_as_one_after_the_other() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let mut connection = server.connection();
    let limit = |requests, algorithm| Limit::new(requests, Micros(60_000_000), algorithm);
    let sliding = |requests| limit(requests, Algorithm::SlidingWindow);
    let shapes: [&[Limit]; 5] = [
        &[sliding(9)],
        &[sliding(9), sliding(14)],
        &[sliding(40), sliding(9), sliding(12)],
        &[sliding(12), limit(9, Algorithm::FixedWindow), sliding(10)],
        &[limit(9, Algorithm::TokenBucket)],
    ];
    let mut refused = [0; 5];
    for seed in 0..4 {
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut model, mut now) = (Model::default(), START + seed * 600_000_000);
        for turn in 0..30 {
            now = random_step(&mut random, 60_000_000, now);
            let mut crowd: Vec<(usize, Question)> = Vec::new();
            for (nth, shape) in shapes.iter().enumerate() {
                let users = (0..20).filter(|_| random.random_bool(0.6)).collect::<Vec<usize>>();
                crowd.extend(users.into_iter().map(|user| (nth, own_question(&mut random, user + 100 * nth, shape))));
            }
            let questions: Vec<Question> = crowd.iter().map(|(_, question)| question.clone()).collect();
            let said = ask_together(&redis, &questions, now).await;
            for (said, (shape, question)) in said.iter().zip(&crowd) {
                let expected = model.apply(question, UnixMicros(now));
                assert_eq!(said, &expected, "seed {seed}, turn {turn}, now {now}, {question:#?}");
                refused[*shape] += u32::from(!said.iter().all(|reading| reading.admitted));
            }
        }
        for (key, (state, limit)) in &model.states {
            assert_eq!(&stored(&mut connection, key, limit.algorithm), state, "seed {seed}, now {now}");
        }
        redis::cmd("FLUSHALL").exec(&mut connection).expect("it is ours");
    }
    assert!(refused.iter().all(|&count| count > 20), "each shape was refused here and there: {refused:?}");
    assert_eq!(redis.stats().damaged.get(), 0);
}
