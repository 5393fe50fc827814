//! Rules from a control plane that restarts, or that corrects what was refused.

use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;
use tokio::time::{Duration, Instant};

use crate::{
    harness::{Tollgate, descriptor, eventually, request},
    xds::{
        control_plane::{ControlPlane, domain},
        follow_at,
        snapshot_cache::SnapshotCache,
    },
};

/// As it is unless set: longer than anybody waits for a corrected set.
const RETRY: (&str, &str) = ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", "3s");

/// A set that is refused: a descriptor has no key. Resources come in any order, so there are several.
fn bad_set(requests: u32) -> Vec<RateLimitConfig> {
    let mut bad = domain("one", requests);
    bad.descriptors[0].key.clear();
    vec![bad, domain("two", requests), domain("three", requests)]
}

async fn limit_becomes(tollgate: &Tollgate, expected: Option<u32>) {
    let client = tollgate.client();
    let client = &client;
    eventually(&format!("the limit is {expected:?}"), || async move {
        // Before the first rules the answer is an error.
        let answer = client.ask(request("one", vec![descriptor(&[("user", "alice")])])).await.ok()?;
        let limit = answer.statuses[0].current_limit.as_ref().map(|limit| limit.requests_per_unit);
        (limit == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_control_plane_that_restarts_has_its_rules_taken_again() {
    let plane = SnapshotCache::start().await;
    plane.set(&[domain("one", 10)]);
    let tollgate = follow_at(&plane.address.to_string(), &[]).await;
    limit_becomes(&tollgate, Some(10)).await;

    // Its first version has the name of the one before.
    let plane = SnapshotCache::start_at(plane.stop().await).await;
    plane.set(&[domain("one", 11)]);
    limit_becomes(&tollgate, Some(11)).await;

    let plane = SnapshotCache::start_at(plane.stop().await).await;
    plane.set(&[]);
    limit_becomes(&tollgate, None).await;
}

#[tokio::test]
async fn a_corrected_set_is_in_force_within_a_second_of_the_correction() {
    let plane = SnapshotCache::start().await;
    plane.set(&[domain("one", 10)]);
    let tollgate = follow_at(&plane.address.to_string(), &[RETRY]).await;
    limit_becomes(&tollgate, Some(10)).await;

    for round in 1..=3 {
        plane.set(&bad_set(round)[..1]);
        eventually("the set is refused", || async { (plane.refusals() > 0).then_some(()) }).await;
        let corrected = Instant::now();
        plane.set(&[domain("one", 10 + round)]);
        limit_becomes(&tollgate, Some(10 + round)).await;
        assert!(corrected.elapsed() < Duration::from_secs(1), "round {round}: {:?}", corrected.elapsed());
        plane.forget();
    }
}

#[tokio::test]
async fn a_refused_set_is_refused_twice_and_then_waited_on() {
    let plane = SnapshotCache::start().await;
    plane.set(&bad_set(1));
    let tollgate = follow_at(&plane.address.to_string(), &[RETRY]).await;
    let began = Instant::now();
    eventually("the next set is waited for", || async { (plane.refusals() > 0 && plane.is_waited_on()).then_some(()) })
        .await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    plane.set(&[domain("one", 10)]);
    limit_becomes(&tollgate, Some(10)).await;
    assert_eq!(plane.refusals(), 2, "the set was sent and refused in a loop");
    // What was in force before a refused set may be so again.
    plane.set(&bad_set(2));
    eventually("the set is refused", || async { (plane.refusals() > 2).then_some(()) }).await;
    plane.set(&[domain("one", 10)]);
    eventually("it has no problems any more", || async {
        (tollgate.metric("tollgate_rules_last_reload_successful").await == 1.0).then_some(())
    })
    .await;
}

/// Whatever a control plane does with a refusal: the same set under one version, or under another each time.
#[tokio::test]
async fn a_control_plane_that_answers_each_refusal_at_once_is_not_drawn_into_a_loop() {
    for versions in [["1", "1"], ["1", "2"], ["", ""]] {
        let mut plane = ControlPlane::start().await;
        let tollgate = follow_at(&plane.address.to_string(), &[RETRY]).await;
        let mut stream = plane.stream().await;
        stream.request().await;
        let began = Instant::now();
        for version in versions.iter().cycle().take(6) {
            stream.send(version, &bad_set(1));
            assert!(stream.request().await.error_detail.is_some());
        }
        assert!(began.elapsed() > Duration::from_secs(1), "six refusals of {versions:?} in {:?}", began.elapsed());
        // Corrected now, and sent in answer to the next refusal alone.
        stream.send(versions[0], &bad_set(1));
        let corrected = Instant::now();
        assert!(stream.request().await.error_detail.is_some());
        stream.put("3", &[domain("one", 10)]).await;
        limit_becomes(&tollgate, Some(10)).await;
        assert!(corrected.elapsed() < Duration::from_secs(1), "{versions:?}: {:?}", corrected.elapsed());
    }
}
