//! The way to try Tollgate beside the service that answers now, as docs/src/guides/moving-side-by-side.md has it: the same calls to both, and
//! the same numbers. Here a second Tollgate plays the service that answers.

use tonic::Code;

use crate::harness::{Envoy, Rls, RulesDir, Tollgate, descriptor, eventually, request};

const RULES: &str = "
domain: api
descriptors:
  - {key: user, rate_limit: {unit: day, requests_per_unit: 2}}
  - {key: path, value: '/a*', rate_limit: {unit: day, requests_per_unit: 5}}
";

/// What the page says of rules, as its console example takes it.
async fn page(tollgate: &Tollgate) -> Vec<String> {
    let page = tollgate.metrics().await;
    let mut lines: Vec<String> =
        page.lines().filter(|line| line.starts_with("ratelimit_service_rate_limit_")).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn a_mirrored_tollgate_counts_the_same_and_cannot_be_missed() {
    let rules = RulesDir::with("api.yaml", RULES);
    let env = [("TOLLGATE_COMPAT", "envoyproxy"), ("USE_PROMETHEUS", "true")];
    let now = Tollgate::start_with(rules.path(), &env).await;
    let mut beside = Tollgate::start_with(rules.path(), &env).await;
    let envoy = Envoy::between(now.grpc, beside.grpc).await;
    let client = Rls::at(envoy.ingress);

    for user in ["alice", "alice", "alice", "bob"] {
        let both = vec![descriptor(&[("user", user)]), descriptor(&[("path", "/ab")])];
        client.ask(request("api", both)).await.expect("a decision");
    }
    assert_eq!(client.ask(request("", Vec::new())).await.expect_err("no domain").code(), Code::InvalidArgument);
    let answered = page(&now).await;
    assert!(answered.iter().any(|line| line.contains("over_limit{") && line.contains("key1=\"user\"")), "{answered:?}");
    // Copies arrive when they do.
    eventually("the same numbers", || async { (page(&beside).await == answered).then_some(()) }).await;

    beside.process.kill();
    for _ in 0..5 {
        assert!(client.admits("api", &[("user", "carol"), ("none", "x")]).await);
    }
    assert_eq!(client.limit_of("api", &[("user", "dave")]).await, Some(2), "the one that answers does so alone");
}
