//! What the Redis store does when Redis is lost, slow, forgetful or holds something else: with a real one, really
//! killed, frozen and damaged.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};
use tollgate::limit::{Algorithm, Entry, Limit, Reading, SECOND};
use tollgate::store::redis::{Address, Auth, Redis, RedisSettings, Topology};
use tollgate::store::{CounterCheck, Deadline, Gate, StoreError, key};

use crate::redis_server::RedisServer;
use crate::redis_twin::{ask_of, settings, soon, store};

const HOUR: Limit = Limit::new(10, tollgate::limit::Unit::Hour.window(), Algorithm::SlidingWindow);

fn ask<'a>(entries: &'a [Entry<'a>], limit: Limit, hits: i64) -> CounterCheck<'a> {
    ask_of("faults", entries, limit, hits)
}

async fn put(redis: &Redis, user: &str, limit: Limit, hits: i64, deadline: Instant) -> Result<Reading, StoreError> {
    let entries = [Entry { key: "user", value: user }];
    redis.apply(&[ask(&entries, limit, hits)], Gate::default(), deadline).await.map(|readings| readings[0])
}

async fn hit(redis: &Redis, user: &str) -> Result<Reading, StoreError> {
    put(redis, user, HOUR, 1, soon()).await
}

/// How many hits Redis has counted.
async fn counted(redis: &Redis, user: &str) -> u64 {
    u64::from(HOUR.requests) - put(redis, user, HOUR, 0, soon()).await.expect("Redis answers").remaining
}

fn key_of(user: &str, limit: Limit) -> Vec<u8> {
    let entries = [Entry { key: "user", value: user }];
    let check = ask(&entries, limit, 1);
    let mut out = Vec::new();
    key::write(&mut out, "", key::bucket(&check.key, key::Buckets::DEFAULT), &check.key, &limit);
    out
}

async fn until(mut condition: impl FnMut() -> bool, within: Duration, what: &str) {
    let patience = timeout(within, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    patience.await.unwrap_or_else(|_| panic!("not within {within:?}: {what}"));
}

#[tokio::test]
async fn flushed_script_loses_no_request() {
    for server in RedisServer::of_both_protocols() {
        let redis = store(settings(&server)).await;
        let limit = Limit::new(1_000, HOUR.window, Algorithm::SlidingWindow);
        for round in 0..20 {
            let () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut server.connection()).unwrap();
            let reading = put(&redis, "alice", limit, 1, soon()).await.expect("answered all the same");
            assert_eq!(reading.remaining, 999 - round);
        }
        assert_eq!(redis.stats().script_loads.get(), 20);
    }
}

#[tokio::test]
async fn killed_redis_is_seen_at_once_and_used_again_within_a_second() {
    for mut server in RedisServer::of_both_protocols() {
        let redis = store(settings(&server)).await;
        hit(&redis, "alice").await.expect("Redis is up");
        server.kill();
        until(|| !redis.is_up(), Duration::from_secs(1), "the loss is noticed, though nothing was asked").await;
        let answer = hit(&redis, "alice").now_or_never().expect("no request waits for a Redis that is gone");
        assert!(matches!(answer, Err(StoreError::Unreachable(_))), "{answer:?}");
        server.restart();
        timeout(Duration::from_secs(1), redis.up()).await.expect("connected again within a second");
        assert_eq!(hit(&redis, "alice").await.expect("Redis is back").remaining, 9);
    }
}

#[tokio::test]
async fn frozen_redis_times_out_then_counts_as_down_and_charges_nothing_on_waking() {
    for server in RedisServer::of_both_protocols() {
        let redis = store(settings(&server)).await;
        hit(&redis, "alice").await.expect("Redis is up");
        server.freeze();
        for _ in 0..5 {
            let begun = Instant::now();
            let answer = put(&redis, "alice", HOUR, 1, begun + Duration::from_millis(10)).await;
            assert!(matches!(answer, Err(StoreError::Timeout(_))), "{answer:?}");
            assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
        }
        until(|| !redis.is_up(), Duration::from_secs(1), "five timeouts in a row end the connection").await;
        server.thaw();
        timeout(Duration::from_secs(2), redis.up()).await.expect("connected again");
        assert_eq!(counted(&redis, "alice").await, 1, "what was answered as a timeout is not charged later");
    }
}

#[tokio::test]
async fn late_batch_of_a_living_connection_charges_nothing() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    hit(&redis, "alice").await.expect("Redis is up");
    server.freeze();
    let answer = put(&redis, "alice", HOUR, 1, Instant::now() + Duration::from_millis(10)).await;
    assert!(matches!(answer, Err(StoreError::Timeout(_))), "{answer:?}");
    server.thaw();
    assert_eq!(counted(&redis, "alice").await, 1);
    until(|| redis.stats().late.get() == 1, Duration::from_secs(1), "the late script says that it was late").await;
    assert_eq!(redis.stats().connects.get(), 1, "one timeout doesn't end the connection");
}

