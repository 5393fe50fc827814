use super::*;

fn counter(fingerprint: u64) -> CallerCounter {
    CallerCounter { window: Micros(60_000_000), fingerprint }
}

fn admits(limits: &CallerLimits, fingerprints: &[u64], second: u64) -> bool {
    let counters: Vec<CallerCounter> = fingerprints.iter().copied().map(counter).collect();
    limits.admits(&counters, UnixMicros(second * 1_000_000))
}

#[test]
fn each_second_has_so_many_new_counters_and_known_ones_cost_nothing() {
    let limits = CallerLimits::new(Duration::from_secs(3_600), 3);
    assert_eq!([1, 2, 3, 4].map(|it| admits(&limits, &[it], 10)), [true, true, true, false]);
    assert_eq!([1, 2, 3, 4].map(|it| admits(&limits, &[it], 10)), [true, true, true, false], "known, and still new");
    assert!(admits(&limits, &[4, 5, 6], 11), "another second");
    assert!(!admits(&limits, &[1, 7], 11));
    assert!(admits(&limits, &[1, 2, 3, 4, 5, 6], 11), "all known");
}

#[test]
fn a_request_begins_all_of_its_counters_or_none() {
    let limits = CallerLimits::new(Duration::from_secs(3_600), 3);
    assert!(!admits(&limits, &[1, 2, 3, 4], 10), "more than a second has");
    assert!(admits(&limits, &[1, 2, 3], 10), "the refused one took nothing");
}

#[test]
fn with_no_new_counters_nothing_begins() {
    let limits = CallerLimits::new(Duration::from_secs(3_600), 0);
    assert!(!admits(&limits, &[1], 10));
    assert!(admits(&limits, &[], 10));
}

#[test]
fn what_is_remembered_has_an_end_and_what_is_asked_for_stays() {
    let limits = CallerLimits::new(Duration::from_secs(3_600), u32::MAX);
    let others = |turn: u64| (1..=WAYS as u64 - 1).map(move |it| 1 + (turn * 16 + it) * SETS as u64);
    for turn in 0..100 {
        assert_eq!(limits.new_counters.lock().recent.knows(1), turn > 0);
        assert!(admits(&limits, &[1], 10));
        others(turn).for_each(|other| assert!(admits(&limits, &[other], 10)));
    }
    let mut counters = limits.new_counters.lock();
    assert!(others(0).all(|other| !counters.recent.knows(other)), "those of the same set are forgotten");
}

#[test]
fn another_domain_window_or_entry_is_another_counter() {
    let limits = CallerLimits::new(Duration::from_secs(3_600), 3);
    let fingerprint = |domain: &str, seconds: u64, entries: &[(&str, &str)]| {
        let own = limit::Limit::new(5, Micros(seconds * 1_000_000), limit::Algorithm::default());
        let entries = entries.iter().map(|(key, value)| limit::Entry { key, value }).collect();
        let descriptor = limit::Descriptor { entries, ..limit::Descriptor::default() };
        let descriptors = [descriptor].into_iter().collect();
        let counters = limits.counters(&limit::Request {
            domain,
            descriptors,
            hits: 1,
            caller_limit: Some(&own),
            origin: limit::Origin::Api,
        });
        assert_eq!(counters.len(), 1);
        counters[0].fingerprint
    };
    let one = fingerprint("api", 60, &[("user", "alice")]);
    assert_eq!(one, fingerprint("api", 60, &[("user", "alice")]));
    for other in [
        fingerprint("shop", 60, &[("user", "alice")]),
        fingerprint("api", 61, &[("user", "alice")]),
        fingerprint("api", 60, &[("user", "bob")]),
        fingerprint("api", 60, &[("user", "alice"), ("action", "x")]),
        fingerprint("api", 60, &[("usera", "lice")]),
    ] {
        assert_ne!(one, other);
    }
}
