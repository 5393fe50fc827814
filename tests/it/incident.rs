//! The story of an incident, as whoever is on call lives it: three replicas and one Redis, a client that floods them, and a
//! command for each question.

mod page;

use std::{sync::Arc, time::Duration};

use tollgate::{clock, limit::UnixMicros, limit::moment};

use crate::{
    asking::Ran,
    harness::{Load, Rls, RulesDir, Tollgate, eventually},
    redis_server::RedisServer,
    switches::fleet,
    tail::Tail,
};

const RULES: &str = "domain: api\n\
    descriptors:\n  \
    - key: user\n    rate_limit: {requests: 5, window: 1h}\n";

/// A client that is named.
const NAMED_WITHIN: Duration = Duration::from_secs(10);

/// A switch that is in force.
const SWITCHED_WITHIN: Duration = Duration::from_millis(200);

/// One request of the client that floods: when it was sent, to which replica, and whether it passed.
#[derive(Clone, Copy)]
struct Sent {
    at: UnixMicros,
    replica: usize,
    passed: bool,
}

/// Without a token, of this replica's admin listener.
fn look(replica: &Tollgate, args: &[&str]) -> Ran {
    Ran::with(&[args, &["--admin", &replica.admin.to_string()]].concat(), &[])
}

/// A client that asks all replicas in turn, again and again.
fn flood(replicas: &[Tollgate], user: &'static str) -> Load<Sent> {
    let clients: Arc<Vec<Rls>> = Arc::new(replicas.iter().map(Tollgate::client).collect());
    let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    Load::start(2, move || {
        let (clients, turn) = (Arc::clone(&clients), Arc::clone(&turn));
        async move {
            let replica = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % clients.len();
            let at = clock::now();
            Sent { at, replica, passed: clients[replica].admits("api", &[("user", user)]).await }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_named_switched_told_and_over() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = fleet(&rules, &redis, &["a", "b", "c"]).await;
    assert!(replicas[0].client().admits("api", &[("user", "alice")]).await);

    // Who is it?
    let (load, began) = (flood(&replicas, "mallory"), clock::instant());
    for replica in &replicas {
        eventually("`top` names who floods", || async {
            let top = look(replica, &["top", "--json"]).json();
            (top["entries"][0]["descriptor"] == "user=mallory" && top["entries"][0]["denied"].as_u64() > Some(0))
                .then_some(())
        })
        .await;
    }
    assert!(began.elapsed() < NAMED_WITHIN, "{:?} on {} replicas", began.elapsed(), replicas.len());

    // What is it asking?
    let tail = Tail::of(&replicas[1], &["--denied", "--entry", "user=mallory"]).await;
    for name in ["a", "b", "c"] {
        tail.shows(&[&format!("  {name}  refused"), "(user=mallory)", "api/user", "0 of 5 left"]).await;
    }
    drop(tail);

    // Let it pass, while we look for the cause; a busy machine may be slow once.
    let mut waited = Vec::new();
    for _ in 0..3 {
        let (last_refusals, written) = shadow(&replicas).await;
        waited.push(last_refusals.iter().map(|last| last.0.saturating_sub(written.0)).max().unwrap_or_default());
        if waited.iter().any(|waited| *waited <= SWITCHED_WITHIN.as_micros() as u64) {
            break;
        }
        let restore = ["limits", "restore", "api/user", "--reason", "again", "--addr", &replicas[0].http.to_string()];
        assert_eq!(Ran::of(&restore).code, 0);
    }
    let best = waited.iter().min().copied().unwrap_or(u64::MAX);
    assert!(best <= SWITCHED_WITHIN.as_micros() as u64, "refused for {waited:?} µs after the switch was written");
    load.goes_on().await;

    // Who did it, and until when?
    for replica in &replicas {
        let told = look(replica, &["changes", "--since", "1h"]).out;
        assert!(
            told.contains("limit.switch api/user: shadow until ") && told.contains(", by ops: incident 7"),
            "{told}"
        );
        let listed = look(replica, &["limits", "list"]).out;
        assert!(listed.starts_with("api/user: shadow, ends ") && listed.contains("by ops: incident 7"), "{listed}");
    }

    // It ends by itself, and the limit refuses again: it went on counting.
    for replica in &replicas {
        eventually("the switch is over", || async {
            let is_refused = !replica.client().admits("api", &[("user", "mallory")]).await;
            (is_refused && look(replica, &["limits", "list"]).out == "nothing is switched\n").then_some(())
        })
        .await;
    }
    let sent = load.stop().await;
    assert!(sent.iter().any(|sent| sent.passed) && sent.iter().any(|sent| !sent.passed));
    for replica in &replicas {
        assert_eq!(look(replica, &["status"]).code, 0, "all is well again");
        assert!(replica.client().admits("api", &[("user", "alice")]).await, "she had nothing to do with it");
    }
}

/// Puts the limit into shadow for some seconds, and returns when each replica refused for the last time, and when the switch
/// was written.
async fn shadow(replicas: &[Tollgate]) -> (Vec<UnixMicros>, UnixMicros) {
    let load = flood(replicas, "mallory");
    load.goes_on().await;
    let at = replicas[0].http.to_string();
    let why = ["--for", "8s", "--reason", "incident 7", "--addr", &*at];
    let switched = Ran::of(&[&["limits", "shadow", "api/user"], &why[..]].concat());
    assert!(switched.code == 0 && switched.out.contains("in force on 3 of 3 replicas"), "{switched:?}");
    load.goes_on().await;
    let sent = load.stop().await;
    let last_refusal = |of: usize| {
        let refused = sent.iter().filter(|sent| sent.replica == of && !sent.passed).map(|sent| sent.at);
        assert!(sent.iter().any(|sent| sent.replica == of && sent.passed), "replica {of} let nothing pass");
        refused.max().expect("it was refused before")
    };
    let changes = look(&replicas[0], &["changes", "-n", "1", "--json"]).json();
    let written = moment::parse(changes["changes"][0]["at"].as_str().expect("a moment")).expect("as it is written");
    ((0..replicas.len()).map(last_refusal).collect(), written)
}