#[tokio::test]
async fn a_request_that_is_on_its_way_is_waited_for_and_one_that_is_not_is_given_up() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    hit(&redis, "alice").await.expect("Redis is up");
    server.freeze();
    let at = Instant::now() + Duration::from_millis(50);
    let check = |user: &'static str| {
        let redis = redis.clone();
        async move {
            let entries = [Entry { key: "user", value: user }];
            redis.apply(&[ask(&entries, HOUR, 1)], Gate::default(), Deadline { at, sent: soon() }).await
        }
    };
    let sent = tokio::spawn(check("alice"));
    until(|| redis.stats().batches.get() == 2, Duration::from_secs(1), "it has left").await;
    let queued = check("bob").await;
    assert!(matches!(queued, Err(StoreError::Timeout(_))), "{queued:?}");
    assert!(Instant::now() >= at && !sent.is_finished(), "the other is on its way");
    server.thaw();
    assert_eq!(sent.await.unwrap().expect("Redis is back")[0].remaining, 8);
    assert_eq!(counted(&redis, "bob").await, 0);
}

#[tokio::test]
async fn request_dropped_before_its_batch_left_is_not_charged() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    server.freeze();
    let first = tokio::spawn({
        let redis = redis.clone();
        async move { hit(&redis, "alice").await }
    });
    until(|| redis.stats().batches.get() == 1, Duration::from_secs(1), "the first batch has left").await;
    // The second waits behind it, and its caller goes away.
    let second = timeout(Duration::from_millis(5), hit(&redis, "bob")).await;
    assert!(second.is_err());
    server.thaw();
    first.await.unwrap().expect("answered after the thaw");
    assert_eq!(counted(&redis, "bob").await, 0);
    assert_eq!(counted(&redis, "alice").await, 1);
}

#[tokio::test]
async fn damaged_counter_begins_afresh_and_is_counted() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let mut connection = server.connection();
    let mut damaged = 0;
    for algorithm in Algorithm::ALL {
        let limit = Limit { burst: 10, ..Limit::new(10, SECOND, algorithm) };
        let key = key_of("alice", Limit { window: HOUR.window, ..limit });
        let limit = Limit { window: HOUR.window, ..limit };
        for value in ["", "x", "some text that is longer than any header of a counter", &"\u{7f}".repeat(600)] {
            let () = redis::cmd("SET").arg(&key).arg(value).query(&mut connection).unwrap();
            let reading = put(&redis, "alice", limit, 1, soon()).await.expect("decided");
            assert_eq!((reading.admitted, reading.remaining), (true, 9), "{algorithm:?} after {value:?}");
            damaged += 1;
            assert_eq!(redis.stats().damaged.get(), damaged, "{algorithm:?} after {value:?}");
            assert!(ttl_ms(&mut connection, &key) > 0);
        }
        let () = redis::cmd("DEL").arg(&key).query(&mut connection).unwrap();
        let () = redis::cmd("RPUSH").arg(&key).arg("foreign").query(&mut connection).unwrap();
        let reading = put(&redis, "alice", limit, 1, soon()).await.expect("decided");
        assert_eq!((reading.admitted, reading.remaining), (true, 9), "{algorithm:?} over a list");
        damaged += 1;
        assert_eq!(redis.stats().damaged.get(), damaged, "{algorithm:?} over a list");
        assert_eq!(put(&redis, "alice", limit, 1, soon()).await.expect("decided").remaining, 8);
    }
}

fn ttl_ms(connection: &mut redis::Connection, key: &[u8]) -> i64 {
    redis::cmd("PTTL").arg(key).query(connection).unwrap()
}

