//! Nodes that are silent or wrong, without any node.

use std::future::pending;

use super::*;

fn primary(port: u16) -> Address {
    Address::Tcp { host: "10.0.0.1".into(), port }
}

fn map(port: u16) -> Vec<Range> {
    vec![Range { first: 0, last: SLOTS - 1, primary: primary(port) }]
}

#[tokio::test]
async fn the_first_map_is_taken_though_all_other_nodes_are_silent_or_wrong() {
    let ways = (0..6).map(|nth| async move {
        match nth {
            1 => Err(failed("refused".to_owned())),
            4 => Ok(map(6379)),
            _ => pending().await,
        }
    });
    assert_eq!(first_map(ways).await, Ok(map(6379)));
}

#[tokio::test]
async fn where_no_node_has_a_map_it_is_told_why() {
    let ways = (0..3).map(|nth| async move { Err(failed(format!("node {nth} refused"))) });
    let error = first_map(ways).await.expect_err("no node answers");
    assert!(error.to_string().contains("node 2 refused"), "{error}");
    assert!(first_map(std::iter::empty::<std::future::Ready<_>>()).await.is_err(), "nor is there any");
}
