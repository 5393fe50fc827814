use super::*;
use crate::settings::Flags;

const RULES: &str = "domain: api\ndescriptors:\n  - key: user\n    rate_limit: 2/h\n    \
                     descriptors: [{key: endpoint, rate_limit: 1/h}]\n";

async fn opened(rules: &str) -> (tempfile::TempDir, Embedded) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("api.yaml"), rules).expect("the directory is ours");
    let rules = vec![directory.path().to_str().expect("temporary paths are text").to_owned()];
    let settings = Settings::resolve(&Flags { rules, ..Flags::default() }).expect("good settings");
    let tollgate = Embedded::open(&settings).await.expect("good rules");
    (directory, tollgate)
}

#[tokio::test]
async fn the_calls_decide_by_the_rules_and_besides_them() {
    let (_rules, tollgate) = opened(RULES).await;
    assert_eq!([tollgate.is_allowed("alice").await, tollgate.is_allowed("alice").await], [Ok(true), Ok(true)]);
    assert_eq!(tollgate.is_allowed("alice").await, Ok(false));
    assert_eq!(tollgate.allow_request("alice", "/checkout").await, Ok(true));
    assert_eq!(tollgate.allow_request("alice", "/checkout").await, Ok(false));
    let login = async || tollgate.rate_limit("alice", "login", 1, Duration::from_secs(3600)).await.expect("a decision");
    assert!(login().await.allowed);
    let refused = login().await;
    assert!(!refused.allowed && refused.retry_after_seconds.is_some_and(|wait| wait > 3000.0), "{refused:?}");
    assert!(tollgate.metrics().contains(r#"tollgate_decisions_total{domain="api",limit="api/user",result="ok"} 2"#));
    assert_eq!(tollgate.configure_user_limit("alice", 1_000, Duration::from_secs(60)).await, Ok(()));
    assert_eq!(tollgate.is_allowed("alice").await, Ok(true));
    assert!(matches!(tollgate.is_allowed("").await, Err(ApiError::Invalid(_))));
    tollgate.close(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_limit_for_a_user_needs_the_rule_that_it_takes_the_place_of() {
    let second = Duration::from_secs(1);
    let (_rules, tollgate) = opened("domain: api\ndescriptors: [{key: tenant, rate_limit: 2/h}]\n").await;
    let refused = tollgate.configure_user_limit("alice", 5, second).await.expect_err("nothing is for users");
    let said = refused.to_string();
    assert!(said.contains("domain `api` has no rule `user`") && said.contains("- {key: user"), "{said}");
    let shortcuts = "domain: api\nshortcuts: {user: [tenant]}\ndescriptors: [{key: tenant, rate_limit: 2/h}]\n";
    let (_rules, tollgate) = opened(shortcuts).await;
    assert_eq!(tollgate.configure_user_limit("alice", 5, second).await, Ok(()));
}

#[tokio::test]
async fn a_users_limit_has_the_id_that_the_command_line_gives_it() {
    let (_rules, tollgate) = opened(RULES).await;
    for (user, id) in [("alice@example.com", "user:alice@example.com"), ("a b", "user:a~20b"), ("é", "user:~c3~a9")] {
        assert_eq!(tollgate.configure_user_limit(user, 5, Duration::from_secs(60)).await, Ok(()));
        let run_time = tollgate.api.limiter.run_time().expect("it keeps overrides");
        assert!(run_time.overrides.get("api", id).is_some(), "{user}");
    }
    let long = "x".repeat(200);
    assert_eq!(tollgate.configure_user_limit(&long, 5, Duration::from_secs(60)).await, Ok(()), "a longer one too");
}

#[tokio::test]
async fn rules_that_are_wrong_are_an_error_with_their_place() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("api.yaml"), "domain: api\ndescriptorz: []\n").expect("the directory is ours");
    let rules = vec![directory.path().to_str().expect("temporary paths are text").to_owned()];
    let settings = Settings::resolve(&Flags { rules, ..Flags::default() }).expect("good settings");
    let Err(error) = Embedded::open(&settings).await else { panic!("it was taken") };
    assert!(format!("{error:#}").contains("api.yaml"), "{error:#}");
}
