//! Rules from a control plane that restarts, or that corrects what was refused.

use crate::{
    harness::{Tollgate, descriptor, eventually, request},
    xds::{control_plane::domain, follow_at, snapshot_cache::SnapshotCache},
};

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
