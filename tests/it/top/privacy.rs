//! Values of keys that `TOLLGATE_HASH_KEYS` names: shown as a hash wherever the service shows values of requests.

use std::process::Output;

use super::*;
use crate::traces::Collector;

const NAMED: &str = "
domain: api
descriptors:
  - key: user
    rate_limit: {requests: 2, window: 1h}
  - {key: user, value: batch, rate_limit: {requests: 1, window: 1h}}
";

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// printf %s alice | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
const ALICE: &str = "~433deb45467e4e53";

fn secret(rules: &RulesDir, text: &str) -> String {
    rules.write("secret", text);
    rules.path().join("secret").to_str().expect("temporary paths are text").to_owned()
}

#[tokio::test]
async fn hashed_values_are_found_by_what_they_are_of_and_those_that_rules_name_stay() {
    let rules = RulesDir::with("api.yaml", NAMED);
    let file = secret(&rules, &format!("{SECRET}\n"));
    let env = [("TOLLGATE_HASH_KEYS", "user, remote_address"), ("TOLLGATE_HASH_KEY_FILE", &*file)];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let client = tollgate.client();
    for user in ["alice", "alice", "alice", "bob", "batch", "batch", "batch"] {
        client.admits("api", &[("user", user)]).await;
    }
    let answer = asked(&tollgate, "/v1/top").await;
    let alice = format!("user={ALICE}");
    assert_eq!(
        entries(&answer),
        [json!(["api/user=batch", "user=batch", 2, 3, 0]), json!(["api/user", alice, 1, 3, 0])]
    );
    for entry in ["user=alice", &alice] {
        let (text, _) = top(&tollgate, &["--by", "hits", "--entry", entry, "--json"]);
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(entries(&answer), [json!(["api/user", alice, 1, 3, 0])], "{entry}");
    }
    let log = tollgate.process.log();
    assert!(!log.contains("alice") && !log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn spans_show_the_override_of_a_client_as_a_hash() {
    let mut collector = Collector::http().await;
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api
descriptors: [{key: user, rate_limit: 3/m}]
overrides: [{match: {user: alice}, limit: 300/m}]
",
    );
    let (file, endpoint) = (secret(&rules, SECRET), format!("http://{}", collector.address));
    let env = [
        ("TOLLGATE_HASH_KEYS", "user"),
        ("TOLLGATE_HASH_KEY_FILE", &*file),
        ("TRACING_ENABLED", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let body = json!({"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "alice"}]}]});
    crate::harness::post(tollgate.http, "/json", body.to_string()).await.expect("an answer");
    let spans = collector.spans(3).await.spans;
    let execution = spans.iter().find(|span| span.name == "ShouldRateLimit Execution").expect("it is traced");
    assert_eq!(execution.of("tollgate.override"), format!("user={ALICE}"));
    assert!(!format!("{spans:?}").contains("alice"), "{spans:?}");
}

#[tokio::test]
async fn spans_show_hashes() {
    let mut collector = Collector::http().await;
    let rules = RulesDir::with("api.yaml", NAMED);
    let (file, endpoint) = (secret(&rules, SECRET), format!("http://{}", collector.address));
    let env = [
        ("TOLLGATE_HASH_KEYS", "user"),
        ("TOLLGATE_HASH_KEY_FILE", &*file),
        ("TRACING_ENABLED", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("RESPONSE_DYNAMIC_METADATA", "true"),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    for user in ["alice", "batch"] {
        let body = json!({"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": user}]}]});
        let answer = crate::harness::post(tollgate.http, "/json", body.to_string()).await.expect("an answer");
        assert!(answer.body.contains(user), "its caller gets what it sent: {}", answer.body);
    }
    let spans = collector.spans(6).await.spans;
    let texts: Vec<&str> = spans
        .iter()
        .filter(|span| span.name == "ShouldRateLimit Execution")
        .map(|span| span.of("request string"))
        .collect();
    let shown = |value: &str| texts.iter().any(|text| text.contains(&format!(r#"value:"{value}""#)));
    assert!(shown(ALICE) && shown("batch") && !shown("alice"), "{texts:?}");
    assert!(!format!("{spans:?}").contains("alice"), "{spans:?}");
}

#[tokio::test]
async fn the_key_of_a_damaged_counter_is_logged_with_hashes() {
    let (rules, redis) = (RulesDir::with("api.yaml", NAMED), RedisServer::start());
    let (file, url) = (secret(&rules, SECRET), redis.address());
    let env = [("TOLLGATE_HASH_KEYS", "user"), ("TOLLGATE_HASH_KEY_FILE", &*file), ("REDIS_URL", &*url)];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    tollgate.redis_connections_are(crate::harness::REDIS_CONNECTIONS).await;
    let client = tollgate.client();
    assert!(client.admits("api", &[("user", "alice")]).await);
    let mut connection = redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*user=alice").query(&mut connection).expect("Redis answers");
    let _: () = redis::cmd("SET").arg(&keys[0]).arg("nothing of ours").query(&mut connection).expect("Redis answers");
    assert!(client.admits("api", &[("user", "alice")]).await);
    let line = tollgate
        .process
        .line("that it was damaged", |line| line.contains("value was damaged").then(|| line.to_owned()))
        .await;
    assert!(line.contains(&format!("user={ALICE}")) && !line.contains("alice"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_tell_each_other_has_hashes_by_which_she_is_found_on_each() {
    let (rules, redis) = (RulesDir::with("api.yaml", NAMED), RedisServer::start());
    let (file, url) = (secret(&rules, SECRET), redis.address());
    let env = [("TOLLGATE_HASH_KEYS", "user"), ("TOLLGATE_HASH_KEY_FILE", &*file), ("REDIS_URL", &*url)];
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(Tollgate::start_with(rules.path(), &env).await);
    }
    for replica in &replicas {
        replica.redis_connections_are(crate::harness::REDIS_CONNECTIONS).await;
    }
    let client = replicas[0].client();
    for user in ["alice", "alice", "alice", "batch", "batch"] {
        client.admits("api", &[("user", user)]).await;
    }
    let alice = format!("user={ALICE}");
    // Asked at the one, counted by the other.
    crate::harness::eventually("she is in the list of the other replica", || async {
        let answer = asked(&replicas[1], "/v1/top?entry=user=alice").await;
        (entries(&answer) == [json!(["api/user", alice, 1, 3, 0])]).then_some(())
    })
    .await;
    let mut connection = redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("tg1:{0}:fleet:*").query(&mut connection).expect("Redis answers");
    let mut told = Vec::new();
    for key in &keys {
        let value: Vec<u8> = redis::cmd("GET").arg(key).query(&mut connection).expect("records, lists and a mark");
        told.extend(value);
    }
    let told = String::from_utf8_lossy(&told);
    assert!(keys.iter().any(|key| key.contains(":lists:")) && told.contains(ALICE), "{keys:?}");
    assert!(told.contains("user=batch") && !told.contains("alice"), "what a rule names stays, and she is hidden");
}

/// A start that fails, and what it says.
fn refused(env: &[(&str, &str)]) -> (Output, String) {
    let rules = RulesDir::with("api.yaml", NAMED);
    let rules = rules.path().to_str().expect("temporary paths are text").to_owned();
    let output = run_to_end(&["serve", "--rules", &rules, "--grpc-port", "0"], env);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output, said)
}

#[test]
fn a_secret_that_is_not_there_or_too_short_ends_the_start_with_one_error() {
    let rules = RulesDir::with("api.yaml", NAMED);
    let short = secret(&rules, "too short\n");
    for (file, says) in [
        ("", "TOLLGATE_HASH_KEY_FILE (--hash-key-file): is needed where TOLLGATE_HASH_KEYS is set"),
        ("/nowhere/secret", "TOLLGATE_HASH_KEY_FILE: /nowhere/secret"),
        (&*short, "its secret has 9 bytes, and needs at least 32: `openssl rand -hex 32` makes one"),
    ] {
        let (output, said) = refused(&[("TOLLGATE_HASH_KEYS", "user"), ("TOLLGATE_HASH_KEY_FILE", file)]);
        assert!(!output.status.success() && said.contains(says), "{file}: {said}");
        assert!(!said.contains("too short"), "the secret is told: {said}");
    }
    let (_, said) = refused(&[("TOLLGATE_HASH_KEYS", "user,,"), ("TOLLGATE_HASH_KEY_FILE", &short)]);
    assert!(said.contains("expected keys of descriptors, such as user,remote_address"), "{said}");
}
