//! What the lists promise, tried on random streams against exact counts. The seed is fixed, so that a run can be repeated;
//! other streams are tried with `PROPTEST_RNG_SEED=… PROPTEST_CASES=… cargo test --lib top`.

use std::collections::HashMap;

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use super::{record::SENT_KEYS_MAX, sketch::Sketch, *};

const NOW: u64 = 1_700_000_000_000_000;

fn config() -> Config {
    let config = Config::default();
    // Each case is long.
    let config = Config { cases: config.cases / 4, ..config };
    match config.rng_seed {
        RngSeed::Random => Config { rng_seed: RngSeed::Fixed(0x7011_6a7e), failure_persistence: None, ..config },
        RngSeed::Fixed(_) => config,
    }
}

/// Hits of one key at one time, on one core of one replica.
#[derive(Clone, Copy, Debug)]
struct Event {
    user: u64,
    hits: u64,
    /// Seconds since the event before.
    gap: u64,
    core: usize,
}

/// A few heavy keys among many, few hits and many, and time that passes slowly, quickly and not at all.
fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    let user = prop_oneof![3 => 0u64..4, 3 => 0u64..40, 4 => 0u64..2_000];
    let hits = prop_oneof![8 => Just(1u64), 2 => 1u64..20, 1 => Just(1u64 << 32)];
    let gap = prop_oneof![20 => Just(0u64), 4 => 1u64..4, 1 => 5u64..200, 1 => 200u64..2_000];
    let event = (user, hits, gap, 0usize..3).prop_map(|(user, hits, gap, core)| Event { user, hits, gap, core });
    prop::collection::vec(event, 1..most)
}

fn key(user: u64) -> Arc<TopKey> {
    Arc::new(TopKey::new(1, "api/user", &format!("user={user}")))
}

/// Spreads numbers as hashes are.
fn hash(user: u64) -> u64 {
    std::hash::BuildHasher::hash_one(&foldhash::quality::FixedState::with_seed(7), user)
}

type Exact = HashMap<Box<str>, u64>;

fn exact<'e>(events: impl IntoIterator<Item = &'e Event>) -> Exact {
    let mut exact = Exact::new();
    for Event { user, hits, .. } in events {
        *exact.entry(key(*user).descriptor().into()).or_default() += hits;
    }
    exact
}

/// Holds a list to what was counted: bounds are true, nobody is there who has nothing, and who has more than 1/`keys_max` of
/// all is.
fn check(list: &TopList, exact: &Exact, keys_max: u64) -> Result<(), TestCaseError> {
    let total: u64 = exact.values().sum();
    let mut unlisted = exact.clone();
    for listed in &list.listed {
        let hits = unlisted.remove(listed.key.descriptor()).unwrap_or(0);
        let bounds = listed.count - listed.error..=listed.count;
        prop_assert!(bounds.contains(&hits), "{} has {hits}, not {bounds:?}", listed.key.descriptor());
        prop_assert!(listed.error <= list.floor && list.floor <= listed.count, "{listed:?}, floor {}", list.floor);
    }
    for (user, hits) in &unlisted {
        prop_assert!(*hits <= list.floor, "{user} has {hits}, and the floor is {}", list.floor);
        prop_assert!(hits * keys_max <= total, "{user} has {hits} of {total}, and isn't among {keys_max}");
    }
    prop_assert!(list.floor * keys_max <= total, "the floor {} of {total} among {keys_max}", list.floor);
    Ok(())
}

