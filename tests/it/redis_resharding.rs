//! A Cluster that changes while it is asked: slots that go back and forth, a node more and one less, and replicas that take
//! over. No limit is exceeded, and only what a failover takes away is missed, for a moment.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tollgate::limit::{Algorithm, Entry, Limit, Unit};
use tollgate::store::redis::{Redis, RedisSettings};
use tollgate::store::{CounterCheck, Gate};

use crate::harness::aside;
use crate::redis_exact::{of_cluster, slot};
use crate::redis_server::{OTHER_ADDRESS, RedisCluster, RedisServer};
use crate::redis_twin::{ask_of, store};

const USERS: usize = 1_200;
const LIMIT: u32 = 40;
/// Requests that are under way at once.
const ASKERS: usize = 48;
/// How long a decision may take where nodes fail.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same where no request may miss its answer, whatever the reason: where two cores run every test, processes stand still
/// for half a second, and a timeout would say nothing of the store. A node that isn't waited for is an error at once.
const LONG_PATIENCE: Duration = Duration::from_secs(10);
/// How often what usually takes minutes or hours is done here.
const SHORT: Duration = Duration::from_millis(200);
/// How long the counters of a failover may be without decisions.
const DEGRADED_MAX: Duration = Duration::from_secs(1);

fn limit() -> Limit {
    Limit::new(LIMIT, Unit::Year.window(), Algorithm::SlidingWindow)
}

/// What became of the requests of each user.
#[derive(Default)]
struct Outcomes {
    /// When each was admitted.
    admitted: HashMap<usize, Vec<Instant>>,
    /// Requests without an answer of Redis.
    failed: Vec<Failure>,
    answered: usize,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    users: Vec<usize>,
    why: String,
}

/// Two replicas of one service, asked all the time about random users, alone and in pairs.
struct Load {
    stores: Vec<Redis>,
    patience: Duration,
    outcomes: Arc<Mutex<Outcomes>>,
    is_over: CancellationToken,
    askers: JoinSet<()>,
}

impl Load {
    async fn begin(cluster: &RedisCluster) -> Load {
        Load::begin_with(&of_cluster(cluster), LONG_PATIENCE).await
    }

    async fn begin_with(settings: &RedisSettings, patience: Duration) -> Load {
        let stores = vec![store(settings.clone()).await, store(settings.clone()).await];
        let (outcomes, is_over) = (Arc::<Mutex<Outcomes>>::default(), CancellationToken::new());
        let mut askers = JoinSet::new();
        for nth in 0..ASKERS {
            let (redis, outcomes, is_over) = (stores[nth % 2].clone(), outcomes.clone(), is_over.clone());
            askers.spawn(async move {
                let mut random = SmallRng::seed_from_u64(nth as u64);
                while !is_over.is_cancelled() {
                    let both = [0; 2].map(|_| random.random_range(0..USERS));
                    let number = if random.random_range(0..4) == 0 && both[0] != both[1] { 2 } else { 1 };
                    ask(&redis, &both[..number], patience, &outcomes).await;
                    // Where a failed test has ended its Redis, every answer is there at once.
                    tokio::task::yield_now().await;
                }
            });
        }
        Load { stores, patience, outcomes, is_over, askers }
    }

    /// Resolves once so many more requests were answered.
    async fn goes_on(&self, more: usize) {
        let until = self.outcomes.lock().answered + more;
        crate::harness::eventually("more answers", || async { (self.outcomes.lock().answered >= until).then_some(()) })
            .await;
    }

    /// Ends it, and asks for each user until the limit is reached. Returns what became of all.
    async fn fill_up(mut self) -> Outcomes {
        self.is_over.cancel();
        while let Some(asker) = self.askers.join_next().await {
            asker.expect("no panic");
        }
        // Refunds of the last requests.
        tokio::task::yield_now().await;
        let mut filling = JoinSet::new();
        for user in 0..USERS {
            let (redis, outcomes, patience) = (self.stores[user % 2].clone(), self.outcomes.clone(), self.patience);
            filling.spawn(async move {
                for _ in 0..=LIMIT {
                    ask(&redis, &[user], patience, &outcomes).await;
                }
            });
        }
        while let Some(filled) = filling.join_next().await {
            filled.expect("no panic");
        }
        std::mem::take(&mut *self.outcomes.lock())
    }
}

