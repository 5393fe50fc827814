//! What a node says of slots, as Redis 7 words it.

use super::*;

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