fn count(sketch: &mut Sketch, event: &Event) {
    sketch.add(hash(event.user), event.hits, || key(event.user));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_sketch_has_true_bounds_and_everyone_above_its_share(events in events(2_000), keys_max in 1usize..60) {
        let mut sketch = Sketch::new(keys_max);
        for (number, event) in events.iter().enumerate() {
            count(&mut sketch, event);
            if number % 500 == 0 {
                check(&sketch.list_now(), &exact(&events[..=number]), keys_max as u64)?;
            }
        }
        let list = sketch.list_now();
        prop_assert!(list.listed.len() <= keys_max);
        check(&list, &exact(&events), keys_max as u64)?;
    }

    #[test]
    fn merged_and_cut_lists_have_true_bounds(
        streams in prop::collection::vec(events(600), 1..6),
        keys_max in 1usize..40,
        cut in 1usize..40,
    ) {
        let lists: Vec<TopList> = streams.iter().map(|events| {
            let mut sketch = Sketch::new(keys_max);
            events.iter().for_each(|event| count(&mut sketch, event));
            sketch.list_now().cut(cut)
        }).collect();
        let all = exact(streams.iter().flatten());
        let least = keys_max.min(cut) as u64;
        check(&TopList::merged(&lists), &all, least)?;
        // As slots of time become one: merged one after the other, and cut each time.
        let one_by_one = lists.iter().fold(TopList::default(), |sum, list| TopList::merged([&sum, list]).cut(cut));
        prop_assert!(one_by_one.listed.len() <= cut);
        check(&one_by_one, &all, least)?;
    }

    #[test]
    fn lists_of_cores_and_slots_have_true_bounds(
        events in events(1_500),
        keys_max in 2usize..50,
        folds in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        pause in 0u64..700,
    ) {
        let replica = Replica::play(&events, keys_max, &folds, pause);
        for span in TopSpan::ALL {
            let record = replica.lists.read(span, &TopFilter::default(), replica.now);
            let since = replica.at.iter().zip(&events).filter(|(at, _)| **at >= record.begins).map(|(_, event)| event);
            let exact = exact(since);
            let [denied, hits, _] = TopMeasure::ALL.map(|measure| record.list(measure));
            check(hits, &exact, keys_max as u64)?;
            prop_assert!(denied.listed.is_empty() && denied.floor == 0);
            let reaches_back = replica.now.0 - record.begins.0;
            prop_assert!(reaches_back >= 6 * span.slot().0 && reaches_back < 7 * span.slot().0);
        }
    }

    #[test]
    fn lists_of_replicas_have_true_bounds_after_they_were_sent(
        streams in prop::collection::vec(events(900), 1..5),
        keys_max in 2usize..300,
    ) {
        let mut records = Vec::new();
        for events in &streams {
            let still: Vec<Event> = events.iter().map(|event| Event { gap: 0, ..*event }).collect();
            let replica = Replica::play(&still, keys_max, &[], 0);
            let record = replica.lists.read(TopSpan::TenMinutes, &TopFilter::default(), replica.now);
            let sent = record.encode_within(usize::MAX);
            prop_assert!(sent.len() < 40 * SENT_KEYS_MAX, "{} bytes", sent.len());
            // The first is the one that answers, whose own lists are whole.
            records.push(if records.is_empty() { record } else { TopRecord::decode(&sent).expect("it was just encoded") });
        }
        let merged = TopRecord::merged(records);
        let least = keys_max.min(SENT_KEYS_MAX) as u64;
        let exact = exact(streams.iter().flatten());
        check(merged.list(TopMeasure::Hits), &exact, least)?;
        // All are of one limit.
        let total: u64 = exact.values().sum();
        if let [limit] = &*merged.limits(TopMeasure::Hits, 10) {
            prop_assert!(limit.at_least <= total && limit.counters as usize == merged.list(TopMeasure::Hits).listed.len());
            prop_assert!(limit.at_least == total || merged.list(TopMeasure::Hits).floor > 0, "{limit:?} of {total}");
        } else {
            prop_assert!(merged.list(TopMeasure::Hits).floor > 0, "no limit has any for certain, of {total}");
        }
        let ranking = merged.ranked(TopMeasure::Hits, 10);
        prop_assert!(ranking.keys.len() <= 10);
        prop_assert!(ranking.keys.is_sorted_by(|one, other| one.counts[1] >= other.counts[1]));
        for (user, hits) in exact {
            let is_ranked = ranking.keys.iter().any(|key| key.descriptor == user);
            prop_assert!(is_ranked || hits <= ranking.others_at_most);
        }
    }

    #[test]
    fn damaged_records_are_refused_or_have_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
        let mut sent = sample().encode_within(usize::MAX);
        let at = at % sent.len();
        let end = (at + bytes.len()).min(sent.len());
        sent[at..end].copy_from_slice(&bytes[..end - at]);
        for bytes in [&*bytes, &*sent, &sent[..at]] {
            if let Some(record) = TopRecord::decode(bytes) {
                TopRecord::merged(vec![record.clone(), sample(), record]).ranked(TopMeasure::Hits, 20);
            }
        }
    }
}

