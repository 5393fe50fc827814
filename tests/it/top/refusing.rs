//! The limits that refuse most, in `tollgate status` and `/v1/fleet`: over all replicas, few, and of the domains alone that
//! may be seen.

use serde_json::{Value, json};

use crate::{
    api::{client::call, token_line, with_tokens, write_tokens},
    asking::Ran,
    harness::{RulesDir, Tollgate, eventually},
    redis_server::RedisServer,
    switches::{fleet, status},
};

const RULES: &str = "domain: api\n\
    descriptors:\n  \
    - {key: user, rate_limit: 1/d}\n  \
    - {key: tenant, rate_limit: 1/d}\n";

/// Limit, refusals and number of counters of each.
fn refusing(fleet: &Value) -> Vec<Value> {
    let all = fleet["refusing"].as_array().into_iter().flatten();
    all.map(|it| json!([it["limit"], it["denied"], it["counters"]])).collect()
}

/// Asks until so many were refused.
async fn refuse(replica: &Tollgate, domain: &str, entry: (&str, &str), times: u32) {
    let mut refused = 0;
    while refused < times {
        refused += u32::from(!replica.client().admits(domain, &[entry]).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_names_the_limits_that_refuse_most_over_all_replicas() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = fleet(&rules, &redis, &["a", "b", "c"]).await;
    for replica in &replicas {
        refuse(replica, "api", ("user", "alice"), 3).await;
        refuse(replica, "api", ("user", "bob"), 1).await;
    }
    refuse(&replicas[1], "api", ("tenant", "shop"), 5).await;
    let expected = [json!(["api/user", 12, 2]), json!(["api/tenant", 5, 1])];
    for replica in &replicas {
        eventually("the refusals of all three", || async {
            let seen = status(replica);
            (seen["refusing_partial"].is_null() && refusing(&seen) == expected).then_some(())
        })
        .await;
        let shown = Ran::with(&["status", "--admin", &replica.admin.to_string()], &[]);
        let lines: Vec<&str> = shown.out.lines().filter(|line| line.starts_with("refuses most: ")).collect();
        let of_user = "refuses most: api/user, at least 12 in the last 10 min (2 counters)";
        let of_tenant = "refuses most: api/tenant, at least 5 in the last 10 min (1 counter)";
        assert_eq!((shown.code, lines), (0, vec![of_user, of_tenant]), "that limits refuse is no fault: {shown:?}");
    }
}

#[tokio::test]
async fn they_are_five_at_most_and_of_the_domains_that_may_be_seen() {
    let rules = RulesDir::with("shop.yaml", "domain: shop\ndescriptors: [{key: cart, rate_limit: 1/d}]\n");
    let keys: String = (0..7).map(|n| format!("  - {{key: k{n}, rate_limit: 1/d}}\n")).collect();
    rules.write("api.yaml", &format!("domain: api\ndescriptors:\n{keys}"));
    let tollgate = with_tokens(&rules, &[]).await;
    let tokens = token_line("ops", "secret", "*") + &token_line("shop", "of-shop", "insight.read@shop");
    write_tokens(&rules.path().join("tokens"), &tokens);
    for n in 0..7 {
        refuse(&tollgate, "api", (&format!("k{n}"), "x"), n + 1).await;
    }
    refuse(&tollgate, "shop", ("cart", "7"), 1).await;
    let asked = async |token: &'static str, query: &str| {
        let answer = call(tollgate.http, &format!("GET /v1/fleet{query}"), Some(token), "").await;
        (answer.status == 200).then(|| refusing(&answer.json()))
    };
    let most: Vec<Value> = (2..7).rev().map(|n| json!([format!("api/k{n}"), n + 1, 1])).collect();
    assert_eq!(asked("secret", "").await, Some(most), "the other two, and that of the shop, refuse less");
    let of_shop = Some(vec![json!(["shop/cart", 1, 1])]);
    assert_eq!(asked("secret", "?domain=shop").await, of_shop);
    eventually("the token of the shop", || async { (asked("of-shop", "").await == of_shop).then_some(()) }).await;
    assert_eq!(asked("of-shop", "?domain=api").await, None);
}

#[tokio::test]
async fn with_nothing_counted_the_answer_says_why_there_are_none() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_TOP_MAX_BYTES", "0")]).await;
    refuse(&tollgate, "api", ("user", "alice"), 1).await;
    let shown = Ran::with(&["status", "--admin", &tollgate.admin.to_string()], &[]);
    let says = "refuses most: nothing is counted for these lists: TOLLGATE_TOP_MAX_BYTES is 0\n";
    assert!(shown.code == 0 && shown.out.contains(says), "{shown:?}");
}
