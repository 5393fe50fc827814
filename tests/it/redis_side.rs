//! The way to Redis beside the decisions: what each failure comes to for whoever asks, how it is got over, what the log
//! says of it, and that nodes that are silent hold nobody up.

use std::{net::TcpListener, sync::Arc};

use redis::{Pipeline, Value};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate::store::{
    StoreError,
    redis::{Address, ChannelEvent, CommandConnection, RedisSettings, Topology},
};

use crate::{
    api::{client::call, with_tokens},
    harness::{PATIENCE, RulesDir, eventually},
    redis_exact::of_cluster,
    redis_server::{RedisCluster, RedisServer},
    redis_twin::{settings, store},
};

/// On the runtime of the test, for as long as that is.
fn side(settings: RedisSettings) -> CommandConnection {
    CommandConnection::start(Arc::new(settings), None, &TaskTracker::new(), CancellationToken::new()).0
}

fn one(command: &[&str]) -> Pipeline {
    let mut pipe = redis::pipe();
    pipe.cmd(command[0]).arg(&command[1..]);
    pipe
}

const SET: [&str; 3] = ["SET", "key", "text"];

async fn is_set(side: &CommandConnection) {
    eventually("an answer", || async { side.run(b"key", &one(&SET)).await.ok() }).await;
}

#[tokio::test]
async fn an_error_of_one_command_leaves_the_connection_and_a_silence_ends_it() {
    for server in RedisServer::of_both_protocols() {
        let side = side(settings(&server));
        is_set(&side).await;
        let refused = side.run(b"key", &one(&["LPUSH", "key", "item"])).await;
        assert!(matches!(&refused, Err(StoreError::Refused(why)) if why.contains("WRONGTYPE")), "{refused:?}");
        let answered = side.run(b"key", &one(&["GET", "key"])).await;
        assert_eq!(answered, Ok(vec![Value::BulkString(b"text".to_vec())]), "over the same connection");
        server.freeze();
        let silent = side.run(b"key", &one(&SET)).await;
        assert!(matches!(silent, Err(StoreError::Timeout(_))), "{silent:?}");
        server.thaw();
        is_set(&side).await;
    }
}

/// Two who find the same of one connection are one complaint, and not one for the next connection too.
#[tokio::test]
async fn two_who_are_left_without_an_answer_end_one_connection() {
    let server = RedisServer::start();
    let channel = Some("news".to_owned());
    let (side, mut heard) =
        CommandConnection::start(Arc::new(settings(&server)), channel, &TaskTracker::new(), CancellationToken::new());
    is_set(&side).await;
    server.freeze();
    let ask = one(&SET);
    let silent = tokio::join!(side.run(b"key", &ask), side.run(b"key", &ask), side.run(b"key", &ask));
    assert!(matches!(silent, (Err(StoreError::Timeout(_)), Err(StoreError::Timeout(_)), Err(_))), "{silent:?}");
    server.thaw();
    for expected in [ChannelEvent::Subscribed, ChannelEvent::Unsubscribed, ChannelEvent::Subscribed] {
        let news = tokio::time::timeout(PATIENCE, heard.recv()).await;
        assert_eq!(news.expect("the connection is made again"), Some(expected));
    }
    is_set(&side).await;
    assert!(heard.try_recv().is_err(), "the new connection stays");
}

#[tokio::test]
async fn a_node_that_refuses_everybody_may_be_the_wrong_one() {
    let server = RedisServer::start();
    let side = side(settings(&server));
    is_set(&side).await;
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let demoted = side.run(b"key", &one(&SET)).await;
    assert!(matches!(&demoted, Err(StoreError::Unreachable(why)) if why.contains("read only replica")), "{demoted:?}");
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    is_set(&side).await;
}

#[tokio::test]
async fn without_a_connection_nobody_waits_and_it_comes_back_by_itself() {
    for mut server in RedisServer::of_both_protocols() {
        let side = side(settings(&server));
        is_set(&side).await;
        server.kill();
        eventually("the end of the connection", || async { (!side.is_up()).then_some(()) }).await;
        let gone = side.run(b"key", &one(&SET)).await;
        assert!(matches!(gone, Err(StoreError::Unreachable(_))), "{gone:?}");
        server.restart();
        is_set(&side).await;
    }
}

#[tokio::test]
async fn an_error_is_one_line_of_the_log_with_what_to_do_however_many_ask() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 5/h}]\n");
    let tollgate = with_tokens(&rules, &[("REDIS_URL", &redis.address())]).await;
    let reset = async || {
        let body = json!({"entries": {"user": "alice"}}).to_string();
        call(tollgate.http, "POST /v1/counters:reset", Some("secret"), &body).await.status
    };
    eventually("a connection that resets", || async { (reset().await == 200).then_some(()) }).await;
    redis.cli(&["ACL", "SETUSER", "default", "-eval"]);
    for _ in 0..5 {
        assert_eq!(reset().await, 503);
    }
    redis.cli(&["ACL", "SETUSER", "default", "+eval"]);
    assert_eq!(reset().await, 200);
    // What is logged after it has come, so all before it has.
    let entries = || tollgate.process.log().lines().filter(|line| line.contains("counter.reset")).count();
    eventually("the last entry", || async { (entries() >= 2).then_some(()) }).await;
    let log = tollgate.process.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("NOPERM")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(
        said[0].contains("lacks a right: docs/src/operating/overrides-kept.md has the whole ACL line"),
        "{}",
        said[0]
    );
}

#[tokio::test]
async fn silent_seeds_of_a_cluster_hold_up_neither_decisions_nor_what_goes_beside_them() {
    let cluster = RedisCluster::start();
    // The kernel takes their connections, and nobody ever answers. Each asked after the other would take longer than
    // anybody waits.
    let silent: Vec<TcpListener> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let listening = silent.iter().map(|listener| listener.local_addr().expect("it is bound").port());
    let mut seeds: Vec<_> = listening.map(|port| Address::Tcp { host: "127.0.0.1".into(), port }).collect();
    let RedisSettings { topology: Topology::Cluster { seeds: living }, .. } = of_cluster(&cluster) else {
        panic!("a Cluster")
    };
    seeds.extend(living);
    let settings = || RedisSettings::new(Topology::Cluster { seeds: seeds.clone() });
    // Waits until every bucket has its node.
    store(settings()).await;
    let beside = side(settings());
    for key in ["a", "b", "c", "d"] {
        eventually("an answer", || async { beside.run(key.as_bytes(), &one(&["SET", key, "text"])).await.ok() }).await;
    }
}
