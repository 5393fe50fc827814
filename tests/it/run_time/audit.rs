//! Who changed what, as it is told in the log and at `/v1/audit`, and how much of it is kept in Redis.

use serde_json::{Value, json};

use super::{change, put, two_replicas};
use crate::{harness::eventually, redis_server::RedisServer};

const STREAM: &str = "tg1:overrides:{api}:audit";

#[tokio::test]
async fn each_write_is_in_the_log_and_in_the_audit_with_who_what_before_after_and_why() {
    let redis = RedisServer::start();
    let (_rules, [here, there]) = two_replicas(&redis).await;
    let first = json!({"match": {"user": "alice"}, "limit": "7/h", "reason": "contract 42"});
    eventually("a connection that writes", || async { (put(&here, "a", first.clone()).await.0 == 201).then_some(()) })
        .await;
    let second = json!({"match": {"user": "alice"}, "limit": "9/h", "reason": "contract 43"});
    assert_eq!(put(&here, "a", second.clone()).await.0, 200);
    let counters = json!({"entries": {"user": "alice"}, "reason": "a support case"}).to_string();
    assert_eq!(change(&here, "POST /v1/counters:reset", &counters).await.0, 200);
    // What isn't done isn't written down: dry runs, and what is refused.
    assert_eq!(change(&here, "PUT /v1/domains/api/overrides/b?dry_run=true", &first.to_string()).await.0, 200);
    assert_eq!(change(&here, "DELETE /v1/domains/api/overrides/a?dry_run=true", "").await.0, 200);
    assert_eq!(change(&here, "DELETE /v1/domains/api/overrides/nobody", "").await.0, 404);
    assert_eq!(change(&here, "DELETE /v1/domains/api/overrides/a?reason=over", "").await.0, 200);

    let (status, audit) = change(&there, "GET /v1/audit?domain=api", "").await;
    let told: Vec<_> = audit["entries"].as_array().expect("entries").iter().rev().collect();
    let expected = [
        ("override.set", "a", None, Some(&first), "contract 42"),
        ("override.set", "a", Some(&first), Some(&second), "contract 43"),
        ("counter.reset", "(user=alice)", None, None, "a support case"),
        ("override.delete", "a", Some(&second), None, "over"),
    ];
    assert_eq!((status, told.len()), (200, expected.len()), "{audit:#}");
    for (entry, (action, target, before, after, reason)) in told.into_iter().zip(expected) {
        assert_eq!((&entry["token"], &entry["domain"]), (&json!("ops"), &json!("api")), "{entry}");
        assert_eq!((&entry["action"], &entry["target"]), (&json!(action), &json!(target)), "{entry}");
        assert_eq!((entry.get("before"), entry.get("after")), (before, after), "{entry}");
        assert_eq!(entry["reason"], reason, "{entry}");
    }

    here.process.line("the last entry", |line| line.contains("override.delete").then_some(())).await;
    let log = here.process.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["message"] == "audit").collect();
    assert_eq!(lines.len(), expected.len(), "{log}");
    for (line, (action, target, before, after, reason)) in lines.into_iter().zip(expected) {
        assert_eq!((&line["token"], &line["action"]), (&json!("ops"), &json!(action)), "{line}");
        assert_eq!((&line["domain"], &line["reason"]), (&json!("api"), &json!(reason)), "{line}");
        assert!(line["id"] == target || line["target"] == target, "{line}");
        for (told, spec) in [("before", before), ("after", after)] {
            let limit = spec.map(|spec| spec["limit"].as_str().expect("a word"));
            assert!(limit.is_none_or(|limit| line[told].to_string().contains(limit)), "{told}: {line}");
        }
    }
}

#[tokio::test]
async fn the_stream_of_the_audit_keeps_its_newest_entries_and_drops_the_oldest() {
    const KEPT: usize = 10_000;
    let redis = RedisServer::start();
    let (_rules, [here, _]) = two_replicas(&redis).await;
    let mut pipe = redis::pipe();
    for nth in 1..=KEPT + 1_000 {
        let entry = json!({"token": "ops", "action": "override.set", "target": format!("t{nth}"), "reason": ""});
        pipe.cmd("XADD").arg(STREAM).arg(format!("{nth}-1")).arg("entry").arg(entry.to_string()).ignore();
    }
    let () = pipe.query(&mut redis.connection()).expect("it is written");
    let spec = json!({"match": {"user": "alice"}, "limit": "7/h"});
    eventually("a connection that writes", || async { (put(&here, "a", spec.clone()).await.0 == 201).then_some(()) })
        .await;
    // Redis drops whole nodes of a stream, of 100 entries.
    let entries: usize = redis.cli(&["XLEN", STREAM]).parse().expect("a number");
    assert!((KEPT..KEPT + 100).contains(&entries), "{entries} entries");
    let (_, newest) = change(&here, "GET /v1/audit?page_size=2", "").await;
    let targets = [&newest["entries"][0]["target"], &newest["entries"][1]["target"]];
    assert_eq!(targets, [&json!("a"), &json!(format!("t{}", KEPT + 1_000))], "{newest:#}");
    assert_eq!(redis.cli(&["XRANGE", STREAM, "1-1", "900-1"]), "", "the oldest are gone");
}
