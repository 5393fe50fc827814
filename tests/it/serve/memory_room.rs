//! A memory store that is full says so, once and on the page, and forgets nobody whom it counted before.

use crate::harness::{RulesDir, Tollgate, descriptor, request};

/// Of all counters: some hundreds.
const MAX_BYTES: &str = "65536";

async fn left(tollgate: &Tollgate, user: &str) -> u32 {
    let answer = tollgate.client().ask(request("api", vec![descriptor(&[("user", user)])])).await;
    answer.expect("a decision").statuses[0].limit_remaining
}

#[tokio::test]
async fn flood_of_new_keys_is_told_and_leaves_the_count_of_a_known_one() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 100000/d}]\n");
    let mut tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_MEMORY_MAX_BYTES", MAX_BYTES)]).await;
    for hits in 1..=3 {
        assert_eq!(left(&tollgate, "alice").await, 100_000 - hits);
    }
    assert_eq!(tollgate.metric("tollgate_memory_overflow_hits_total").await, 0.0);

    let client = tollgate.client();
    for crowd in 0..40 {
        let users: Vec<String> = (0..50).map(|user| format!("{crowd}-{user}")).collect();
        let all = users.iter().map(|user| descriptor(&[("user", user)])).collect();
        client.ask(request("api", all)).await.expect("a decision");
    }
    let overflow = tollgate.metric("tollgate_memory_overflow_hits_total").await;
    assert!(overflow > 1_000.0, "{overflow} of 2,000 hits found no room");
    assert_eq!(left(&tollgate, "alice").await, 100_000 - 4, "she keeps her count");
    assert_eq!(tollgate.metric("tollgate_memory_overflow_hits_total").await, overflow, "and her counter");
    let bytes = tollgate.metric("tollgate_memory_bytes").await;
    assert!(bytes <= MAX_BYTES.parse().expect("a number"), "{bytes}");

    // By its end it has said all that it had to say.
    tollgate.process.signal("TERM");
    assert!(tollgate.process.end().await.success());
    assert_eq!(tollgate.process.log().matches("has no room for new counters").count(), 1);
}