#[tokio::test]
async fn every_key_lives_as_long_as_it_means_something_and_not_thrice() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let mut connection = server.connection();
    for algorithm in Algorithm::ALL {
        // Every bucket is full after these hits, so each counter means something for about an hour.
        let limit = Limit { burst: 10, ..Limit::new(10, HOUR.window, algorithm) };
        let mut reset = 0;
        for _ in 0..10 {
            reset = put(&redis, "alice", limit, 1, soon()).await.expect("decided").reset.0;
        }
        let ttl = ttl_ms(&mut connection, &key_of("alice", limit));
        let hour = 3_600_000;
        assert!(ttl >= i64::try_from(reset / 1_000).unwrap(), "{algorithm:?}: {ttl} ms");
        assert!(ttl <= 3 * hour, "{algorithm:?}: {ttl} ms");
        if algorithm != Algorithm::FixedWindow {
            assert!(ttl >= hour, "{algorithm:?}: {ttl} ms");
        }
    }
}

#[tokio::test]
async fn lowered_limit_lengthens_the_life_of_a_bucket() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let bucket = |requests| Limit { burst: 6_000, ..Limit::new(requests, HOUR.window, Algorithm::TokenBucket) };
    put(&redis, "alice", bucket(6_000), 6_000, soon()).await.expect("decided");
    // A look at a tenth of the speed: nothing is charged, but the bucket now needs ten hours.
    put(&redis, "alice", bucket(600), 0, soon()).await.expect("decided");
    let ttl = ttl_ms(&mut server.connection(), &key_of("alice", bucket(600)));
    assert!(ttl >= 36_000_000 - 10_000, "{ttl} ms");
}

#[tokio::test]
async fn demoted_node_is_left_and_taken_again_when_it_is_promoted() {
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    hit(&redis, "alice").await.expect("Redis is up");
    let nobody = crate::redis_server::free_port().to_string();
    let () = redis::cmd("REPLICAOF").arg("127.0.0.1").arg(&nobody).query(&mut server.connection()).unwrap();
    let answer = hit(&redis, "alice").await;
    assert!(matches!(answer, Err(StoreError::Unreachable(_))), "{answer:?}");
    let () = redis::cmd("REPLICAOF").arg("NO").arg("ONE").query(&mut server.connection()).unwrap();
    let patience = timeout(Duration::from_secs(3), async {
        loop {
            redis.up().await;
            if hit(&redis, "alice").await.is_ok() {
                return;
            }
        }
    });
    patience.await.expect("in use again");
    assert_eq!(counted(&redis, "alice").await, 2);
}

#[tokio::test]
async fn one_refused_request_does_not_fail_the_others_of_its_batch() {
    let server = RedisServer::start();
    server.cli(&["ACL", "SETUSER", "limited", "on", ">secret", "+@all", "~*user=good*"]);
    let auth = Auth::Password { user: Some("limited".into()), password: "secret".into() };
    let redis = store(RedisSettings { auth, ..settings(&server) }).await;
    let asked = ["good1", "bad", "good2"].map(|user| {
        let redis = redis.clone();
        tokio::spawn(async move { hit(&redis, user).await })
    });
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    assert_eq!(answers[0].as_ref().map(|reading| reading.remaining), Ok(9), "{answers:?}");
    assert!(matches!(answers[1], Err(StoreError::Refused(_))), "{answers:?}");
    assert_eq!(answers[2].as_ref().map(|reading| reading.remaining), Ok(9), "{answers:?}");
}

#[tokio::test]
async fn password_file_is_read_again_at_each_connection() {
    let mut server = RedisServer::start_with(&["--requirepass", "second"]);
    let file = server.dir().join("auth");
    std::fs::write(&file, "first\n").unwrap();
    let settings = RedisSettings { auth: Auth::File(file.clone()), ..settings(&server) };
    let tasks = tokio_util::task::TaskTracker::new();
    let redis = Redis::start(settings.into(), &tasks, tokio_util::sync::CancellationToken::new());
    until(|| redis.stats().connect_failures.get() > 1, Duration::from_secs(5), "the old password is refused").await;
    assert!(!redis.is_up());
    std::fs::write(&file, "second\n").unwrap();
    timeout(Duration::from_secs(2), redis.up()).await.expect("the new password is read");
    hit(&redis, "alice").await.expect("Redis is up");
    server.kill();
}

