//! The four calls within another program: `examples/embedded.rs`, run, and two programs that share Redis.

use std::{path::Path, process::Command, time::Duration};

use tollgate::{
    Embedded,
    settings::{Flags, Settings},
};

use super::RULES;
use crate::{
    harness::{RulesDir, eventually},
    redis_server::RedisServer,
};

/// What the example prints.
fn run() -> Vec<String> {
    let examples = Path::new(env!("CARGO_BIN_EXE_tollgate")).with_file_name("examples");
    if !examples.join("embedded").exists() {
        // `cargo test` builds it with the tests, but `cargo test --test it` doesn't.
        let built = Command::new(env!("CARGO")).args(["build", "--locked", "--example", "embedded"]).status();
        assert!(built.expect("cargo runs").success(), "the example can't be built");
    }
    let output = Command::new(examples.join("embedded")).env_clear().output();
    let output = output.expect("the example was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn the_example_prints_three_admissions_a_refusal_and_a_limit_of_her_own() {
    assert_eq!(
        run(),
        [
            "1. is_allowed: true",
            "2. is_allowed: true",
            "3. is_allowed: true",
            "4. is_allowed: false",
            "allow_request: true",
            "rate_limit: true, 4 remaining",
            "is_allowed, with a limit of her own: true",
        ]
    );
}

#[tokio::test]
async fn two_programs_that_embed_it_share_counts_and_users_limits_in_redis() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", RULES);
    let flags = Flags {
        rules: vec![rules.path().to_str().expect("temporary paths are text").to_owned()],
        redis_url: Some(redis.address()),
        // Only Redis may answer here, however busy the machine is.
        on_store_failure: Some("error".into()),
        store_timeout: Some("20s".into()),
        ..Flags::default()
    };
    let settings = Settings::resolve(&flags).expect("good settings");
    let (one, other) = (Embedded::open(&settings).await.unwrap(), Embedded::open(&settings).await.unwrap());
    for embedded in [&one, &other] {
        eventually("an answer of Redis", || async { embedded.is_allowed("probe").await.ok() }).await;
    }
    assert_eq!([one.is_allowed("alice").await, other.is_allowed("alice").await], [Ok(true), Ok(true)]);
    assert_eq!([one.is_allowed("alice").await, other.is_allowed("alice").await], [Ok(true), Ok(false)], "3 in all");
    eventually("a limit that is kept", || async {
        one.configure_user_limit("alice", 1_000, Duration::from_secs(60)).await.ok()
    })
    .await;
    for embedded in [&one, &other] {
        eventually("a limit of her own", || async { (embedded.is_allowed("alice").await == Ok(true)).then_some(()) })
            .await;
    }
    let own = || redis.cli(&["KEYS", "*check*login*"]);
    assert_eq!(own(), "");
    let login = one.rate_limit("alice", "login", 5, Duration::from_secs(60)).await.expect("a decision");
    assert!(login.allowed && !own().is_empty(), "{login:?} {}", own());
    for embedded in [one, other] {
        embedded.close(Duration::from_secs(10)).await;
    }
}
