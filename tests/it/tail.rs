//! `tollgate tail`, `/v1/decisions` and gRPC's `WatchDecisions`: decisions as they happen, of one process and of a fleet, and
//! what becomes of those who watch and don't read.

mod fleet;

use std::{process::Command, time::Duration};

use serde_json::Value;
use tollgate::front::api::{WatchDecisionsRequest, tollgate_client::TollgateClient};
use tonic::Request;

use crate::{
    api::{client::call, token_line, write_tokens},
    asking::Ran,
    harness::{Process, RulesDir, Tollgate, channel, eventually},
};

const RULES: &str = "
domain: api
descriptors:
  - key: user
    rate_limit: {requests: 2, window: 1h}
  - {key: tried, shadow_mode: true, rate_limit: {requests: 1, window: 1h}}
";

/// A watch by the command line, and what it printed.
pub(crate) struct Tail(Process);

impl Tail {
    /// Watches what the admin listener shows.
    pub(crate) async fn of(replica: &Tollgate, args: &[&str]) -> Tail {
        Tail::with(&[&["--admin", &replica.admin.to_string()], args].concat(), &[]).await
    }

    pub(crate) async fn with(args: &[&str], env: &[(&str, &str)]) -> Tail {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("tail").args(args).envs(env.iter().copied());
        let tail = Tail(Process::spawn("tail", &mut command));
        tail.0.line("the watch has begun", |line| line.contains("decisions until").then_some(())).await;
        tail
    }

    /// The first line with all of these words, waited for.
    pub(crate) async fn shows(&self, words: &[&str]) -> String {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word)).then(|| line.to_owned());
        self.0.line(&format!("a decision with {words:?}"), has_all).await
    }

    pub(crate) fn text(&self) -> String {
        self.0.log()
    }
}

async fn ask(tollgate: &Tollgate, key: &str, value: &str, times: usize) {
    let client = tollgate.client();
    for _ in 0..times {
        client.admits("api", &[(key, value)]).await;
    }
}

#[tokio::test]
async fn a_line_says_who_was_answered_what_and_why() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_REPLICA_NAME", "pod-7")]).await;
    let tail = Tail::of(&tollgate, &[]).await;
    assert!(tail.text().starts_with("fleet tollgate, 1 replica\ndecisions until 20"), "{}", tail.text());
    ask(&tollgate, "user", "alice", 3).await;
    ask(&tollgate, "tried", "x", 2).await;
    ask(&tollgate, "other", "y", 1).await;
    tail.shows(&["pod-7", "admitted", "api", "(user=alice)", "api/user", "1 of 2 left"]).await;
    tail.shows(&["refused", "(user=alice)", "api/user", "0 of 2 left, again in"]).await;
    tail.shows(&["would refuse", "(tried=x)", "api/tried"]).await;
    tail.shows(&["admitted", "(other=y)", "no limit"]).await;
    assert!(!tail.text().contains('\u{1b}'), "no colours where nobody looks: {}", tail.text());
}

#[tokio::test]
async fn filters_show_what_they_say_and_a_hostile_value_is_text() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let denied = Tail::of(&tollgate, &["--denied"]).await;
    let of_bob = Tail::of(&tollgate, &["--entry", "user=bob", "--json"]).await;
    let shadow = Tail::of(&tollgate, &["--shadow", "--limit", "api/tried"]).await;
    for (key, value, times) in
        [("user", "alice", 3), ("user", "bob", 1), ("tried", "x", 2), ("user", "\u{1b}[2J\u{202e}", 3)]
    {
        ask(&tollgate, key, value, times).await;
    }
    let line = of_bob.shows(&["\"bob\""]).await;
    let decision: Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!((&decision["code"], &decision["limit_id"]), (&Value::from("OK"), &Value::from("api/user")));
    denied.shows(&["refused", "(user=\\u{1b}[2J\\u{202e})"]).await;
    shadow.shows(&["would refuse", "tried=x"]).await;
    assert!(!denied.text().contains("admitted") && denied.text().contains("(user=alice)"), "{}", denied.text());
    assert!(!of_bob.text().contains("alice") && !shadow.text().contains("alice"));
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over_and_a_fifth_one_is_refused() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let at = tollgate.admin.to_string();
    let mut four = Vec::new();
    for _ in 0..4 {
        four.push(Tail::of(&tollgate, &[]).await);
    }
    let fifth = Ran::with(&["tail", "--admin", &at], &[]);
    assert!(fifth.code == 1 && fifth.err.contains("4 watches are under way already"), "{fifth:?}");
    four.pop();
    let ended = eventually("the place of one that went is free", || async {
        let ran = Ran::with(&["tail", "--admin", &at, "--for", "1s"], &[]);
        (ran.code == 0).then_some(ran)
    })
    .await;
    assert!(ended.out.ends_with("ended: its time is over\n"), "{ended:?}");
}

