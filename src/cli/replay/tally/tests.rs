use super::*;

/// What is kept of a counter is what docs/src/guides/replay.md promises of memory: a table that grows has room for three times as
/// many for a moment, at eight of seven places.
#[test]
fn a_counter_takes_less_than_a_hundred_bytes_while_its_table_grows() {
    let place = size_of::<super::super::counters::CounterTally>() + 1;
    assert!(3 * place * 8 / 7 <= 100, "{place} bytes for each");
}

#[test]
fn counters_differ_by_each_key_and_value_and_those_that_are_shared_are_one() {
    let entries = |key, value| [Entry { key, value }];
    let key = |entries, shared| Key { domain: "api", entries, shared, limit_name: "", variable: 0 };
    let [alice, bob, host] = [entries("user", "alice"), entries("user", "bob"), entries("host", "alice")];
    let [of_alice, of_bob, of_host] = [&alice, &bob, &host].map(|entries| hash(&key(entries, &[])));
    assert!(of_alice != of_bob && of_alice != of_host);
    let pattern = [Some("*".into())];
    assert_eq!(hash(&key(&alice, &pattern)), hash(&key(&bob, &pattern)));
    assert_eq!(&*shown(&key(&alice, &pattern)), "user=*");
}
