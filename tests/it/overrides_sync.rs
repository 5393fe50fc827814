//! Run-time overrides between replicas and Redis, without the rest of the service: news, catching up, and what happens
//! when Redis forgets, goes away or falls back to an older copy.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate::{
    clock,
    limit::Entry,
    rules::{self, Defaults, RuleMatch, Rules, Source, Sources},
    run_time::overrides::{ChangeRequest, Condition, Filter, Overrides, OverridesError, WriteReceipt},
    store::{
        StoreError,
        redis::{Auth, CommandConnection, RedisSettings, Topology},
    },
};

use crate::harness::PATIENCE;
use crate::redis_server::{RedisCluster, RedisServer, start_sentinel};
use crate::redis_twin::settings;

const DOMAIN: &str = "api";

/// The stream of announcements.
const ANNOUNCED: &str = "tg1:overrides:announced";

/// One replica's set, with the tasks that keep it.
struct Replica {
    overrides: Arc<Overrides>,
    rules: Mutex<Rules>,
    stop: CancellationToken,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Replica {
    fn start(settings: RedisSettings) -> Replica {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let channel = Some(Overrides::channel(&settings));
        let (side, heard) = CommandConnection::start(Arc::new(settings), channel, &tasks, stop.clone());
        let overrides = Arc::new(Overrides::in_redis(side));
        // As presence says where no replica is of an older release.
        overrides.all_announce(true);
        let replica = Replica { overrides, rules: Mutex::default(), stop: stop.clone() };
        replica.load(&[DOMAIN]);
        let run = Arc::clone(&replica.overrides).run(Some(heard));
        tasks.spawn(stop.run_until_cancelled_owned(run));
        replica
    }

    /// Puts rules for these domains in force.
    fn load(&self, domains: &[&str]) {
        let rules = rules_of(domains);
        self.overrides.prepare(&rules);
        *self.rules.lock().unwrap() = rules;
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, mut is_so: impl FnMut(&Overrides) -> bool) {
        let looking = async {
            while !is_so(&self.overrides) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
    }

    async fn until_rows(&self, rows: usize) {
        self.until(&format!("{rows} rows"), |overrides| {
            overrides.shown(clock::now()).iter().map(|shown| shown.rows).sum::<usize>() == rows
        })
        .await;
    }

    async fn write(
        &self,
        id: &str,
        record: Option<&str>,
        condition: Condition,
    ) -> Result<WriteReceipt, OverridesError> {
        self.write_in(DOMAIN, id, record, condition).await
    }

    async fn write_in(
        &self,
        domain: &str,
        id: &str,
        record: Option<&str>,
        condition: Condition,
    ) -> Result<WriteReceipt, OverridesError> {
        let change = ChangeRequest { domain, id, record, condition, token: "ops", reason: "a test" };
        let write = || self.overrides.write(&change, clock::now());
        // The connection is made in the background: until it stands a write is refused, and nothing happens.
        let trying = async {
            loop {
                match write().await {
                    Err(OverridesError::Store(StoreError::Unreachable(_))) => sleep(Duration::from_millis(5)).await,
                    written => return written,
                }
            }
        };
        timeout(PATIENCE, trying).await.expect("Redis is reached")
    }

    /// Sets one override in each of these domains.
    async fn set_in(&self, domains: &[String]) {
        for domain in domains {
            self.write_in(domain, "a", Some(&record("alice")), Condition::None).await.expect("it is written");
        }
    }

    /// Puts rules for many domains in force, and waits until their overrides are read.
    async fn load_many(&self, domains: &[String]) {
        self.load(&domains.iter().map(String::as_str).collect::<Vec<_>>());
        self.until("all domains are read", Overrides::are_read).await;
    }

    async fn set(&self, id: &str, user: &str) -> u64 {
        let written = self.write(id, Some(&record(user)), Condition::None).await;
        written.expect("it is written").version
    }

    async fn delete(&self, id: &str) {
        self.write(id, None, Condition::None).await.expect("it is deleted");
    }

    fn id_for(&self, user: &str) -> Option<Box<str>> {
        let entries = [Entry { key: "user", value: user }];
        let rules = self.rules.lock().unwrap();
        let RuleMatch::Rule { domain, rule } = rules.find(DOMAIN, &entries) else {
            panic!("there is a rule for users")
        };
        let view = self.overrides.view();
        let (row, _) = view.domain(DOMAIN)?.overrides.as_ref()?.find(
            &rules.domains()[domain.0 as usize],
            rule,
            &entries,
            clock::now,
        )?;
        Some(row.id.clone())
    }
}

fn rules_of(domains: &[&str]) -> Rules {
    let file = |domain: &&str| Source {
        path: format!("{domain}.yaml").into(),
        bytes: format!("domain: {domain}\ndescriptors: [{{key: user, rate_limit: 5/s}}]\n").into_bytes(),
    };
    let sources = Sources { files: domains.iter().map(file).collect(), ..Sources::default() };
    let load = rules::load(&sources, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{}", load.problems.render());
    load.rules
}

fn record(user: &str) -> String {
    format!(r#"{{"override":{{"match":{{"user":"{user}"}},"limit":"5/s"}},"limits":[],"by":"ops","at":1}}"#)
}

#[tokio::test]
async fn what_one_replica_writes_is_in_force_there_at_once_and_soon_on_the_other() {
    let redis = RedisServer::start();
    let [here, there] = [(); 2].map(|()| Replica::start(settings(&redis)));
    let version = here.set("a", "alice").await;
    assert_eq!(here.id_for("alice").as_deref(), Some("a"), "whoever wrote it sees it at once");
    there.until("alice's row", |_| there.id_for("alice").is_some()).await;
    assert_eq!(there.overrides.get(DOMAIN, "a").expect("it is there").version, version);

    let newer = there.set("a", "anna").await;
    assert!(newer > version, "{newer} after {version}");
    here.until("anna's row", |_| here.id_for("anna").is_some()).await;
    assert_eq!(here.id_for("alice"), None, "the old match is gone with the old row");
    here.delete("a").await;
    there.until_rows(0).await;
}

#[tokio::test]
async fn a_write_whose_condition_does_not_hold_changes_nothing() {
    let redis = RedisServer::start();
    let replica = Replica::start(settings(&redis));
    let absent = replica.write("a", Some(&record("alice")), Condition::Exists).await;
    assert_eq!(absent, Err(OverridesError::Changed { version: None }));
    assert_eq!(replica.write("a", None, Condition::None).await, Err(OverridesError::Missing));
    let first = replica.set("a", "alice").await;
    let second = replica.write("a", Some(&record("bob")), Condition::Version(first)).await.expect("nobody was faster");
    assert_eq!(second.before.as_deref(), Some(&*record("alice")));
    for condition in [Condition::Version(first), Condition::Absent] {
        let refused = replica.write("a", Some(&record("carol")), condition).await;
        assert_eq!(refused, Err(OverridesError::Changed { version: Some(second.version) }), "{condition:?}");
    }
    assert_eq!(replica.id_for("bob").as_deref(), Some("a"));
    assert_eq!(replica.overrides.audit(&[DOMAIN], None, 100).await.expect("Redis answers").len(), 2);
}

#[tokio::test]
async fn a_replica_that_starts_late_or_was_away_knows_all_of_it() {
    let mut redis = RedisServer::start_with(&["--appendonly", "yes"]);
    let here = Replica::start(settings(&redis));
    for nth in 0..1_200 {
        here.set(&format!("row{nth}"), &format!("user{nth}")).await;
    }
    let late = Replica::start(settings(&redis));
    late.until_rows(1_200).await;
    // Both lose their connection; what is written after it came back is caught up with by changes.
    redis.restart();
    here.delete("row7").await;
    here.set("row8", "another").await;
    late.until("the changes", |_| late.id_for("another").is_some() && late.id_for("user7").is_none()).await;
    assert_eq!(late.overrides.losses(), 0, "the rows were there all the time");
}

#[tokio::test]
async fn what_redis_forgets_stays_in_force_and_is_written_back() {
    let redis = RedisServer::start();
    let [here, there] = [(); 2].map(|()| Replica::start(settings(&redis)));
    for nth in 0..250 {
        here.set(&format!("row{nth}"), &format!("user{nth}")).await;
    }
    there.until_rows(250).await;
    let version = here.overrides.get(DOMAIN, "row3").expect("it is there").version;
    redis.cli(&["flushall"]);
    let rows = || redis.cli(&["hlen", "tg1:overrides:{api}"]).parse::<usize>().expect("a number");
    let written_back = async {
        loop {
            for replica in [&here, &there] {
                assert_eq!(replica.id_for("user3").as_deref(), Some("row3"), "it never stops being in force");
            }
            if rows() >= 252 {
                break;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, written_back).await.expect("the rows come back");
    let late = Replica::start(settings(&redis));
    late.until_rows(250).await;
    assert_eq!(late.overrides.get(DOMAIN, "row3").expect("it came back").version, version, "its etag still holds");
    assert!(here.overrides.losses() + there.overrides.losses() >= 1);
    // After a loss a write is heard of as before.
    there.delete("row3").await;
    for replica in [&here, &late] {
        replica.until_rows(249).await;
    }
}

#[tokio::test]
async fn a_write_to_a_redis_that_forgot_brings_the_others_back_first() {
    let redis = RedisServer::start();
    let replica = Replica::start(settings(&redis));
    replica.set("a", "alice").await;
    redis.cli(&["flushall"]);
    // Whether the loss was noticed before or is noticed by this write: it must not begin an empty history.
    replica.set("b", "bob").await;
    let late = Replica::start(settings(&redis));
    late.until_rows(2).await;
}

#[tokio::test]
async fn what_was_deleted_since_the_loss_does_not_come_back() {
    let redis = RedisServer::start();
    let here = Replica::start(settings(&redis));
    here.set("kept", "alice").await;
    here.set("deleted", "bob").await;
    let away = Replica::start(settings(&redis));
    away.until_rows(2).await;
    // It forgets too, as one that starts anew; what it reads must be without the deleted one.
    away.load(&[]);
    away.until_rows(0).await;
    redis.cli(&["flushall"]);
    here.until("the loss", |overrides| overrides.losses() == 1).await;
    here.delete("deleted").await;
    away.load(&[DOMAIN]);
    away.until_rows(1).await;
    assert_eq!(redis.cli(&["hexists", "tg1:overrides:{api}", "deleted"]), "0");
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_written_and_the_last_known_hold() {
    let mut redis = RedisServer::start();
    let replica = Replica::start(settings(&redis));
    replica.set("a", "alice").await;
    redis.kill();
    let lost = async {
        let record = record("bob");
        let change = ChangeRequest {
            domain: DOMAIN,
            id: "b",
            record: Some(&record),
            condition: Condition::None,
            token: "ops",
            reason: "",
        };
        replica.overrides.write(&change, clock::now()).await
    };
    let refused = timeout(PATIENCE, lost).await.expect("it is refused, and soon");
    assert!(matches!(refused, Err(OverridesError::Store(StoreError::Unreachable(_)))), "{refused:?}");
    assert_eq!(replica.id_for("alice").as_deref(), Some("a"));
    assert_eq!(replica.id_for("bob"), None, "nothing half-applied");
    // It comes back empty, and gets what it had.
    redis.restart();
    replica.until("the loss", |overrides| overrides.losses() == 1).await;
    let late = Replica::start(settings(&redis));
    late.until_rows(1).await;
}

#[tokio::test]
async fn they_are_kept_in_a_cluster_one_slot_for_each_domain() {
    let cluster = RedisCluster::start();
    let seeds = cluster.nodes[..1].iter().map(crate::redis_topology::address).collect();
    let [here, there] =
        [(); 2].map(|()| Replica::start(RedisSettings::new(Topology::Cluster { seeds: Vec::clone(&seeds) })));
    for replica in [&here, &there] {
        let names: Vec<String> = (0..8).map(|nth| format!("domain{nth}")).collect();
        replica.load(&names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for nth in 0..8 {
        let (domain, record) = (format!("domain{nth}"), record("alice"));
        let change = ChangeRequest {
            domain: &domain,
            id: "a",
            record: Some(&record),
            condition: Condition::None,
            token: "ops",
            reason: "",
        };
        let trying = async {
            while let Err(error) = here.overrides.write(&change, clock::now()).await {
                assert!(matches!(error, OverridesError::Store(StoreError::Unreachable(_))), "{error}");
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, trying).await.expect("the node of its slot is found");
    }
    there.until_rows(8).await;
    let holding = cluster.nodes.iter().filter(|node| node.cli(&["dbsize"]) != "0").count();
    assert!(holding > 1, "eight domains lie on more than one of three nodes");
    let announced = || cluster.nodes.iter().filter(|node| node.cli(&["exists", ANNOUNCED]) == "1").count();
    there.until("the announcements, on one node", |_| announced() == 1).await;
}

#[tokio::test]
async fn a_master_is_followed_after_a_failover() {
    let mut first = RedisServer::start();
    let second = RedisServer::start_with(&["--replicaof", "127.0.0.1", &first.port().to_string()]);
    let sentinel = start_sentinel(&first);
    let sentinels = vec![crate::redis_topology::address(&sentinel)];
    let replica = Replica::start(RedisSettings::new(Topology::Sentinel { master: "tollgate".into(), sentinels }));
    replica.set("a", "alice").await;
    let known = async {
        while !sentinel.cli(&["sentinel", "replicas", "tollgate"]).contains(&second.port().to_string())
            || second.cli(&["hexists", "tg1:overrides:{api}", "a"]) != "1"
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, known).await.expect("the replica has the row and the sentinel knows it");
    first.kill();
    let after = async {
        while replica.write("b", Some(&record("bob")), Condition::None).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(2 * PATIENCE, after).await.expect("the promoted replica takes writes");
    assert_eq!(second.cli(&["hlen", "tg1:overrides:{api}"]), "4", "two rows, and what holds for all");
    // A position of the old master, or none: either way what is announced from now on is heard of.
    let late = Replica::start(deaf(&second));
    late.until_rows(2).await;
    replica.set("c", "carol").await;
    late.until_rows(3).await;
}

#[tokio::test]
async fn a_list_comes_in_pages_by_id_and_filtered() {
    let redis = RedisServer::start();
    let replica = Replica::start(settings(&redis));
    for (id, user) in [("a", "alice"), ("b", "bob"), ("c", "anna"), ("d", "albert")] {
        replica.set(id, user).await;
    }
    let list = |filter, after: Option<&str>, at_most| {
        let page = replica.overrides.list(DOMAIN, filter, after, at_most);
        (page.rows.iter().map(|row| row.id.to_string()).collect::<String>(), page.next.map(String::from))
    };
    let all = Filter::default();
    assert_eq!(list(all, None, 3), ("abc".into(), Some("c".into())));
    assert_eq!(list(all, Some("c"), 3), ("d".into(), None));
    assert_eq!(list(all, None, 4), ("abcd".into(), None), "no further page for nothing");
    let al = Filter { key: "user", value_prefix: "al" };
    assert_eq!(list(al, None, 1), ("a".into(), Some("a".into())));
    assert_eq!(list(al, Some("a"), 5), ("d".into(), None));
    assert_eq!(list(Filter { key: "tenant", value_prefix: "" }, None, 5), ("".into(), None));
}

/// As a user who may not subscribe, or behind a proxy: what others write is found by polling only.
fn deaf(redis: &RedisServer) -> RedisSettings {
    redis.cli(&["acl", "setuser", "deaf", "on", ">secret", "+@all", "~*", "resetchannels"]);
    let auth = Auth::Password { user: Some("deaf".into()), password: "secret".into() };
    RedisSettings { auth, ..settings(redis) }
}

/// As a user who may write overrides and can't announce it, so that each write is as one whose author ended before.
fn mute(redis: &RedisServer) -> RedisSettings {
    redis.cli(&["acl", "setuser", "mute", "on", ">secret", "+@all", "~tg1:overrides:{*", "~tg1:{*", "&*"]);
    let auth = Auth::Password { user: Some("mute".into()), password: "secret".into() };
    RedisSettings { auth, ..settings(redis) }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|nth| format!("domain{nth}")).collect()
}

/// Number of commands for overrides that Redis has run since `CONFIG RESETSTAT`. Those within a script don't count.
fn commands(redis: &RedisServer) -> u32 {
    let stats = redis.cli(&["info", "commandstats"]);
    let calls = |command: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")))?;
        line.split(',').next()?.parse::<u32>().ok()
    };
    ["eval", "xrange", "xrevrange", "xadd", "hscan"].into_iter().filter_map(calls).sum()
}

/// Waits until what replicas ask when they get their domains is over: three commands a second are left then, so that
/// Redis runs none within some fifth of a second.
async fn settled(redis: &RedisServer) {
    let quiet = async {
        loop {
            redis.cli(&["config", "resetstat"]);
            let until = clock::instant() + Duration::from_millis(200);
            while commands(redis) == 0 && clock::instant() < until {
                sleep(Duration::from_millis(20)).await;
            }
            if commands(redis) == 0 {
                break;
            }
        }
    };
    timeout(PATIENCE, quiet).await.expect("what is asked at the start ends");
}

/// How long it takes until Redis has run so many commands more.
async fn time_of(redis: &RedisServer, count: u32) -> Duration {
    redis.cli(&["config", "resetstat"]);
    let begun = clock::instant();
    let asked = async {
        while commands(redis) < count {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect("it goes on asking");
    begun.elapsed()
}

#[tokio::test]
async fn a_replica_polls_once_a_second_whatever_the_number_of_domains() {
    let redis = RedisServer::start();
    let names = names(50);
    let [idle, replica] = [(); 2].map(|()| Replica::start(settings(&redis)));
    idle.load(&[]);
    replica.load_many(&names).await;
    settled(&redis).await;
    // A replica reads the stream and looks at one domain in turn; the one without domains only reads the stream. So it is
    // three commands a second, give or take a fifth.
    let took = time_of(&redis, 12).await;
    assert!(took > Duration::from_millis(2_400), "twelve commands within {took:?}");
    replica.set_in(&names).await;
    replica
        .until("the writes are known", |overrides| {
            overrides.shown(clock::now()).iter().all(|shown| shown.generation > 0)
        })
        .await;
    let took = time_of(&redis, 12).await;
    assert!(took > Duration::from_millis(1_500), "twelve commands within {took:?}, where domains have overrides");
}

#[tokio::test]
async fn a_write_whose_message_is_missed_is_found_by_one_read_within_two_seconds() {
    let redis = RedisServer::start();
    let (here, there) = (Replica::start(settings(&redis)), Replica::start(deaf(&redis)));
    let names = names(50);
    here.load_many(&names).await;
    there.load_many(&names).await;
    here.set_in(&names[..1]).await;
    there.until_rows(1).await;
    // From now on there is a stream, and a position in it.
    for round in 0..3 {
        let begun = clock::instant();
        here.set_in(&names[10 * round + 1..10 * round + 11]).await;
        there.until_rows(10 * round + 11).await;
        // In turn alone it would take the most of fifty seconds.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_write_that_was_not_announced_is_found_in_turn_and_then_announced() {
    let redis = RedisServer::start();
    let (here, there) = (Replica::start(mute(&redis)), Replica::start(deaf(&redis)));
    let names = names(4);
    here.load_many(&names).await;
    there.load_many(&names).await;
    here.set_in(&names).await;
    there.until_rows(4).await;
    there
        .until("four announcements", |_| {
            let announced = redis.cli(&["xrange", ANNOUNCED, "-", "+"]);
            names.iter().all(|name| announced.lines().any(|line| line == name))
        })
        .await;
}

#[tokio::test]
async fn while_a_replica_announces_nothing_every_domain_is_looked_at_each_second() {
    let redis = RedisServer::start();
    let (old, there) = (Replica::start(mute(&redis)), Replica::start(deaf(&redis)));
    let names = names(300);
    old.load_many(&names).await;
    there.load_many(&names).await;
    there.overrides.all_announce(false);
    let begun = clock::instant();
    old.set_in(&names[..40]).await;
    there.until_rows(40).await;
    // In turn alone the last of forty would take most of three hundred seconds.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_lost_stream_of_announcements_has_every_domain_looked_at() {
    let redis = RedisServer::start();
    let (here, there) = (Replica::start(settings(&redis)), Replica::start(deaf(&redis)));
    let names = names(60);
    here.load_many(&names).await;
    there.load_many(&names).await;
    here.set_in(&names).await;
    there.until_rows(60).await;
    redis.cli(&["flushall"]);
    let rows = || names.iter().filter(|name| redis.cli(&["hexists", &format!("tg1:overrides:{{{name}}}"), "a"]) == "1");
    there.until("all is written back", |_| rows().count() == 60).await;
    // The stream alone is lost, and with it the announcement of a write.
    here.write_in(&names[7], "b", Some(&record("bob")), Condition::None).await.expect("it is written");
    redis.cli(&["del", ANNOUNCED]);
    there.until_rows(61).await;
    there.until("there is a stream again", |_| redis.cli(&["exists", ANNOUNCED]) == "1").await;
    here.write_in(&names[8], "b", Some(&record("bob")), Condition::None).await.expect("it is written");
    there.until_rows(62).await;
}

#[tokio::test]
async fn a_stream_that_is_lost_just_after_it_was_made_is_missed() {
    let redis = RedisServer::start();
    let (here, there) = (Replica::start(settings(&redis)), Replica::start(deaf(&redis)));
    let names = names(60);
    here.load_many(&names).await;
    there.load_many(&names).await;
    here.set_in(&names).await;
    there.until_rows(60).await;
    let looks = || -> usize {
        let stats = redis.cli(&["info", "commandstats"]);
        let calls = stats.split_once("cmdstat_eval:calls=").and_then(|(_, rest)| rest.split_once(','));
        calls.and_then(|(calls, _)| calls.parse().ok()).expect("domains were looked at")
    };
    // Whoever finds no stream makes one and looks at every domain, at times the other replica.
    for (nth, name) in names.iter().enumerate().take(8) {
        let before = looks();
        redis.cli(&["del", ANNOUNCED]);
        there.until("one replica has looked at all", |_| looks() >= before + names.len()).await;
        here.write_in(name, "b", Some(&record("bob")), Condition::None).await.expect("it is written");
        let is_announced = |_: &Overrides| redis.cli(&["xrange", ANNOUNCED, "-", "+"]).contains(name.as_str());
        here.until("the write is announced", is_announced).await;
        // Before the next poll it is lost, and made by somebody else.
        redis.cli(&["del", ANNOUNCED]);
        redis.cli(&["xadd", ANNOUNCED, "*", "", "0"]);
        there.until_rows(61 + nth).await;
    }
}

#[tokio::test]
async fn a_stream_that_can_not_be_read_costs_looks_at_every_domain_and_no_write() {
    let redis = RedisServer::start();
    redis.cli(&["set", ANNOUNCED, "of somebody else"]);
    let (here, there) = (Replica::start(settings(&redis)), Replica::start(deaf(&redis)));
    let names = names(40);
    here.load_many(&names).await;
    there.load_many(&names).await;
    here.set_in(&names).await;
    there.until_rows(40).await;
}

#[tokio::test]
async fn many_writes_at_once_are_few_announcements() {
    let redis = RedisServer::start();
    let here = Replica::start(settings(&redis));
    for nth in 0..1_000 {
        here.set(&format!("row{nth}"), "alice").await;
    }
    here.until("the last is announced", |overrides| {
        let last = redis.cli(&["xrevrange", ANNOUNCED, "+", "-", "count", "1"]);
        let newest = overrides.get(DOMAIN, "row999").expect("it is written").version;
        last.ends_with(&newest.to_string())
    })
    .await;
    let announcements: u32 = redis.cli(&["xlen", ANNOUNCED]).parse().expect("a number");
    assert!(announcements < 500, "{announcements} for a thousand writes");
}
