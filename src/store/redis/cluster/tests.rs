//! Nodes that are silent or wrong, without any node; and what a node says of slots, as Redis 7 words it.

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
            1 => Err(dial::failed("refused".to_owned())),
            4 => Ok(map(6379)),
            _ => pending().await,
        }
    });
    assert_eq!(first_map(ways).await, Ok(map(6379)));
}

#[tokio::test]
async fn where_no_node_has_a_map_it_is_told_why() {
    let ways = (0..3).map(|nth| async move { Err(dial::failed(format!("node {nth} refused"))) });
    let error = first_map(ways).await.expect_err("no node answers");
    assert!(error.to_string().contains("node 2 refused"), "{error}");
    assert!(first_map(std::iter::empty::<std::future::Ready<_>>()).await.is_err(), "nor is there any");
}

#[test]
fn a_redirection_names_the_node_that_has_the_slot_if_it_names_one() {
    let place = |words: &str| {
        let reply = redis::parse_redis_value(format!("-{words}\r\n").as_bytes()).expect("it is a reply");
        redirected(&reply.extract_error().expect_err("it is an error"))
    };
    let at = |host: &str| Some(Address::Tcp { host: host.into(), port: 6381 });
    assert_eq!(place("MOVED 3999 10.0.0.1:6381"), at("10.0.0.1"));
    assert_eq!(place("ASK 3999 redis-2.example:6381"), at("redis-2.example"));
    assert_eq!(place("MOVED 3999 [fd00::7]:6381"), at("fd00::7"));
    // A node that doesn't know its own name leaves it empty.
    for nowhere in ["MOVED 3999 :6381", "MOVED 3999 10.0.0.1", "MOVED 3999 10.0.0.1:x", "TRYAGAIN", "ERR no"] {
        assert_eq!(place(nowhere), None, "{nowhere}");
    }
}