async fn ask(redis: &Redis, users: &[usize], patience: Duration, outcomes: &Mutex<Outcomes>) {
    let names: Vec<String> = users.iter().map(|user| format!("u{user}")).collect();
    let entries: Vec<[Entry<'_>; 1]> = names.iter().map(|value| [Entry { key: "user", value }]).collect();
    let checks: Vec<CounterCheck<'_>> = entries.iter().map(|entries| ask_of("exact", entries, limit(), 1)).collect();
    let answer = redis.apply(&checks, Gate::default(), Instant::now() + patience).await;
    let mut outcomes = outcomes.lock();
    outcomes.answered += 1;
    match answer {
        Ok(readings) if readings.iter().all(|reading| reading.admitted) => {
            users.iter().for_each(|user| outcomes.admitted.entry(*user).or_default().push(Instant::now()));
        }
        Ok(_) => {}
        Err(error) => {
            outcomes.failed.push(Failure { at: Instant::now(), users: users.to_vec(), why: error.to_string() });
        }
    }
}

impl Outcomes {
    fn assert_no_failures(&self) {
        let mut whys = BTreeMap::<&str, usize>::new();
        self.failed.iter().for_each(|failure| *whys.entry(&failure.why).or_default() += 1);
        assert!(whys.is_empty(), "of {} requests without an answer: {whys:?}", self.answered);
    }

    /// Nobody had more than the limit, and with the refunds that are there by now everybody could have had that.
    fn assert_exact(&self) {
        for user in 0..USERS {
            let admitted = self.admitted.get(&user).map_or(0, Vec::len);
            assert_eq!(admitted, LIMIT as usize, "user {user} in slot {}", slot(&format!("u{user}")));
        }
    }

    /// Only requests with users of these slots had no answer, and for no longer than a failover may take.
    fn assert_failed_shortly_in(&self, slots: &Range<u16>) {
        let first = self.failed.iter().map(|failure| failure.at).min();
        self.assert_failed_in(slots, first.map(|first| first + DEGRADED_MAX));
    }

    /// Only requests with users of these slots had no answer, the last of them by then.
    fn assert_failed_in(&self, slots: &Range<u16>, by: Option<Instant>) {
        for failure in &self.failed {
            assert!(failure.users.iter().any(|user| is_in(slots, *user)), "of another node: {failure:?}");
        }
        if let (Some(last), Some(by)) = (self.failed.iter().max_by_key(|failure| failure.at), by) {
            assert!(last.at <= by, "{:?} too late: {last:?}", last.at - by);
        }
    }

    /// Number of requests about a user that had no answer: they may have been charged.
    fn unknown(&self, user: usize) -> usize {
        self.failed.iter().filter(|failure| failure.users.contains(&user)).count()
    }
}

fn is_in(slots: &Range<u16>, user: usize) -> bool {
    slots.contains(&slot(&format!("u{user}")))
}

/// Moves slots with all that is in them, as operators' tools do.
fn move_slots(cluster: &RedisCluster, slots: Range<u16>, from: usize, to: usize) {
    let id = |node: usize| cluster.nodes[node].cli(&["cluster", "myid"]);
    let (from_id, to_id, to_port) = (id(from), id(to), cluster.nodes[to].port());
    let (mut old, mut new) = (cluster.nodes[from].connection(), cluster.nodes[to].connection());
    let try_run = |connection: &mut redis::Connection, words: &[&str]| -> redis::RedisResult<redis::Value> {
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]).query(connection)
    };
    let run = |connection: &mut redis::Connection, words: &[&str]| {
        try_run(connection, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    };
    for slot in slots {
        let slot = slot.to_string();
        run(&mut new, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        run(&mut old, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        loop {
            let keys = run(&mut old, &["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let keys: Vec<String> = redis::from_redis_value(keys).expect("keys");
            if keys.is_empty() {
                break;
            }
            let port = to_port.to_string();
            let words = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            let keys: Vec<&str> = words.into_iter().chain(keys.iter().map(String::as_str)).collect();
            run(&mut old, &keys);
        }
        run(&mut new, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        match try_run(&mut old, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]) {
            // It has heard from the new node that it has no slots any more, and is its replica by now.
            Err(error) if error.to_string().contains("only with masters") => {}
            set => _ = set.unwrap_or_else(|error| panic!("slot {slot} of the old node: {error}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_slots_that_go_back_and_forth_lose_no_request_and_no_count() {
    let cluster = Arc::new(RedisCluster::start());
    let load = Load::begin(&cluster).await;
    load.goes_on(500).await;
    for (from, to) in [(0, 1), (1, 0)] {
        let cluster = cluster.clone();
        aside(move || move_slots(&cluster, 0..1_000, from, to)).await;
        load.goes_on(500).await;
    }
    let elsewhere: u64 = load.stores.iter().map(|redis| redis.stats().elsewhere.get()).sum();
    assert!(elsewhere > 0, "some counters were asked for where they were no more");
    let outcomes = load.fill_up().await;
    outcomes.assert_no_failures();
    outcomes.assert_exact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_more_and_one_that_is_emptied_lose_no_request_and_no_count() {
    let mut cluster = RedisCluster::start();
    let load = Load::begin(&cluster).await;
    cluster.add_node();
    load.goes_on(500).await;
    let cluster = aside(move || {
        move_slots(&cluster, 10_923..16_384, 2, 3);
        cluster
    })
    .await;
    load.goes_on(1_000).await;
    assert_eq!(cluster.nodes[2].cli(&["dbsize"]), "0");
    let outcomes = load.fill_up().await;
    outcomes.assert_no_failures();
    outcomes.assert_exact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_announced_at_another_address_misses_no_request_and_no_count() {
    let cluster = RedisCluster::start();
    // Without slots that move, only the map says where the node is now.
    let settings = RedisSettings { layout_renewal: SHORT, ..of_cluster(&cluster) };
    let load = Load::begin_with(&settings, LONG_PATIENCE).await;
    load.goes_on(500).await;
    let connects = || load.stores.iter().map(|redis| redis.stats().connects.get()).min();
    let before = connects();
    assert_eq!(cluster.nodes[1].cli(&["config", "set", "cluster-announce-ip", OTHER_ADDRESS]), "OK");
    crate::harness::eventually("the new address is used", || async { (connects() > before).then_some(()) }).await;
    load.goes_on(2_000).await;
    let outcomes = load.fill_up().await;
    outcomes.assert_no_failures();
    outcomes.assert_exact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_renewed_miss_no_request_and_no_count() {
    let cluster = RedisCluster::start();
    let settings = RedisSettings { max_connection_age: Some(SHORT), ..of_cluster(&cluster) };
    let load = Load::begin_with(&settings, LONG_PATIENCE).await;
    let connects = || load.stores.iter().map(|redis| redis.stats().connects.get()).min();
    crate::harness::eventually("several renewals", || async { (connects() >= Some(30)).then_some(()) }).await;
    let outcomes = load.fill_up().await;
    outcomes.assert_no_failures();
    outcomes.assert_exact();
}

/// The third node's slots.
const OF_THIRD: Range<u16> = 10_923..16_384;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_told_to_take_over_misses_its_counters_for_a_moment_and_loses_none() {
    let mut cluster = RedisCluster::start();
    cluster.add_replica(2);
    let load = Load::begin_with(&of_cluster(&cluster), PATIENCE).await;
    load.goes_on(500).await;
    let replica = &cluster.nodes[3];
    assert_eq!(replica.cli(&["cluster", "failover"]), "OK");
    is_primary(replica).await;
    load.goes_on(2_000).await;
    let outcomes = load.fill_up().await;
    outcomes.assert_failed_shortly_in(&OF_THIRD);
    for user in 0..USERS {
        // What was sent to the old primary and had no answer may be charged.
        let admitted = outcomes.admitted.get(&user).map_or(0, Vec::len);
        let unknown = outcomes.unknown(user);
        assert!(
            admitted <= LIMIT as usize && admitted + unknown >= LIMIT as usize,
            "user {user}: {admitted}, {unknown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_misses_its_own_counters_for_a_moment_and_the_replica_goes_on() {
    let mut cluster = RedisCluster::start();
    cluster.add_replica(2);
    let load = Load::begin_with(&of_cluster(&cluster), PATIENCE).await;
    load.goes_on(2_000).await;
    let killed = Instant::now();
    cluster.nodes[2].kill();
    // The other primaries find out by the node timeout, and elect the replica.
    is_primary(&cluster.nodes[3]).await;
    let elected = Instant::now();
    load.goes_on(2_000).await;
    let outcomes = load.fill_up().await;
    outcomes.assert_failed_in(&OF_THIRD, Some(elected + DEGRADED_MAX));
    for (user, admitted) in &outcomes.admitted {
        // What the primary had admitted and not yet told its replica is lost.
        let recent = killed - Duration::from_millis(200)..=killed + Duration::from_millis(50);
        let lost = admitted.iter().filter(|at| recent.contains(at)).count();
        let lost = if is_in(&OF_THIRD, *user) { lost } else { 0 };
        assert!(admitted.len() <= LIMIT as usize + lost, "user {user}: {} and {lost} lost", admitted.len());
    }
}

async fn is_primary(replica: &RedisServer) {
    crate::harness::eventually("the replica is the primary", || async {
        replica.cli(&["role"]).starts_with("master").then_some(())
    })
    .await;
}
