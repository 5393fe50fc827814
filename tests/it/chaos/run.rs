//! One fault, from calm through trouble to calm again, and what has to hold of it. How long and how hard comes from the
//! environment: `CHAOS_SECONDS` for one fault, `CHAOS_RATE`, and `CHAOS_GOALS=1` to hold the goals that only a machine
//! with nothing else to do can keep.

use std::{env, future::Future, io::Write, time::Duration};

use super::{
    report::{Bound, Report},
    traffic::{POLICIES, Traffic, is_degraded},
};
use crate::harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, eventually, request};

/// How a run is to be.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Of the fault itself.
    pub(super) fault: Duration,
    /// Before it, and after it.
    pub(super) calm: Duration,
    /// Requests a second.
    pub(super) rate: u32,
    goals: bool,
}

impl Manner {
    /// Every policy's limit: a fifth of what each of the users who ask too much asks in a window.
    pub(super) fn bound(self) -> Bound {
        Bound { requests: self.rate as usize / 40, window: Duration::from_secs(1) }
    }

    pub(super) fn of_environment() -> Manner {
        let number = |name: &str, default: u64| match env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no whole number")),
            Err(_) => default,
        };
        let goals = env::var("CHAOS_GOALS").is_ok_and(|said| said == "1");
        let fault = Duration::from_secs(number("CHAOS_SECONDS", 1));
        let rate = number("CHAOS_RATE", if goals { 2_000 } else { 200 }) as u32;
        Manner { fault, calm: Duration::from_secs(if goals { 3 } else { 1 }), rate, goals }
    }
}

/// What may be admitted above the limit by a policy, in limits: 0 unless the fault makes Redis forget.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    pub(super) closed: usize,
    pub(super) local: usize,
}

/// Redis remembers all: only `local` may admit more, once the limit.
pub(super) const REMEMBERED: Allowed = Allowed { closed: 0, local: 1 };

/// Redis forgets what it held: once the limit more, by whatever policy; and once more where replicas decided alone.
pub(super) const FORGOTTEN: Allowed = Allowed { closed: 1, local: 2 };

/// The same limit for a key of each policy.
pub(super) fn rules(Bound { requests, window }: Bound) -> RulesDir {
    let window = window.as_secs();
    let mut text = String::from("domain: chaos\ndescriptors:\n");
    for policy in POLICIES {
        text += &format!(
            "  - key: {policy}\n    on_store_failure: {policy}\n    \
             rate_limit: {{requests: {requests}, window: {window}s}}\n"
        );
    }
    RulesDir::with("chaos.yaml", &text)
}

/// Two replicas on one Redis, told what `env` says.
pub(super) struct Replicas {
    pub(super) both: [Tollgate; 2],
    _rules: RulesDir,
}

impl Replicas {
    pub(super) async fn start(env: &[(&str, &str)]) -> Replicas {
        let manner = Manner::of_environment();
        let rules = rules(manner.bound());
        let timeout = if manner.goals { "10ms" } else { "200ms" };
        let mut all = vec![
            ("RESPONSE_DYNAMIC_METADATA", "true"),
            ("TOLLGATE_EXPECTED_REPLICAS", "2"),
            ("TOLLGATE_STORE_TIMEOUT", timeout),
        ];
        all.extend_from_slice(env);
        let both = [Tollgate::start_with(rules.path(), &all).await, Tollgate::start_with(rules.path(), &all).await];
        for replica in &both {
            replica.redis_connections_are(REDIS_CONNECTIONS).await;
        }
        Replicas { both, _rules: rules }
    }
}

/// Loads both replicas, calls `fault` and waits for it, then lets calm return. `fault` ends when the store could answer again.
pub(super) async fn through<F: Future<Output = ()>>(
    name: &str,
    replicas: &Replicas,
    allowed: Allowed,
    fault: impl FnOnce(Manner) -> F,
) {
    let manner = Manner::of_environment();
    let traffic = Traffic::start(replicas.both.iter().map(|replica| replica.grpc).collect(), manner.rate);
    tokio::time::sleep(manner.calm).await;
    fault(manner).await;
    let over = traffic.now();
    for replica in &replicas.both {
        eventually("the store decides again", || async { decides(replica).await.then_some(()) }).await;
    }
    tokio::time::sleep(manner.calm).await;
    let report = Report::of(&traffic.stop().await, manner.bound(), over);
    say(name, &report, manner);
    hold(name, &report, allowed, manner);
    for replica in &replicas.both {
        assert_eq!(replica.metric("tollgate_panics_total").await, 0.0, "{name}: a panic on a request's path");
    }
}

/// A line of the table in docs/src/why/reliability.md, and one of JSON, for `tests/chaos.sh`.
pub(super) fn say(name: &str, report: &Report, manner: Manner) {
    let Report { answers, late, errors, degraded, .. } = report;
    let excess = |policy: &str| report.excess[policy];
    let (latest, recovery) = (report.latest.as_secs_f64() * 1e3, report.recovery.as_secs_f64());
    let (closed, local) = (excess("closed").max(excess("error")), excess("local"));
    println!(
        "| {name} | {answers} | {late} | {latest:.0} ms | {errors} | {degraded} | {closed} | {local} | {recovery:.2} s |"
    );
    if let Ok(path) = env::var("CHAOS_JSON") {
        let line = serde_json::json!({
            "fault": name, "answers": answers, "late": late, "latest_ms": latest, "errors": errors,
            "degraded": degraded, "above_limit": {"closed": closed, "local": local}, "limit": manner.bound().requests,
            "recovery_seconds": recovery,
        });
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        writeln!(file.expect("CHAOS_JSON is a path that can be written"), "{line}").expect("there is room");
    }
}

fn hold(name: &str, report: &Report, allowed: Allowed, manner: Manner) {
    assert!(report.refused > 0, "{name}: nobody asked too much, so nothing was tried");
    assert_eq!(report.errors, 0, "{name}: errors where no policy promises them");
    for (policy, allowed) in [("closed", allowed.closed), ("error", allowed.closed), ("local", allowed.local)] {
        let (above, limit) = (report.excess[policy], manner.bound().requests);
        assert!(above <= allowed * limit, "{name}: {policy} admitted {above} above {limit}");
    }
    if manner.goals {
        assert!(report.recovery <= Duration::from_secs(1), "{name}: {:?} until the store decided", report.recovery);
    }
}

/// Whether the store answers this replica.
async fn decides(replica: &Tollgate) -> bool {
    let question = request("chaos", vec![descriptor(&[("closed", "probe")])]);
    replica.client().ask(question).await.is_ok_and(|answer| !is_degraded(&answer))
}
