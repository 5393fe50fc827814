//! Exactly the limit is admitted, whoever asks, however many at once, against one Redis and against a Cluster.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tollgate::limit::{Algorithm, Entry, Limit, Unit, UnixMicros};
use tollgate::store::redis::{Address, ClusterBatch, Redis, RedisSettings, Topology};
use tollgate::store::{CounterCheck, Gate, Key, Store, StoreError, key};

use crate::chaos::proxy::{Proxy, Weather};
use crate::harness::{PATIENCE, eventually};
use crate::redis_clock::Clock;
use crate::redis_server::{RedisCluster, RedisServer};
use crate::redis_twin::{ask_of, settings, soon, store};

const REPLICAS: usize = 3;
const REQUESTS: usize = 2_000;

fn limit(requests: u32, algorithm: Algorithm) -> Limit {
    // So long a window that a bucket regains nothing while the test runs.
    Limit { burst: requests, ..Limit::new(requests, Unit::Year.window(), algorithm) }
}

fn ask<'a>(entries: &'a [Entry<'a>], limit: Limit, hits: i64) -> CounterCheck<'a> {
    ask_of("exact", entries, limit, hits)
}

/// One request over the counters of `users`, each with its limit.
async fn admitted(redis: &Redis, users: &[(&str, Limit)]) -> bool {
    let entries: Vec<[Entry<'_>; 1]> = users.iter().map(|(user, _)| [Entry { key: "user", value: user }]).collect();
    let checks: Vec<CounterCheck<'_>> =
        entries.iter().zip(users).map(|(entries, (_, limit))| ask(entries, *limit, 1)).collect();
    let readings = redis.apply(&checks, Gate::default(), soon()).await.expect("Redis answers");
    readings.iter().all(|reading| reading.admitted)
}

async fn remaining(redis: &Redis, user: &str, limit: Limit) -> u64 {
    let entries = [Entry { key: "user", value: user }];
    redis.apply(&[ask(&entries, limit, 0)], Gate::default(), soon()).await.expect("Redis answers")[0].remaining
}

/// How many of all replicas' requests were admitted.
async fn rush(replicas: &[Redis], users: &'static [(&'static str, u32)], algorithm: Algorithm) -> usize {
    let mut asked = JoinSet::new();
    for nth in 0..REQUESTS * REPLICAS {
        let redis = replicas[nth % REPLICAS].clone();
        asked.spawn(async move {
            let users: Vec<(&str, Limit)> = users.iter().map(|(user, max)| (*user, limit(*max, algorithm))).collect();
            admitted(&redis, &users).await
        });
    }
    asked.join_all().await.into_iter().filter(|admitted| *admitted).count()
}

async fn replicas(settings: RedisSettings) -> Vec<Redis> {
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(store(settings.clone()).await);
    }
    replicas
}

pub(crate) fn of_cluster(cluster: &RedisCluster) -> RedisSettings {
    let address = |server: &RedisServer| Address::Tcp { host: "127.0.0.1".into(), port: server.port() };
    RedisSettings::new(Topology::Cluster { seeds: cluster.nodes.iter().skip(1).map(address).collect() })
}

/// The slot of a user's counters in a new Cluster.
pub(crate) fn slot(user: &str) -> u16 {
    let entries = [Entry { key: "user", value: user }];
    let key = Key { domain: "exact", entries: &entries, shared: &[], limit_name: "", variable: 0 };
    key::slot_of_bucket("", key::bucket(&key, key::Buckets::EachSlot))
}

