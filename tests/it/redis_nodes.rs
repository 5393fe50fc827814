//! One batch for a node of a Cluster, whatever the slots of its counters; and nodes where that must not be.

use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
};
use tollgate::limit::{Algorithm, Entry, Limit, Unit};
use tollgate::store::redis::{ClusterBatch, Redis, RedisSettings};
use tollgate::store::{CounterCheck, Gate, Readings};

use crate::api::{RULES, with_tokens};
use crate::harness::{REDIS_CONNECTIONS, RulesDir, descriptor, eventually, request};
use crate::redis_exact::{of_cluster, slot};
use crate::redis_server::RedisCluster;
use crate::redis_twin::{ask_of, soon, store};

fn limit(requests: u32, algorithm: Algorithm) -> Limit {
    Limit { burst: requests, ..Limit::new(requests, Unit::Year.window(), algorithm) }
}

fn check<'a>(entries: &'a [Entry<'a>], limit: Limit, hits: i64) -> CounterCheck<'a> {
    ask_of("exact", entries, limit, hits)
}

/// Users whose counters are at a node, nearly all of them in slots of their own.
fn users_of(cluster: &RedisCluster, node: usize) -> impl Iterator<Item = String> {
    let of_node = move |slot: u16, is: usize| is == node && slot > 0;
    let nodes: Vec<usize> = (0..16_384).map(|slot| cluster.node_of(slot)).collect();
    (0..).map(|nth| format!("u{nth}")).filter(move |user| of_node(slot(user), nodes[usize::from(slot(user))]))
}

async fn put(redis: &Redis, checks: &[CounterCheck<'_>]) -> Readings {
    redis.apply(checks, Gate::default(), soon()).await.expect("Redis answers")
}

#[tokio::test]
async fn all_counters_of_a_node_are_decided_in_one_script_and_nothing_is_given_back() {
    let cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    for algorithm in Algorithm::ALL {
        let users: Vec<String> = users_of(&cluster, 1).take(8).collect();
        let entries: Vec<[Entry<'_>; 1]> = users.iter().map(|user| [Entry { key: "user", value: user }]).collect();
        let of = |requests| move |entries| check(entries, limit(requests, algorithm), 1);
        let wide: Vec<CounterCheck<'_>> = entries.iter().map(|entries| of(100)(&entries[..])).collect();
        let batches = redis.stats().batches.get();
        assert!(put(&redis, &wide).await.iter().all(|reading| reading.admitted && reading.remaining == 99));
        // The last one refuses, and the others are not charged.
        let mut denied = wide.clone();
        denied[7] = of(0)(&entries[7][..]);
        let readings = put(&redis, &denied).await;
        assert!(!readings[7].admitted && readings[..7].iter().all(|reading| reading.admitted), "{algorithm:?}");
        let looks: Vec<CounterCheck<'_>> =
            entries.iter().map(|entries| check(entries, limit(100, algorithm), 0)).collect();
        assert!(put(&redis, &looks).await.iter().all(|reading| reading.remaining == 99), "{algorithm:?}");
        assert_eq!(redis.stats().batches.get() - batches, 3, "{algorithm:?}: one script for each request");
    }
    assert_eq!((redis.stats().refunds.get(), redis.stats().elsewhere.get()), (0, 0));
}

#[tokio::test]
async fn requests_of_all_slots_of_a_node_leave_in_one_batch() {
    let cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    let users: Vec<String> = users_of(&cluster, 0).take(100).collect();
    let entries: Vec<[Entry<'_>; 1]> = users.iter().map(|user| [Entry { key: "user", value: user }]).collect();
    let batches = redis.stats().batches.get();
    let checks: Vec<[CounterCheck<'_>; 1]> =
        entries.iter().map(|entries| [check(entries, limit(5, Algorithm::SlidingWindow), 1)]).collect();
    for readings in join_all(checks.iter().map(|checks| put(&redis, checks))).await {
        assert_eq!(readings[0].remaining, 4);
    }
    let batches = redis.stats().batches.get() - batches;
    assert!(batches <= 3, "{batches} batches for 100 requests that come together");
}

/// A user of each of two nodes, the first of which comes first in the order in which parts are asked.
fn users_of_two(cluster: &RedisCluster) -> ([usize; 2], [String; 2]) {
    let mut nodes = [0, 1];
    nodes.sort_by_key(|node| cluster.nodes[*node].port());
    (nodes, nodes.map(|node| users_of(cluster, node).next().expect("some")))
}

#[tokio::test]
async fn the_parts_of_a_request_go_to_their_nodes_at_the_same_time_and_one_without_an_answer_gives_the_others_back() {
    let cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    let (nodes, users) = users_of_two(&cluster);
    let [silent, other] = [0, 1].map(|nth| [Entry { key: "user", value: &users[nth] }]);
    for algorithm in Algorithm::ALL {
        let both = [&silent, &other].map(|entries| check(entries, limit(5, algorithm), 1));
        assert!(put(&redis, &both).await.iter().all(|reading| reading.remaining == 4), "{algorithm:?}");
        let (batches, refunds) = (redis.stats().batches.get(), redis.stats().refunds.get());
        cluster.nodes[nodes[0]].freeze();
        let until = tokio::time::Instant::now() + std::time::Duration::from_millis(300);
        let answer = redis.apply(&both, Gate::default(), until).await;
        cluster.nodes[nodes[0]].thaw();
        answer.expect_err("one node was silent");
        assert!(redis.stats().batches.get() >= batches + 2, "{algorithm:?}: both nodes were asked");
        let given_back = || async { (redis.stats().refunds.get() == refunds + 1).then_some(()) };
        eventually("what the other had charged is given back", given_back).await;
        let look = [check(&other, limit(5, algorithm), 0)];
        eventually("the refund", || async { (put(&redis, &look).await[0].remaining == 4).then_some(()) }).await;
        eventually("the silent node is back", || async { redis.is_up().then_some(()) }).await;
    }
}

#[tokio::test]
async fn a_denial_by_one_node_is_remembered_and_the_others_are_not_charged() {
    let cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    for full in [0, 1] {
        for (nth, algorithm) in Algorithm::ALL.into_iter().enumerate() {
            let users = [0, 1].map(|node| users_of(&cluster, node).nth(2 * nth + full).expect("many"));
            let entries = [0, 1].map(|node| [Entry { key: "user", value: &users[node] }]);
            let requests = |node| if node == full { 1 } else { 100 };
            let both = [0, 1].map(|node| check(&entries[node], limit(requests(node), algorithm), 1));
            assert!(put(&redis, &both).await.iter().all(|reading| reading.admitted), "{algorithm:?}");
            let is_denial = |readings: &Readings| !readings[full].admitted && readings[1 - full].admitted;
            assert!(is_denial(&put(&redis, &both).await), "{algorithm:?}");
            let from_cache = redis.stats().denied_from_cache.get();
            // Messages about earlier refunds may end a denial that is only just coming in.
            eventually("a denial from the cache", || async {
                let readings = put(&redis, &both).await;
                assert!(is_denial(&readings), "{algorithm:?}");
                readings.is_from_cache.then_some(())
            })
            .await;
            assert!(redis.stats().denied_from_cache.get() > from_cache);
            let refunds = redis.stats().refunds.get();
            let readings = put(&redis, &both).await;
            assert!(is_denial(&readings) && readings.is_from_cache, "{algorithm:?}");
            assert_eq!(readings[1 - full].remaining, 99, "{algorithm:?}: read, not charged");
            assert_eq!(redis.stats().refunds.get(), refunds, "{algorithm:?}: nothing is given back");
        }
    }
}

/// While a slot moves, a batch has counters that are here, some that begin where the slot goes, and requests over both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_has_not_goes_by_its_slot_and_the_rest_of_its_batch_is_decided() {
    const ROUNDS: u64 = 20;
    let cluster = RedisCluster::start();
    let redis = store(of_cluster(&cluster)).await;
    let mut users = users_of(&cluster, 0);
    let (alice, bob) = (users.next().expect("some"), users.next().expect("others"));
    let entry = |value| Entry { key: "user", value };
    let (old, bob) = ([entry(&*alice)], [entry(&*bob)]);
    let fresh = [entry(&*alice), Entry { key: "new", value: "1" }];
    for algorithm in Algorithm::ALL {
        put(&redis, &[check(&old, limit(1_000, algorithm), 1)]).await;
    }
    cluster.set_moving(slot(&alice), 0, 1);
    for algorithm in Algorithm::ALL {
        let wide = limit(1_000, algorithm);
        let (old, fresh, bob) = (check(&old, wide, 1), check(&fresh, wide, 1), check(&bob, wide, 1));
        let never = CounterCheck { limit: limit(0, algorithm), ..old };
        let (elsewhere, batches) = (redis.stats().elsewhere.get(), redis.stats().batches.get());
        for round in 0..ROUNDS {
            let asked: [&[CounterCheck<'_>]; 5] = [&[bob], &[old], &[fresh], &[old, fresh], &[bob, fresh, never]];
            let answers = join_all(asked.map(|checks| put(&redis, checks))).await;
            let admitted: Vec<bool> =
                answers.iter().map(|readings| readings.iter().all(|reading| reading.admitted)).collect();
            assert_eq!(admitted, [true, true, true, true, false], "{algorithm:?} {round}");
        }
        assert!(redis.stats().elsewhere.get() > elsewhere, "{algorithm:?}");
        assert!(redis.stats().batches.get() > batches);
        // A refund may be on its way still.
        let looks = [&bob, &old, &fresh]
            .map(|check| CounterCheck { cost: tollgate::limit::Cost { hits: 0, charge_denied: false }, ..*check });
        eventually("exact counters", || async {
            let mut left = Vec::new();
            for look in looks {
                left.push(1_000 - put(&redis, &[look]).await[0].remaining);
            }
            (left == [ROUNDS, 1 + 2 * ROUNDS, 2 * ROUNDS]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_cluster_that_is_told_to_batch_by_slots_does_so() {
    let cluster = RedisCluster::start();
    let redis = store(RedisSettings { cluster_batch: ClusterBatch::Slot, ..of_cluster(&cluster) }).await;
    let users: Vec<String> = users_of(&cluster, 1).take(4).collect();
    let entries: Vec<[Entry<'_>; 1]> = users.iter().map(|user| [Entry { key: "user", value: user }]).collect();
    let checks: Vec<CounterCheck<'_>> =
        entries.iter().map(|entries| check(entries, limit(5, Algorithm::SlidingWindow), 1)).collect();
    let batches = redis.stats().batches.get();
    assert!(put(&redis, &checks).await.iter().all(|reading| reading.remaining == 4));
    assert!(redis.stats().batches.get() - batches > 1);
    assert_eq!(redis.stats().nodes_by_slot.get(), 0, "nobody forbids more");
}

/// What a node answers in place of its own answer, as the text of a script, by the words of the command.
type Instead = fn(&[Vec<u8>]) -> Option<&'static str>;

/// A node that forbids scripts over keys that they don't declare.
fn undeclared(command: &[Vec<u8>]) -> Option<&'static str> {
    let is_script = command[0].starts_with(b"EVAL") && command.get(2).is_some_and(|keys| keys == b"0");
    // Command, script, number of declared keys, head, runs and number of keys: with six words there is none.
    (is_script && command.len() > 6).then_some("return redis.error_reply('ERR script tried accessing undeclared key')")
}

/// A server that says it is Valkey 9.0.1 with an append-only file.
fn replays_wrongly(command: &[Vec<u8>]) -> Option<&'static str> {
    match (&*command[0], command.get(1).map(Vec::as_slice)) {
        (b"INFO", Some(b"server")) => Some("return 'valkey_version:9.0.1\\r\\n'"),
        (b"INFO", Some(b"persistence")) => Some("return 'aof_enabled:1\\r\\n'"),
        _ => None,
    }
}

/// Stands before a node, and has it run other commands than those that it is sent.
async fn stand_before(redis: String, instead: Instead) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&redis).await.expect("the node listens");
            let (from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let mut from_client = BufReader::new(from_client);
                while let Some(command) = command(&mut from_client).await {
                    let other = instead(&command);
                    let words = other.map_or(command, |text| vec![b"EVAL".to_vec(), text.into(), b"0".to_vec()]);
                    if to_server.write_all(&packed(&words)).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
        }
    });
    address
}

async fn command(from: &mut BufReader<OwnedReadHalf>) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    for _ in 0..number(from).await? {
        let length = number(from).await?;
        let mut word = vec![0; length + 2];
        from.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        words.push(word);
    }
    Some(words)
}

async fn number(from: &mut BufReader<OwnedReadHalf>) -> Option<usize> {
    let mut line = String::new();
    from.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

fn packed(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A process before a Cluster, one node of which is announced at an address where it answers otherwise: it decides all, says
/// once why that node's batches are of one slot each, and shows it.
async fn goes_by_slots(instead: Instead, why: &str) {
    let mut cluster = RedisCluster::start();
    let address = stand_before(cluster.nodes[1].address(), instead).await;
    let port = address.port().to_string();
    // Redis 6.2 takes the port at its start alone.
    cluster.nodes[1].restart_with(&["--cluster-announce-port", &port]);
    for node in &cluster.nodes {
        node.wait_for(&["cluster", "slots"], |map| map.contains(&port));
        node.wait_for(&["cluster", "info"], |info| info.contains("cluster_state:ok"));
    }
    let rules = RulesDir::with("api.yaml", RULES);
    let env = [("REDIS_TYPE", "cluster"), ("REDIS_URL", &*cluster.nodes[0].address())];
    let tollgate = with_tokens(&rules, &env).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    let client = tollgate.client();
    for nth in 0..60 {
        let user = format!("u{nth}");
        let [alone, other] = [descriptor(&[("user", &user)]), descriptor(&[("user", &format!("v{nth}"))])];
        client.ask(request("api", vec![alone.clone()])).await.expect("a decision");
        client.ask(request("api", vec![alone, other])).await.expect("a decision");
    }
    let by_slot = tollgate.metric("tollgate_redis_nodes_by_slot").await;
    assert!((1.0..=REDIS_CONNECTIONS).contains(&by_slot), "{by_slot}");
    assert_eq!(tollgate.metric("tollgate_redis_refused_total").await, 0.0);
    assert_eq!(tollgate.metric("tollgate_redis_unreachable_total").await, 0.0);
    let log = tollgate.process.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("hold one slot each from now on")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains(why) && said[0].contains(&port) && said[0].contains("WARN"), "{}", said[0]);
}

#[tokio::test]
async fn a_node_that_forbids_undeclared_keys_is_found_out_and_goes_by_slots() {
    goes_by_slots(undeclared, "undeclared key").await;
}

#[tokio::test]
async fn a_server_that_replays_scripts_over_slots_wrongly_is_never_sent_one() {
    goes_by_slots(replays_wrongly, "Valkey 9.0.1").await;
}