fn sample() -> TopRecord {
    let replica = Replica::play(&[1, 2, 2, 3].map(|user| Event { user, hits: 5, gap: 0, core: 0 }), 2, &[], 0);
    replica.lists.read(TopSpan::Minute, &TopFilter::default(), replica.now)
}

/// A replica that has counted a stream of events as hits.
struct Replica {
    lists: Arc<TopLists>,
    /// When each event was.
    at: Vec<UnixMicros>,
    now: UnixMicros,
}

impl Replica {
    /// Plays events on three cores, with folds in between, and lets `pause` seconds pass.
    fn play(events: &[Event], keys_max: usize, folds: &[prop::sample::Index], pause: u64) -> Replica {
        let lists = of_keys(keys_max);
        let cores: Vec<CoreTop> = (0..3).map(|_| lists.core()).collect();
        let folds: Vec<usize> = folds.iter().map(|index| index.index(events.len())).collect();
        let (mut now, mut at) = (UnixMicros(NOW), Vec::new());
        for (number, event) in events.iter().enumerate() {
            now = UnixMicros(now.0 + event.gap * SECOND.0);
            at.push(now);
            cores[event.core].with_sketches(now, |sketches| count(&mut sketches[TopMeasure::Hits as usize], event));
            if folds.contains(&number) {
                lists.fold(now);
            }
        }
        Replica { lists, at, now: UnixMicros(now.0 + pause * SECOND.0) }
    }
}

fn of_keys(keys_max: usize) -> Arc<TopLists> {
    let (hasher, cores, history) = (RandomState::default(), Mutex::default(), Mutex::default());
    Arc::new(TopLists { keys_max, privacy: Privacy::default(), hasher, cores, history })
}

#[test]
fn memory_is_taken_as_it_is_used_and_stays_below_its_bound() {
    const MOST: u64 = 1 << 20;
    let lists = TopLists::new(MOST, 2, Privacy::default()).expect("not 0");
    let cores = [lists.core(), lists.core()];
    assert_eq!(lists.bytes(), 0);
    let long = "x".repeat(2 * key::TEXT_BYTES_MAX);
    let mut largest = 0;
    // More than an hour, a turn every four seconds.
    let at = |turn: u64| UnixMicros(NOW + turn * 4 * SECOND.0);
    const TURNS: u64 = 1_100;
    for turn in 0..TURNS {
        for core in &cores {
            core.with_sketches(at(turn), |sketches| {
                for user in turn * 20..turn * 20 + 20 {
                    let key = || Arc::new(TopKey::new(1, &format!("{user}{long}"), &format!("{user}{long}")));
                    sketches.iter_mut().for_each(|sketch| sketch.add(hash(user), 1, key));
                }
            });
        }
        if turn % 2 == 0 {
            lists.fold(at(turn));
        }
        largest = largest.max(lists.bytes());
    }
    assert!(largest <= MOST && largest > MOST / 3, "{largest}");
    lists.fold(at(TURNS + 2 * 900));
    assert_eq!(lists.bytes(), 0, "everything is forgotten");
}

#[test]
fn limits_are_ranked_by_what_their_counters_have_together() {
    let (lists, now) = (of_keys(10), UnixMicros(NOW));
    let core = lists.core();
    for (number, (limit, denied)) in [("a", 3), ("b", 2), ("b", 2), ("c", 9), ("d", 3)].into_iter().enumerate() {
        let key = || Arc::new(TopKey::new(1, limit, &format!("user={number}")));
        core.with_sketches(now, |sketches| sketches[TopMeasure::Denied as usize].add(number as u64, denied, key));
    }
    let record = lists.read(TopSpan::TenMinutes, &TopFilter::default(), now);
    let limits = record.limits(TopMeasure::Denied, 3);
    let ranked: Vec<_> = limits.iter().map(|limit| (&*limit.limit, limit.at_least, limit.counters)).collect();
    assert_eq!(ranked, [("c", 9, 1), ("b", 4, 2), ("a", 3, 1)]);
    assert_eq!(record.limits(TopMeasure::Shadow, 3), []);
}

