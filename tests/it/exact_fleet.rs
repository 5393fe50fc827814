//! Three processes before one Redis, or before a Cluster, are asked by thousands at once over gRPC: exactly the limit is
//! admitted. Without Redis they would admit nobody, and it is looked at that no answer was theirs alone.

use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Verdict;
use tokio::task::JoinSet;

use crate::{
    harness::{REDIS_CONNECTIONS, Rls, RulesDir, Tollgate, descriptor, request},
    redis_server::{RedisCluster, RedisServer},
};

const REPLICAS: usize = 3;
const REQUESTS: usize = 2_000;
const LIMIT: usize = 100;
const WIDE: usize = 300;

const ALGORITHMS: [&str; 5] = ["sliding_window", "fixed_window", "sliding_log", "token_bucket", "leaky_bucket"];

/// Users who are tried until the machine has once answered each of their requests within the store's second.
const ATTEMPTS: usize = 10;

/// Requests after a rush, a moment apart, within which what was given back has been used.
const TRIES: usize = 300;

struct Fleet {
    replicas: Vec<Tollgate>,
    clients: Vec<Rls>,
    _rules: RulesDir,
}

impl Fleet {
    /// `env` says which Redis.
    async fn start(env: &[(&str, &str)]) -> Fleet {
        let mut text = String::from("domain: api\ndescriptors:\n");
        for algorithm in ALGORITHMS {
            for (name, requests) in [("tight", LIMIT), ("wide", WIDE)] {
                let burst = if algorithm.ends_with("bucket") { format!(", burst: {requests}") } else { String::new() };
                // So long a window that a bucket regains nothing while the test runs.
                let limit = format!("requests_per_unit: {requests}, unit: year, algorithm: {algorithm}{burst}");
                text +=
                    &format!("  - {{key: {algorithm}_{name}, on_store_failure: closed, rate_limit: {{{limit}}}}}\n");
            }
        }
        let rules = RulesDir::with("api.yaml", &text);
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            let tollgate = Tollgate::start_with(rules.path(), env).await;
            tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
            replicas.push(tollgate);
        }
        let clients = replicas.iter().map(Tollgate::client).collect();
        Fleet { replicas, clients, _rules: rules }
    }

    /// Whether `user` is admitted by both limits of an algorithm.
    fn ask(&self, nth: usize, algorithm: &str, user: &str) -> impl Future<Output = bool> + Send + use<> {
        let descriptors = ["wide", "tight"].map(|name| descriptor(&[(&format!("{algorithm}_{name}"), user)]));
        let (client, ask) = (self.clients[nth % REPLICAS].clone(), request("api", descriptors.to_vec()));
        async move { client.ask(ask).await.expect("an answer").overall_code() == Verdict::Ok }
    }

    /// How many of all requests at once were admitted.
    async fn rush(&self, algorithm: &str, user: &str) -> usize {
        let mut asked = JoinSet::new();
        for nth in 0..REQUESTS * REPLICAS {
            asked.spawn(self.ask(nth, algorithm, user));
        }
        asked.join_all().await.into_iter().filter(|admitted| *admitted).count()
    }

    /// What is left of the wide limit.
    async fn left(&self, algorithm: &str, user: &str) -> usize {
        let mut look = descriptor(&[(&format!("{algorithm}_wide"), user)]);
        look.hits_addend = Some(Default::default());
        let answer = self.clients[0].ask(request("api", vec![look])).await.expect("an answer");
        answer.statuses[0].limit_remaining as usize
    }

    /// Answers that were given in the store's place.
    async fn degraded(&self) -> f64 {
        let mut sum = 0.0;
        for replica in &self.replicas {
            let page = replica.metrics().await;
            let lines = page.lines().filter(|line| line.starts_with("tollgate_degraded_decisions_total{"));
            sum += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
        sum
    }

    /// Rushes until none of the answers was the policy's, and says whose rush that was and how many it admitted.
    async fn clean_rush(&self, algorithm: &str, name: &str) -> (String, usize) {
        for attempt in 0..ATTEMPTS {
            let (user, before) = (format!("{name}-{attempt}"), self.degraded().await);
            let admitted = self.rush(algorithm, &user).await;
            assert!(admitted <= LIMIT, "{algorithm}: {admitted}");
            if self.degraded().await == before {
                return (user, admitted);
            }
        }
        panic!("{ATTEMPTS} times Redis took longer than a second for some of the requests");
    }

    /// Asks on until exactly the limit has passed and the other limit is charged for these alone. Says no where a refund
    /// is missing: a Redis that takes too long for one leaves the charge standing (docs/src/why/accuracy.md).
    async fn fills_up(&self, algorithm: &str, user: &str, mut admitted: usize) -> bool {
        for nth in 0..TRIES {
            if admitted == LIMIT && self.left(algorithm, user).await == WIDE - LIMIT {
                return true;
            }
            admitted += usize::from(self.ask(nth, algorithm, user).await);
            assert!(admitted <= LIMIT, "{algorithm}: {admitted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_admit_exactly_the_limit_and_a_denial_charges_nothing_elsewhere() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&[("REDIS_URL", &redis.address())]).await;
    for algorithm in ALGORITHMS {
        let (user, admitted) = fleet.clean_rush(algorithm, "user").await;
        assert_eq!(admitted, LIMIT, "{algorithm}");
        assert_eq!(fleet.left(algorithm, &user).await, WIDE - LIMIT, "{algorithm}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_before_a_cluster_never_admit_more_and_fill_up_to_exactly_the_limit() {
    let cluster = RedisCluster::start();
    let nodes: Vec<String> = cluster.nodes.iter().map(RedisServer::address).collect();
    let env = [("REDIS_TYPE", "cluster"), ("REDIS_URL", &*nodes.join(","))];
    let fleet = Fleet::start(&env).await;
    for algorithm in ALGORITHMS {
        let mut is_exact = false;
        for round in 0..ATTEMPTS {
            let (user, admitted) = fleet.clean_rush(algorithm, &format!("round-{round}")).await;
            is_exact = fleet.fills_up(algorithm, &user, admitted).await;
            if is_exact {
                break;
            }
        }
        assert!(is_exact, "{algorithm}: refunds are missing, {ATTEMPTS} times");
    }
}