#[tokio::test]
async fn an_attempt_without_an_answer_holds_up_no_other() {
    let server = RedisServer::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = server.address();
    tokio::spawn(async move {
        // The first is taken and never answered, as by a node that is gone; the others come through.
        let _silent = listener.accept().await.unwrap();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut redis = tokio::net::TcpStream::connect(&address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut redis).await });
        }
    });
    let topology = Topology::Single(Address::Tcp { host: "127.0.0.1".into(), port });
    let settings = RedisSettings { topology, connect_timeout: Duration::from_secs(3600), ..settings(&server) };
    let tasks = tokio_util::task::TaskTracker::new();
    let redis = Redis::start(settings.into(), &tasks, tokio_util::sync::CancellationToken::new());
    timeout(Duration::from_secs(30), redis.up()).await.expect("another attempt is made beside the first");
    hit(&redis, "alice").await.expect("Redis is up");
}

#[tokio::test]
async fn unix_socket_is_as_good_as_tcp() {
    let server = RedisServer::start_with(&["--unixsocket", "{dir}/redis.sock"]);
    let address = Address::Unix(server.dir().join("redis.sock"));
    let redis = store(RedisSettings::new(Topology::Single(address))).await;
    assert_eq!(hit(&redis, "alice").await.expect("Redis is up").remaining, 9);
}

#[tokio::test]
async fn store_that_is_stopped_answers_everybody() {
    let server = RedisServer::start();
    let (tasks, stop) = (tokio_util::task::TaskTracker::new(), tokio_util::sync::CancellationToken::new());
    let redis = Redis::start(settings(&server).into(), &tasks, stop.clone());
    redis.up().await;
    server.freeze();
    let asked = tokio::spawn({
        let redis = redis.clone();
        async move { hit(&redis, "alice").await }
    });
    until(|| redis.stats().batches.get() == 1, Duration::from_secs(1), "the batch has left").await;
    stop.cancel();
    tasks.close();
    timeout(Duration::from_secs(1), tasks.wait()).await.expect("every task ends");
    assert!(matches!(asked.await.unwrap(), Err(StoreError::Unreachable(_))));
    assert!(matches!(hit(&redis, "alice").await, Err(StoreError::Unreachable(_))));
}

#[tokio::test]
async fn denial_is_given_again_without_asking() {
    for server in RedisServer::of_both_protocols() {
        let here = store(settings(&server)).await;
        put(&here, "alice", HOUR, 10, soon()).await.expect("decided");
        let first = hit(&here, "alice").await.expect("decided");
        assert!(!first.admitted);
        let batches = here.stats().batches.get();
        for _ in 0..5 {
            let again = hit(&here, "alice").await.expect("decided");
            assert!(!again.admitted && again.reset <= first.reset, "{again:?} after {first:?}");
        }
        assert_eq!((here.stats().batches.get(), here.stats().denied_from_cache.get()), (batches, 5));
    }
}

/// Asks until alice is admitted; says whether that was before a denial asked for at `asked` is forgotten by itself.
async fn is_admitted_again(redis: &Redis, asked: Instant) -> bool {
    while !hit(redis, "alice").await.expect("decided").admitted {
        tokio::task::yield_now().await;
    }
    asked.elapsed() < Duration::from_millis(900)
}

#[tokio::test]
async fn denial_is_forgotten_once_another_replica_gives_hits_back() {
    for server in RedisServer::of_both_protocols() {
        let (here, there) = (store(settings(&server)).await, store(settings(&server)).await);
        put(&here, "alice", HOUR, 10, soon()).await.expect("decided");
        let mut is_heard = false;
        // A busy machine may take its second, but not each time.
        for _ in 0..10 {
            let asked = Instant::now();
            assert!(!hit(&here, "alice").await.expect("decided").admitted);
            put(&there, "alice", HOUR, -1, soon()).await.expect("decided");
            is_heard = is_heard || is_admitted_again(&here, asked).await;
            if is_heard {
                break;
            }
        }
        assert!(is_heard, "the refund is not heard of");
    }
}

/// In RESP2 what listens is a connection of its own: with its end the other is of no use any more, since what is said
/// meanwhile is not heard.
#[tokio::test]
async fn who_no_longer_hears_of_refunds_forgets_denials_and_listens_again() {
    for server in RedisServer::of_both_protocols() {
        let redis = store(settings(&server)).await;
        put(&redis, "alice", HOUR, 10, soon()).await.expect("decided");
        assert!(!hit(&redis, "alice").await.expect("decided").admitted);
        assert_eq!(redis.cached_denials(), 1);
        let connects = redis.stats().connects.get();
        server.cli(&["client", "kill", "type", "pubsub"]);
        until(|| redis.stats().connects.get() > connects, Duration::from_secs(5), "a new connection").await;
        timeout(Duration::from_secs(5), redis.up()).await.expect("connected again");
        assert_eq!(redis.cached_denials(), 0, "nothing from before is believed");
        assert!(!hit(&redis, "alice").await.expect("decided").admitted);
        assert_eq!(redis.cached_denials(), 1, "it listens again");
    }
}