#[tokio::test]
async fn what_can_not_be_meant_is_told_with_the_way_out() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let at = tollgate.admin.to_string();
    for (args, says, code) in [
        (&["--limit", "api/usr"][..], "no limit has the id `api/usr`", 1),
        (&["--domain", "nowhere"], "no rule file is for domain `nowhere`", 1),
        (&["--entry", "user"], "'user' is no key=value", 2),
        (&["--for", "2h"], "an hour at most", 1),
        (&["--for", "soon"], "write it as", 2),
        (&["--denied", "--shadow"], "cannot be used with", 2),
    ] {
        let ran = Ran::with(&[&["tail", "--admin", &at], args].concat(), &[]);
        assert!(ran.err.contains(says) && ran.code == code, "{args:?}: {ran:?}");
    }
}

#[tokio::test]
async fn tokens_see_their_domains_and_a_token_without_the_scope_sees_nothing() {
    let rules = RulesDir::with("api.yaml", RULES);
    rules.write("shop.yaml", "domain: shop\ndescriptors:\n  - {key: cart, rate_limit: 1/h}\n");
    let file = rules.path().join("tokens");
    write_tokens(&file, &(token_line("shop", "shop", "insight.read@shop") + &token_line("none", "none", "explain")));
    let env = [("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("temporary paths are text"))];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    for at in [tollgate.http, tollgate.grpc] {
        let tail = Tail::with(&["--addr", &at.to_string()], &[("TOLLGATE_TOKEN", "shop")]).await;
        ask(&tollgate, "user", "alice", 1).await;
        tollgate.client().admits("shop", &[("cart", "7")]).await;
        tail.shows(&["cart=7"]).await;
        assert!(!tail.text().contains("alice"), "{}", tail.text());
    }
    let refused = call(tollgate.http, "GET /v1/decisions?domain=api&for=1s", Some("shop"), "").await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(call(tollgate.http, "GET /v1/decisions?for=1s", Some("none"), "").await.status, 403);
    assert_eq!(call(tollgate.http, "GET /v1/decisions?for=1s", None, "").await.status, 401);
}

#[tokio::test]
async fn grpc_streams_the_same() {
    let rules = RulesDir::with("api.yaml", RULES);
    let file = rules.path().join("tokens");
    write_tokens(&file, &token_line("ops", "secret", "insight.read"));
    let env = [("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("temporary paths are text"))];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let mut client = TollgateClient::new(channel(tollgate.grpc));
    let asked = |lasts: &str| {
        let mut request =
            Request::new(WatchDecisionsRequest { r#for: lasts.into(), ..WatchDecisionsRequest::default() });
        request.metadata_mut().insert("authorization", "Bearer secret".parse().expect("ASCII"));
        request
    };
    let mut events = client.watch_decisions(asked("2s")).await.expect("a stream").into_inner();
    let started = events.message().await.expect("sent").expect("the first").started.expect("it begins so");
    assert_eq!((started.replicas, &*started.fleet), (1, "tollgate"));
    ask(&tollgate, "user", "alice", 1).await;
    let decision = events.message().await.expect("sent").expect("the second").decision;
    let decision: Value = serde_json::from_str(&decision).expect("JSON");
    assert_eq!(decision["descriptors"][0]["entries"][0]["value"], "alice");
    let last = events.message().await.expect("sent").expect("the last");
    assert_eq!(last.ended, "its time is over");
    assert!(events.message().await.expect("it is over").is_none());
    let error = client.watch_decisions(asked("2d")).await.expect_err("too long");
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
}

#[tokio::test]
async fn a_service_that_stops_ends_its_watches_and_is_not_kept_by_them() {
    let rules = RulesDir::with("api.yaml", RULES);
    let env = [("TOLLGATE_DRAIN_DELAY", "0s"), ("TOLLGATE_API_TOKEN_FILE", "")];
    let mut tollgate = Tollgate::start_with(rules.path(), &env[..1]).await;
    let tail = Tail::of(&tollgate, &[]).await;
    let began = tollgate::clock::instant();
    tollgate.process.signal("TERM");
    tail.shows(&["ended: the service is stopping"]).await;
    assert!(tollgate.process.end().await.success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