#[test]
fn a_limit_that_is_asked_for_is_sent_in_lists_of_its_own() {
    let (lists, now) = (of_keys(300), UnixMicros(NOW));
    let core = lists.core();
    core.with_sketches(now, |sketches| {
        for user in 0..2 * SENT_KEYS_MAX as u64 {
            let (limit, hits) = if user == 7 { ("light", 1) } else { ("heavy", 5) };
            let key = || Arc::new(TopKey::new(1, limit, &format!("user={user}")));
            sketches[TopMeasure::Hits as usize].add(hash(user), hits, key);
        }
    });
    let of_light = |record: TopRecord| record.filtered(&TopFilter::default().of_limit("light"));
    let ranked = |record: TopRecord| record.ranked(TopMeasure::Hits, 10).keys;
    for bytes_max in [usize::MAX, 128 << 10, 16 << 10, 2 << 10, 0] {
        let sent = lists.encode(now, bytes_max, &["light".into(), "other".into()]);
        assert!(sent.len() <= bytes_max.max(400), "{} of {bytes_max}", sent.len());
        for span in TopSpan::ALL {
            let all = decode(&sent, span).expect("as without limits");
            assert_eq!(ranked(of_light(all)), [], "its counter isn't among the heaviest");
            let own = ranked(decode_of_limit(&sent, span, "light").expect("it was asked for"));
            let expected = if bytes_max == 0 { Vec::new() } else { vec![("user=7", 1, 0)] };
            let came: Vec<_> = own.iter().map(|key| (&*key.descriptor, key.counts[1], key.errors[1])).collect();
            assert_eq!(came, expected, "within {bytes_max}");
            assert!(decode_of_limit(&sent, span, "other").is_some_and(|record| ranked(record).is_empty()));
            assert!(
                decode_of_limit(&sent, span, "ligh").is_none() && decode_of_limit(&sent[1..], span, "light").is_none()
            );
        }
    }
    let unasked = lists.encode(now, usize::MAX, &[]);
    assert!(decode(&unasked, TopSpan::Hour).is_some() && decode_of_limit(&unasked, TopSpan::Hour, "light").is_none());
}

#[test]
fn a_clock_that_is_set_back_begins_afresh_and_one_that_is_late_a_little_does_not() {
    let lists = of_keys(10);
    let core = lists.core();
    let add = |at: u64| core.with_sketches(UnixMicros(at), |sketches| sketches[0].add(1, 1, || key(1)));
    let read = |at: u64| {
        let record = lists.read(TopSpan::Minute, &TopFilter::default(), UnixMicros(at));
        record.ranked(TopMeasure::Denied, 1).keys.first().map_or(0, |key| key.counts[0])
    };
    add(NOW);
    add(NOW - 5 * SECOND.0);
    assert_eq!(read(NOW), 2);
    let hour_before = NOW - 3_600 * SECOND.0;
    add(hour_before);
    assert_eq!(read(hour_before), 1);
    lists.fold(UnixMicros(hour_before));
    assert_eq!(read(hour_before), 1);
    assert_eq!(read(hour_before + 80 * SECOND.0), 0, "a minute later it is over");
}

#[test]
fn a_long_text_is_cut_at_a_character_and_stays_different() {
    let (one, other) = (format!("{}1", "ä".repeat(70)), format!("{}2", "ä".repeat(70)));
    let [one, other] = [one, other].map(|text| cut(&text).into_owned());
    assert!(one.len() <= key::TEXT_BYTES_MAX && one.len() > key::TEXT_BYTES_MAX - 4, "{}", one.len());
    assert_ne!(one, other);
    assert_eq!(cut(&"x".repeat(128)), "x".repeat(128));
}