/// A user of each node, in the order in which a request asks them, with the number of the node.
fn user_of_each_node(cluster: &RedisCluster) -> [(&'static str, usize); 3] {
    let mut nodes = [0, 1, 2];
    nodes.sort_by_key(|node| cluster.nodes[*node].port());
    nodes.map(|node| {
        let user = (0..).map(|nth| format!("u{nth}")).find(|user| cluster.node_of(slot(user)) == node);
        (&*user.expect("some user").leak(), node)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_admit_exactly_the_limit() {
    let server = RedisServer::start();
    let replicas = replicas(settings(&server)).await;
    for algorithm in Algorithm::ALL {
        assert_eq!(rush(&replicas, &[("alone", 100)], algorithm).await, 100, "{algorithm:?}");
        // Of two counters the tighter one denies, and the other is charged only for what passed.
        assert_eq!(rush(&replicas, &[("wide", 300), ("tight", 100)], algorithm).await, 100, "{algorithm:?}");
        assert_eq!(remaining(&replicas[0], "wide", limit(300, algorithm)).await, 200, "{algorithm:?}");
    }
}

/// Every request is answered by Redis itself (`admitted` wants no less), and none is charged twice for being sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_flushed_in_the_middle_of_a_rush_lose_no_request_and_charge_none_twice() {
    let server = RedisServer::start();
    let replicas = replicas(settings(&server)).await;
    let (is_over, mut connection) = (CancellationToken::new(), server.connection());
    let flusher = std::thread::spawn({
        let is_over = is_over.clone();
        move || {
            let mut flushes = 0;
            while !is_over.is_cancelled() {
                let () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut connection).expect("Redis is up");
                flushes += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            flushes
        }
    });
    let is_over = is_over.drop_guard();
    for algorithm in Algorithm::ALL {
        assert_eq!(rush(&replicas, &[("wide", 300), ("tight", 100)], algorithm).await, 100, "{algorithm:?}");
        assert_eq!(remaining(&replicas[0], "wide", limit(300, algorithm)).await, 200, "{algorithm:?}");
    }
    drop(is_over);
    let flushes = flusher.join().expect("it only flushes");
    let loads: u64 = replicas.iter().map(|redis| redis.stats().script_loads.get()).sum();
    assert!(flushes > 1 && loads > 1, "{flushes} flushes, {loads} loads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_of_a_cluster_admit_exactly_the_limit() {
    let cluster = RedisCluster::start();
    let replicas = replicas(of_cluster(&cluster)).await;
    for algorithm in Algorithm::ALL {
        assert_eq!(rush(&replicas, &[("alone", 100)], algorithm).await, 100, "{algorithm:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_several_nodes_never_more_than_the_limit_and_refunds_make_it_exact() {
    let cluster = RedisCluster::start();
    let replicas = replicas(of_cluster(&cluster)).await;
    // The one that denies is asked last, so that there is something to give back.
    let [wide, other, short] = user_of_each_node(&cluster).map(|(user, _)| user);
    let users: &[(&str, u32)] = vec![(wide, 300), (short, 100), (other, 300)].leak();
    for algorithm in Algorithm::ALL {
        let mut passed = rush(&replicas, users, algorithm).await;
        assert!(passed <= 100, "{algorithm:?}: {passed}");
        // What was given back is there for those who come now.
        let users = [(wide, 300), (short, 100), (other, 300)].map(|(user, max)| (user, limit(max, algorithm)));
        for _ in 0..101 {
            passed += usize::from(admitted(&replicas[0], &users).await);
        }
        assert_eq!(passed, 100, "{algorithm:?}");
        for user in [wide, other] {
            assert_eq!(remaining(&replicas[1], user, limit(300, algorithm)).await, 200, "{algorithm:?} {user}");
        }
    }
    assert!(replicas.iter().any(|redis| redis.stats().refunds.get() > 0), "refunds are counted");
}

#[tokio::test]
async fn charge_of_a_denied_request_is_taken_back_from_where_it_went() {
    let cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    // The one that denies is asked last.
    let [wide, short, _] = user_of_each_node(&cluster).map(|(value, _)| [Entry { key: "user", value }]);
    let start = tollgate::clock::now();
    let minutes = |minutes: u64| UnixMicros(start.0 + minutes * 60_000_000);
    for algorithm in [Algorithm::SlidingWindow, Algorithm::SlidingLog] {
        let hourly = |requests| Limit::new(requests, Unit::Hour.window(), algorithm);
        let put = async |checks: &[CounterCheck<'_>], now| {
            redis.apply_at(checks, Gate::default(), now, soon()).await.expect("Redis answers")
        };
        put(&[ask(&wide, hourly(10), 3)], minutes(0)).await;
        let readings = put(&[ask(&wide, hourly(10), 3), ask(&short, hourly(0), 1)], minutes(30)).await;
        assert_eq!((readings[0].admitted, readings[0].remaining), (true, 7), "{algorithm:?}");
        assert!(!readings[1].admitted, "{algorithm:?}");
        // The three of before are gone by now, and nothing of the later ones is left.
        assert_eq!(put(&[ask(&wide, hourly(10), 0)], minutes(70)).await[0].remaining, 10, "{algorithm:?}");
    }
}

#[tokio::test]
async fn request_that_is_not_decided_charges_nothing_at_nodes_that_answered() {
    let cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    let [first, second, _] = user_of_each_node(&cluster);
    let (users, second) = ([first.0, second.0], &cluster.nodes[second.1]);
    let ten = limit(10, Algorithm::SlidingWindow);
    let entries = users.map(|user| [Entry { key: "user", value: user }]);
    let left = async |of: usize| {
        let look = [ask(&entries[of], ten, 0)];
        let readings = redis.apply(&look, Gate::default(), soon()).await.ok()?;
        Some(readings[0].remaining)
    };
    for (is_dropped, charge_denied) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut checks = [ask(&entries[0], ten, 1), ask(&entries[1], ten, 1)];
        checks[0].cost.charge_denied = charge_denied;
        let (refunds, batches) = (redis.stats().refunds.get(), redis.stats().batches.get());
        second.freeze();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(if is_dropped { 5_000 } else { 500 });
        let mut asking = Box::pin(redis.apply(&checks, Gate::default(), deadline));
        if is_dropped {
            let is_sent = || async { (redis.stats().batches.get() == batches + 2).then_some(()) };
            let sent = eventually("the first is charged, and the second asked", is_sent);
            tokio::select! {
                answer = &mut asking => panic!("answered: {answer:?}"),
                () = sent => drop(asking),
            }
        } else {
            asking.await.expect_err("the second does not answer");
        }
        second.thaw();
        eventually("the refund", || async { (left(0).await? == 10).then_some(()) }).await;
        assert_eq!(redis.stats().refunds.get() - refunds, 1, "{is_dropped} {charge_denied}");
    }
}

#[tokio::test]
async fn dearer_request_than_a_remembered_denial_hears_its_own_reset() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let hourly = Limit { burst: 10, ..Limit::new(10, Unit::Hour.window(), Algorithm::TokenBucket) };
    let entries = [Entry { key: "user", value: "alice" }];
    let put = async |hits| {
        redis.apply(&[ask(&entries, hourly, hits)], Gate::default(), soon()).await.expect("Redis answers")[0]
    };
    assert!(put(10).await.admitted);
    let (cheap, dear, never) = (put(1).await, put(5).await, put(11).await);
    assert_eq!([cheap, dear, never].map(|reading| reading.admitted), [false; 3]);
    let six_minutes = 360_000_000;
    assert!(cheap.reset.0 <= six_minutes, "{cheap:?}");
    assert!((4 * six_minutes..=5 * six_minutes).contains(&dear.reset.0), "{dear:?}");
    assert_eq!(never.reset, hourly.window);
}

/// The slot of a user's counters, the node that has it and another one.
fn way_of(cluster: &RedisCluster, user: &str) -> (u16, usize, usize) {
    let slot = slot(user);
    let from = cluster.node_of(slot);
    (slot, from, (from + 1) % 3)
}

/// A Cluster's batches for one slot each.
fn by_slot(cluster: &RedisCluster) -> RedisSettings {
    let buckets = Some(key::Buckets::EachSlot);
    RedisSettings { cluster_batch: ClusterBatch::Slot, buckets, ..of_cluster(cluster) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_slot_loses_no_request_and_no_count() {
    let cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    let max = limit(1_000, Algorithm::SlidingWindow);
    let users = [("alice", max)];
    let (slot, from, to) = way_of(&cluster, "alice");
    for _ in 0..10 {
        assert!(admitted(&redis, &users).await);
    }
    let entries = [[Entry { key: "user", value: "alice" }, Entry { key: "new", value: "1" }]];
    let while_moving = async {
        // The old counter is still where it was; a new one begins where the slot goes; both together are asked apart.
        assert!(admitted(&redis, &users).await);
        let fresh = CounterCheck { key: Key { entries: &entries[0], ..ask(&[], max, 1).key }, ..ask(&[], max, 1) };
        let old = [Entry { key: "user", value: "alice" }];
        cluster.nodes[to].cli(&["script", "flush"]);
        let answer = redis.apply(&[fresh], Gate::default(), soon()).await.expect("Redis answers");
        assert_eq!(answer[0].remaining, 999);
        let answer = redis.apply(&[ask(&old, max, 1), fresh], Gate::default(), soon()).await.expect("Redis answers");
        assert_eq!((answer[0].remaining, answer[1].remaining), (988, 998));
    };
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| cluster.move_slot(slot, from, to, || runtime.block_on(while_moving)));
    let after = timeout(Duration::from_secs(5), async {
        assert!(admitted(&redis, &users).await);
        remaining(&redis, "alice", max).await
    });
    assert_eq!(after.await.expect("the new node answers"), 987);
}

#[tokio::test]
async fn node_that_fails_while_it_takes_a_slot_over_is_not_taken_for_the_one_that_gives_it() {
    let mut cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    let max = limit(1_000, Algorithm::SlidingWindow);
    let (slot, from, to) = way_of(&cluster, "alice");
    assert!(admitted(&redis, &[("alice", max)]).await);
    cluster.set_moving(slot, from, to);
    cluster.nodes[to].freeze();
    let entries = [Entry { key: "user", value: "alice" }, Entry { key: "new", value: "1" }];
    let fresh = [ask(&entries, max, 1)];
    let batches = redis.stats().batches.get();
    let mut asking = Box::pin(redis.apply(&fresh, Gate::default(), soon()));
    let sent_on = eventually("it is sent on", || async { (redis.stats().batches.get() == batches + 3).then_some(()) });
    tokio::select! {
        answer = &mut asking => panic!("answered: {answer:?}"),
        () = sent_on => cluster.nodes[to].kill(),
    }
    asking.await.expect_err("the node has gone");
    assert!(admitted(&redis, &[("alice", max)]).await, "the other goes on");
}

/// How often the nodes were asked for the map of slots.
fn maps_read(nodes: &[&RedisServer]) -> u64 {
    let calls = |node: &&RedisServer| {
        let stats = node.cli(&["info", "commandstats"]);
        // An old Redis counts all of CLUSTER together.
        let names = ["cmdstat_cluster|slots:calls=", "cmdstat_cluster:calls="];
        let line = stats.lines().find_map(|line| names.iter().find_map(|name| line.strip_prefix(name)));
        line.map_or(0, |line| line.split(',').next().and_then(|calls| calls.parse::<u64>().ok()).expect("a number"))
    };
    nodes.iter().map(calls).sum()
}

/// A batch is on its way to a node that falls silent, and its bucket goes to another meanwhile.
#[tokio::test]
async fn the_silence_of_the_node_that_lost_a_slot_is_not_held_against_the_one_that_has_it_now() {
    let cluster = RedisCluster::start();
    for node in &cluster.nodes {
        node.cli(&["config", "set", "cluster-node-timeout", "60000"]);
    }
    let redis = store(RedisSettings { timeouts_max: 1, ..by_slot(&cluster) }).await;
    let max = limit(1_000_000, Algorithm::SlidingWindow);
    let (slot, from, to) = way_of(&cluster, "alice");
    let third = (from + 2) % 3;
    let other = (0u32..).map(|nth| format!("u{nth}")).find(|user| way_of(&cluster, user).1 == to).expect("some user");
    assert!(admitted(&redis, &[("alice", max)]).await && admitted(&redis, &[(&other, max)]).await);

    cluster.nodes[from].freeze();
    let batches = redis.stats().batches.get();
    let deadline = Instant::now() + Duration::from_secs(2);
    let asked = tokio::spawn({
        let redis = redis.clone();
        async move {
            let entries = [Entry { key: "user", value: "alice" }];
            redis.apply(&[ask(&entries, max, 1)], Gate::default(), deadline).await
        }
    });
    eventually("it is on its way", || async { (redis.stats().batches.get() > batches).then_some(()) }).await;
    let living = [&cluster.nodes[to], &cluster.nodes[third]];
    for (slot, owner) in [(slot, living[0]), (way_of(&cluster, &other).0, living[1])] {
        let id = owner.cli(&["cluster", "myid"]);
        living.iter().for_each(|node| _ = node.cli(&["cluster", "setslot", &slot.to_string(), "node", &id]));
    }
    // Who is sent elsewhere has the map read again, and that says where alice's bucket is.
    let before = maps_read(&living);
    assert!(admitted(&redis, &[(&other, max)]).await);
    eventually("the map is read", || async { (maps_read(&living) > before).then_some(()) }).await;
    assert!(matches!(asked.await.unwrap(), Err(StoreError::Timeout(_))), "the old node is silent");
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        assert!(admitted(&redis, &[("alice", max)]).await, "the new node answers");
    }
}

/// Asks for one hit of `user` by one deadline after the other, until Redis answers in time.
async fn answered_in_the_end(redis: &Redis, user: &str, limit: Limit) {
    let entries = [Entry { key: "user", value: user }];
    let checks = [ask(&entries, limit, 1)];
    eventually("the bucket's new node answers", || async {
        let deadline = Instant::now() + Duration::from_millis(200);
        redis.apply(&checks, Gate::default(), deadline).await.ok()
    })
    .await;
}

/// A batch's answer is on its way from a node whose clock is an hour behind, and the bucket goes meanwhile to a node with
/// another clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_answer_of_the_node_that_lost_a_slot_says_nothing_about_the_clock_of_the_one_that_has_it_now() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let clock = Clock::new();
    clock.goes_behind(HOUR);
    let mut cluster = RedisCluster::start_in(&clock.env().each_ref().map(|(name, value)| (*name, &**value)));
    // The first node is announced at an address where its answers can be kept back.
    let weather = Proxy::before(&cluster.nodes[0].address()).await;
    let port = weather.address.port().to_string();
    // Set while it runs, an old Redis says it to the other nodes only.
    cluster.nodes[0].restart_with(&["--cluster-announce-port", &port]);
    eventually("the others know of it", || async {
        let maps = cluster.nodes.iter().map(|node| node.cli(&["cluster", "slots"]));
        maps.into_iter().all(|map| map.contains(&port)).then_some(())
    })
    .await;
    // Each request is a batch, so that another may leave while the first is on its way; none of them opens a breaker.
    let redis = store(RedisSettings { batch_max: 1, timeouts_max: u32::MAX, ..by_slot(&cluster) }).await;
    let max = limit(1_000_000, Algorithm::SlidingWindow);
    let of_node = |node| (0u32..).map(|nth| format!("u{nth}")).find(|user| way_of(&cluster, user).1 == node);
    // A slot goes to a node of a greater epoch each time, so that no older message brings it back.
    let [alice, other] = [0, 1].map(|node| of_node(node).expect("some user"));

    weather.turns(Weather::KeepAnswers);
    let asked = tokio::spawn({
        let (redis, alice, deadline) = (redis.clone(), alice.clone(), Instant::now() + 2 * PATIENCE);
        async move {
            let entries = [Entry { key: "user", value: &alice }];
            redis.apply(&[ask(&entries, max, 1)], Gate::default(), deadline).await.map(|readings| readings[0].admitted)
        }
    });
    let slot = way_of(&cluster, &alice).0.to_string();
    eventually("the old node has decided", || async {
        (cluster.nodes[0].cli(&["cluster", "countkeysinslot", &slot]) == "1").then_some(())
    })
    .await;
    for (user, from) in [(&alice, 0), (&other, 1)] {
        let (slot, to) = (way_of(&cluster, user).0, from + 1);
        cluster.move_slot(slot, from, to, || ());
        let id = cluster.nodes[to].cli(&["cluster", "myid"]);
        cluster.nodes[(to + 1) % 3].cli(&["cluster", "setslot", &slot.to_string(), "node", &id]);
    }
    // Who is sent elsewhere has the map read again, and that says where alice's bucket is.
    assert!(admitted(&redis, &[(&other, max)]).await);
    answered_in_the_end(&redis, &alice, max).await;

    assert!(!asked.is_finished(), "the old answer is on its way");
    let late = redis.stats().late.get();
    weather.turns(Weather::Fair);
    assert!(asked.await.unwrap().expect("the old node answers"), "its answer is the request's");
    let ahead = Duration::from_micros(redis.stats().clock_ahead_us.get().unsigned_abs());
    assert!(ahead < HOUR / 2, "the new node's clock was taken for the old one's: {ahead:?}");
    assert!(admitted(&redis, &[(&alice, max)]).await);
    assert_eq!(redis.stats().late.get(), late, "a deadline on a clock that is an hour behind is over at once");
}

#[tokio::test]
async fn replicas_whose_clocks_are_hours_apart_agree() {
    let server = RedisServer::start();
    let replicas = replicas(settings(&server)).await;
    let five_hours = 5 * 3_600_000_000;
    let trace = tollgate::clock::now().0;
    let clocks = [trace - five_hours, trace, trace + five_hours].map(UnixMicros);
    for algorithm in Algorithm::ALL {
        let hourly = Limit { burst: 30, ..Limit::new(30, Unit::Hour.window(), algorithm) };
        let entries = [Entry { key: "user", value: "alice" }];
        let mut readings = Vec::new();
        for nth in 0..33 {
            let store = Store::Redis(replicas[nth % REPLICAS].clone());
            let checks = [ask(&entries, hourly, 1)];
            let answer = store.apply(&checks, Gate::default(), clocks[nth % REPLICAS], soon()).await;
            readings.push(answer.expect("Redis answers")[0]);
        }
        let admitted = readings.iter().filter(|reading| reading.admitted).count();
        // A bucket that drains may regain one hit of its hour while the test runs; no clock gives it five hours' worth.
        assert!((30..=31).contains(&admitted), "{algorithm:?}: {admitted}");
        let waits = readings.iter().filter(|reading| !reading.admitted).map(|reading| reading.reset.0);
        assert!(waits.clone().count() > 0 && waits.max() <= Some(2 * 3_600_000_000), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_slow_bucket_that_was_emptied_is_not_forgotten_before_it_is_full() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let slow = Limit { burst: 10_000, ..Limit::new(60, Unit::Minute.window(), Algorithm::TokenBucket) };
    let entries = [Entry { key: "user", value: "alice" }];
    let start = tollgate::clock::now();
    let at = |minutes: u64| UnixMicros(start.0 + minutes * 60_000_000);
    let put = async |hits, now| {
        redis.apply_at(&[ask(&entries, slow, hits)], Gate::default(), now, soon()).await.expect("Redis answers")[0]
    };
    assert_eq!(put(10_000, at(0)).await.remaining, 0);
    assert_eq!(put(0, at(3)).await.remaining, 180, "one a second for three minutes");
    // And Redis keeps it in real time until it would be full: 10,000 s.
    let key = server.cli(&["--raw", "keys", "tg1:*user=alice"]);
    let left: u64 = server.cli(&["--raw", "pttl", key.trim()]).trim().parse().expect("a time to live");
    assert!(left >= 9_900_000, "{left} ms");
}