#[tokio::test]
async fn denial_is_forgotten_once_its_counter_is_named_on_the_channel() {
    let server = RedisServer::start();
    let settings = settings(&server);
    let redis = store(settings.clone()).await;
    let mut elsewhere = server.connection();
    let entries = [Entry { key: "user", value: "alice" }];
    let counter = settings.counter_key(&ask(&entries, HOUR, 1).key, &HOUR);
    let mut is_heard = false;
    // A busy machine may take its second, but not each time.
    for _ in 0..10 {
        put(&redis, "alice", HOUR, 10, soon()).await.expect("decided");
        let asked = Instant::now();
        assert!(!hit(&redis, "alice").await.expect("decided").admitted);
        let gone: u64 = redis::cmd("DEL").arg(&counter).query(&mut elsewhere).unwrap();
        assert_eq!(gone, 1, "the counter has the key that the settings say");
        let told = redis::cmd("PUBLISH").arg(settings.refunds_channel()).arg(&counter).query::<u64>(&mut elsewhere);
        assert_eq!(told.unwrap(), 1);
        is_heard |= is_admitted_again(&redis, asked).await;
        put(&redis, "alice", HOUR, -10, soon()).await.expect("decided");
    }
    assert!(is_heard);
}

#[tokio::test]
async fn own_refund_is_seen_at_once() {
    for server in RedisServer::of_both_protocols() {
        let redis = store(settings(&server)).await;
        put(&redis, "alice", HOUR, 10, soon()).await.expect("decided");
        for _ in 0..20 {
            assert!(!hit(&redis, "alice").await.expect("decided").admitted);
            assert!(!hit(&redis, "alice").await.expect("decided").admitted);
            put(&redis, "alice", HOUR, -1, soon()).await.expect("decided");
            assert!(hit(&redis, "alice").await.expect("decided").admitted);
        }
    }
}

#[tokio::test]
async fn user_who_may_not_listen_counts_without_remembering_denials() {
    let server = RedisServer::start();
    server.cli(&["ACL", "SETUSER", "deaf", "on", ">secret", "+@all", "~*", "resetchannels"]);
    let auth = Auth::Password { user: Some("deaf".into()), password: "secret".into() };
    let redis = store(RedisSettings { auth, ..settings(&server) }).await;
    put(&redis, "alice", HOUR, 10, soon()).await.expect("decided");
    for _ in 0..3 {
        assert!(!hit(&redis, "alice").await.expect("decided").admitted);
    }
    assert_eq!(redis.stats().denied_from_cache.get(), 0);
    put(&redis, "alice", HOUR, -1, soon()).await.expect("a refund that can't be told of is made all the same");
    assert!(hit(&redis, "alice").await.expect("decided").admitted);
}

#[tokio::test]
async fn replica_with_other_buckets_or_another_default_algorithm_is_told_of() {
    let server = RedisServer::start();
    let first = store(settings(&server)).await;
    let alike = store(settings(&server)).await;
    let other = store(RedisSettings { buckets: Some(key::Buckets::Hashed(16)), ..settings(&server) }).await;
    let apart = store(RedisSettings {
        buckets: Some(key::Buckets::Hashed(16)),
        key_prefix: "other:".into(),
        ..settings(&server)
    })
    .await;
    let default_algorithm = Algorithm::FixedWindow;
    let fixed = store(RedisSettings { default_algorithm, ..settings(&server) }).await;
    let mismatches = [&first, &alike, &other, &apart, &fixed].map(|redis| redis.stats().mismatches.get());
    assert_eq!(mismatches, [0, 0, 1, 0, 1]);
    assert_eq!(first.mismatch(), None);
    let mismatch = fixed.mismatch().expect("it counts apart");
    assert_eq!(mismatch.theirs, "buckets=256 algorithm=sliding_window");
    assert_eq!(mismatch.ours, "buckets=256 algorithm=fixed_window");
    assert!(ttl_ms(&mut server.connection(), b"tg1:meta") > 0);
}
