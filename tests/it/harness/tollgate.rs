//! The real `tollgate` binary. Every listener gets port 0 and says in its log where it is, so that no port is guessed.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use super::{Process, Rls, eventually};

/// Connections to Redis of a Tollgate that has found it.
pub(crate) const REDIS_CONNECTIONS: f64 = 3.0;

/// One request may wait for the store, and for long; on one core, so that it is known whose place is taken, and with one
/// connection to Redis fewer.
pub(crate) const ONE_MAY_WAIT: [(&str, &str); 3] =
    [("TOLLGATE_WORKERS", "1"), ("TOLLGATE_MAX_IN_FLIGHT", "1"), ("TOLLGATE_STORE_TIMEOUT", "20s")];

pub(crate) struct Tollgate {
    pub(crate) process: Process,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Tollgate {
    /// On the memory store.
    pub(crate) async fn start(rules: &Path) -> Tollgate {
        Tollgate::start_with(rules, &[]).await
    }

    /// `env` adds to the environment, which is otherwise empty, or replaces what the harness sets in it.
    pub(crate) async fn start_with(rules: &Path, env: &[(&str, &str)]) -> Tollgate {
        Tollgate::start_with_args(rules, &[], env).await
    }

    /// With arguments besides.
    pub(crate) async fn start_with_args(rules: &Path, args: &[&str], env: &[(&str, &str)]) -> Tollgate {
        let mut command = command();
        command.args(args);
        command.env("TOLLGATE_RULES", rules);
        command.envs(env.iter().copied());
        let process = Process::spawn("tollgate", &mut command);
        let grpc = listener(&process, "grpc").await;
        let http = listener(&process, "http").await;
        let admin = listener(&process, "admin").await;
        let metrics = listener(&process, "metrics").await;
        Tollgate { process, grpc, http, admin, metrics }
    }

    pub(crate) fn client(&self) -> Rls {
        Rls::at(self.grpc)
    }

    /// Waits until every thread has its own connection to Redis, or none has: each of two cores, and the one for HTTP.
    pub(crate) async fn redis_connections_are(&self, connections: f64) {
        eventually("the connections to Redis", || async {
            (self.metric("tollgate_redis_connections").await == connections).then_some(())
        })
        .await;
    }

    pub(crate) async fn metrics(&self) -> String {
        super::get(self.metrics, "/metrics", &[]).await.expect("metrics are served").body
    }

    /// The value of the one series that begins with `series`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line =
            text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no {series} in\n{text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a series ends with its value")
    }
}

/// Runs the binary until it ends by itself.
pub(crate) fn run_to_end(args: &[&str], env: &[(&str, &str)]) -> Output {
    command().args(args).envs(env.iter().copied()).output().expect("the binary was built with the tests")
}

fn command() -> Command {
    // `tests/chaos.sh` puts the optimised binary under load, not the one that was built with the tests.
    let built = env!("CARGO_BIN_EXE_tollgate").to_owned();
    let mut command = Command::new(std::env::var("TOLLGATE_TEST_BINARY").unwrap_or(built));
    command.env_clear().envs([
        ("GRPC_HOST", "127.0.0.1"),
        ("GRPC_PORT", "0"),
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("DEBUG_HOST", "127.0.0.1"),
        ("DEBUG_PORT", "0"),
        ("PROMETHEUS_ADDR", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
        ("TOLLGATE_WORKERS", "2"),
        // What a test changes on disk must be noticed by itself, not because a poll came round.
        ("TOLLGATE_RULES_POLL", "1h"),
        // A decision has a second instead of 10 ms: on two cores that run every test a late answer says nothing.
        ("TOLLGATE_STORE_TIMEOUT", "1s"),
    ]);
    command
}

async fn listener(process: &Process, name: &str) -> SocketAddr {
    process
        .line(&format!("the address of its {name} listener"), |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_it = line["message"] == "listening" && line["listener"] == name;
            is_it.then(|| line["address"].as_str().and_then(|address| address.parse().ok())).flatten()
        })
        .await
}
