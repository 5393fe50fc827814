use super::*;

fn record(name: &str) -> ReplicaRecord {
    ReplicaRecord {
        id: name.into(),
        name: name.into(),
        addresses: vec!["10.0.0.1:8081".into(), "10.0.0.1:8080".into()],
        version: "0.1.0".into(),
        started: 1,
        at: 2,
        rules: RulesSeen { hash: "abcd".into(), version: 3, loaded: 2, problems: 1, places: vec!["a.yaml:3".into()] },
        store: StoreSeen { kind: "redis".into(), answers: true, breakers_open: 0 },
        rates: RatesSeen { requests: 10.5, refused: 1.0, degraded: 0.0 },
        overrides_generation: 9,
        switched: Some(vec![("api".into(), 9)]),
        knows_shares: true,
        switched_here: 0,
    }
}

#[test]
fn a_record_is_read_as_it_was_written_and_by_other_releases() {
    let one = record("one");
    assert_eq!(ReplicaRecord::read(one.write(3).as_bytes()), Some(one));
    let newer = br#"{"id":"x","name":"two","colour":"blue","rules":{"hash":"h","shape":1}}"#;
    let read = ReplicaRecord::read(newer).expect("fields that aren't known are skipped");
    assert_eq!((&*read.name, &*read.rules.hash, read.knows_switches()), ("two", "h", false));
    assert_eq!(ReplicaRecord::read(b"no record"), None);
}

#[test]
fn a_record_is_at_most_two_kibibytes_whatever_is_in_it() {
    let long: Box<str> = "ä".repeat(4_000).into();
    let mut huge = record("one");
    huge.name = long.clone();
    huge.addresses = vec![long.clone(); 9];
    huge.rules.places = vec![long.clone(); 9];
    huge.switched = Some((0..8).map(|n| (long.clone(), n)).collect());
    for (replicas, bytes_max) in [(1, RECORD_MAX), (1_000, RECORD_MAX), (1_500, (2 << 20) / 1_500), (100_000, 1 << 10)]
    {
        let text = huge.write(replicas);
        assert!(text.len() <= bytes_max, "{} in a fleet of {replicas}", text.len());
        assert!(ReplicaRecord::read(text.as_bytes()).is_some_and(|read| read.knows_switches()));
    }
    // What fits is whole, and what others wait for is left out last.
    let usual = ReplicaRecord { switched: Some(vec![("api".into(), 9), ("shop".into(), 8)]), ..record("one") };
    assert_eq!(ReplicaRecord::read(usual.write(100_000).as_bytes()), Some(usual));
    let known = ReplicaRecord { switched: Some(vec![("api".into(), 9)]), ..huge };
    let kept = ReplicaRecord::read(known.write(100_000).as_bytes()).expect("a record");
    assert!(kept.has_switches("api", 9) && kept.rules.places.is_empty());
}

#[test]
fn switches_are_confirmed_up_to_a_write_of_their_domain() {
    let one = record("one");
    assert!(one.has_switches("api", 9) && one.has_switches("api", 8));
    assert!(!one.has_switches("api", 10) && !one.has_switches("other", 1));
    assert!(!ReplicaRecord { switched: None, ..one }.has_switches("api", 1));
}

#[tokio::test]
async fn a_fleet_of_one_is_whole() {
    let fleet = Arc::new(Fleet::of_one("test"));
    assert_eq!(fleet.beat(record("one"), None).await, Ok(Heard { replicas: 1, ..Heard::default() }));
    let view = fleet.read().await;
    assert_eq!((view.replicas.len(), view.partial), (1, None));
    let confirmed = fleet.confirmed(("api", 9), ReplicaRecord::knows_switches, Duration::ZERO).await;
    assert_eq!((confirmed.replicas, confirmed.in_force), (1, 1));
    let late = fleet.confirmed(("api", 10), ReplicaRecord::knows_switches, Duration::ZERO).await;
    assert_eq!((late.in_force, late.missing), (0, vec!["one".into()]));
    let older = ReplicaRecord { knows_shares: false, ..record("one") };
    fleet.beat(older, None).await.expect("it is kept here");
    let unknown = fleet.confirmed(("api", 9), |record| record.knows_shares, Duration::ZERO).await;
    assert_eq!((unknown.in_force, unknown.missing), (0, vec!["one".into()]), "it read the write, and can't do it");
}
