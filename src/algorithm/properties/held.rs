//! That what a counter is told to hold is what it decides by.

use super::*;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_held_is_what_a_look_answers_by(
        (limit, events) in any_case(any_algorithm()), set_back in prop_oneof![3 => Just(0), 1 => 0u64..500, 1 => 0u64..1 << 50]
    ) {
        let (counter, now) = played(limit, &events);
        let now = now - set_back;
        let (look, contents) = (counter.look(now, 0), counter.state.contents(&limit, UnixMicros(now)));
        if look.remaining > 0 {
            let room = f64::from(if limit.algorithm.has_burst() { limit.burst } else { limit.requests });
            prop_assert_eq!((room - contents.hits).floor(), look.remaining as f64, "{:?}", contents);
            // A fixed window ends, with hits or without.
            let has_end = limit.algorithm != FixedWindow || contents.hits > 0.0;
            let empty = contents.until.map_or(0, |until| until.0 - now);
            prop_assert!(!has_end || empty == look.reset.0, "{empty} and {look:?}");
        }
        prop_assert_eq!(contents.until.is_none(), contents.hits == 0.0);
        prop_assert!(contents.until.is_none_or(|until| until.0 > now || limit.requests == 0), "{contents:?} at {now}");

        // Oldest first, none without hits, and none that has left.
        prop_assert!(contents.groups.iter().all(|group| group.hits > 0 && group.since < group.until && group.until.0 > now));
        prop_assert!(contents.groups.is_sorted_by_key(|group| group.until));
        let told: u64 = contents.groups.iter().map(|group| group.hits).sum();
        if !limit.algorithm.has_burst() && contents.omitted == 0 {
            prop_assert_eq!(told as f64, contents.hits);
        }

        // Read from Redis it tells the same.
        let mut packed = Vec::new();
        counter.state.encode(&mut packed);
        let read = State::decode(&packed, limit.algorithm).expect("as it was written");
        prop_assert_eq!(read.contents(&limit, UnixMicros(now)), contents);
    }

    #[test]
    fn each_part_leaves_at_its_moment_and_not_before(
        (limit, events) in any_case(prop::sample::select(&[SlidingWindow, FixedWindow, SlidingLog][..]))
    ) {
        let (counter, now) = played(limit, &events);
        let hits = |at: u64| counter.state.contents(&limit, UnixMicros(at)).hits;
        let contents = counter.state.contents(&limit, UnixMicros(now));
        let Some(first) = contents.groups.first() else { return Ok(()) };
        let together: u64 = contents.groups.iter().filter(|group| group.until == first.until).map(|group| group.hits).sum();
        prop_assert_eq!(hits(first.until.0 - 1), contents.hits);
        prop_assert_eq!(hits(first.until.0), contents.hits - together as f64);
    }

    /// Redis is not ours alone: what can be read as a counter can be told, whatever it says.
    #[test]
    fn whatever_numbers_a_counter_has_are_told(
        limit in any_limit(any_algorithm()), now in 0u64..1 << 60, numbers in (0u64..1 << 53, 0u64..1 << 53), hits in 1u32..,
        times in prop::collection::vec(0u64..1 << 53, 1..40)
    ) {
        let packed = match limit.algorithm {
            SlidingLog => {
                let mut times = times;
                times.sort_unstable();
                let (newest, sum) = (*times.last().expect("one at least"), u64::from(hits) * times.len() as u64);
                let entries = times.iter().flat_map(|time| [&time.to_le_bytes()[..7], &hits.to_le_bytes()].concat());
                let header = [&[0; 6], &newest.to_le_bytes()[..7], &sum.to_le_bytes()[..6], &[0; 4]].concat();
                let count = (times.len() as u32).to_le_bytes();
                header.into_iter().chain(count).chain(entries).collect()
            }
            SlidingWindow => [&[0; 6], &numbers.0.to_le_bytes()[..7], &hits.to_le_bytes(), &[0; 7]].concat(),
            _ => [&[0; 6], &numbers.0.to_le_bytes()[..7], &numbers.1.to_le_bytes()[..7]].concat(),
        };
        let state = State::decode(&packed, limit.algorithm).expect("it is well formed");
        let contents = state.contents(&limit, UnixMicros(now));
        prop_assert!(contents.hits >= 0.0 && contents.groups.len() <= 65, "{contents:?}");
        prop_assert!(contents.groups.iter().all(|group| group.until > group.since), "{contents:?}");
    }
}

#[test]
fn a_long_log_is_told_by_its_oldest_and_newest_entries() {
    let mut counter = Counter::new(limit(SlidingLog, 100, 60 * SECOND.0, 1));
    for nth in 0..50 {
        counter.hit(NOW + nth * SECOND.0, 1 + nth as i64 % 2);
    }
    let contents = counter.state.contents(&counter.limit, UnixMicros(NOW + 50 * SECOND.0));
    let came: Vec<u64> = contents.groups.iter().map(|group| (group.since.0 - NOW) / SECOND.0).collect();
    assert_eq!(came, (0..10).chain(40..50).collect::<Vec<_>>());
    assert_eq!((contents.hits, contents.omitted), (75.0, 30));
    assert_eq!(contents.until, Some(UnixMicros(NOW + 109 * SECOND.0)));
}
