//! The bytes as the Lua sees them: a change here is a change of the stored layout.

use crate::algorithm::{State, tests::*};
use crate::limit::{
    Algorithm::{self, *},
    Limit,
};

fn packed(counter: &Counter) -> Vec<u8> {
    let mut bytes = Vec::new();
    counter.state.encode(&mut bytes);
    bytes
}

fn hit(limit: Limit, hits: &[(u64, i64)]) -> Counter {
    let mut counter = Counter::new(limit);
    hits.iter().for_each(|(now, hits)| assert!(counter.hit(*now, *hits).admitted));
    counter
}

#[test]
fn each_algorithm_packs_to_the_documented_bytes() {
    let sliding = hit(limit(SlidingWindow, 1_000, 100, 4), &[(7_000, 258), (7_025, 2), (7_075, 3)]);
    let fixed = hit(limit(FixedWindow, 1_000, 100, 4), &[(70_000, 258)]);
    let log = hit(limit(SlidingLog, 1_000, 100, 4), &[(0x0102_0304_0506, 258), (0x0102_0304_0507, 2)]);
    let bucket = hit(limit(TokenBucket, 1_000, 100, 4), &[(0x0102_0304_0506, 3)]);
    let cases: [(Counter, &[&[u8]]); 4] = [
        // 7,000 µs is sub-window 280, which is 24 mod 256; 7,075 is 283.
        (
            sliding,
            &[
                &[0; 6],
                &[27, 1, 0, 0, 0, 0, 0],
                &[3, 0, 0, 0],
                &[4, 1, 0, 0, 0],
                &[3],
                &[2],
                &[24, 2, 1, 0, 0],
                &[25, 2, 0, 0, 0],
            ],
        ),
        (fixed, &[&[0; 6], &[188, 2, 0, 0, 0, 0, 0], &[2, 1, 0, 0, 0, 0, 0]]),
        (
            log,
            &[
                &[0; 6],
                &[7, 5, 4, 3, 2, 1, 0],
                &[4, 1, 0, 0, 0, 0],
                &[0, 0, 0, 0],
                &[2, 0, 0, 0],
                &[6, 5, 4, 3, 2, 1, 0, 2, 1, 0, 0],
                &[7, 5, 4, 3, 2, 1, 0, 2, 0, 0, 0],
            ],
        ),
        (bucket, &[&[0; 6], &[0, 0, 48, 0, 0, 0, 0], &[6, 5, 4, 3, 2, 1, 0]]),
    ];
    for (counter, fields) in cases {
        assert_eq!(packed(&counter), fields.concat(), "{:?}", counter.limit.algorithm);
    }
}

#[test]
fn a_log_that_was_cut_in_place_reads_as_its_living_part() {
    let mut bytes = packed(&hit(limit(SlidingLog, 10, 100, 1), &[(1000, 1), (1001, 2)]));
    // As releases of before left it: one entry forgotten in front, and old bytes behind.
    bytes[13] = 2;
    bytes[19] = 1;
    bytes[23] = 1;
    bytes.extend_from_slice(&[0xff; 9]);
    assert_eq!(State::decode(&bytes, SlidingLog), Some(hit(limit(SlidingLog, 10, 100, 1), &[(1001, 2)]).state));
}

#[test]
fn no_bytes_are_the_empty_state() {
    for algorithm in Algorithm::ALL {
        assert_eq!(State::decode(&[], algorithm), Some(State::Empty));
        assert!(packed(&Counter::new(limit(algorithm, 1, 100, 4))).is_empty());
    }
}

#[test]
fn damaged_bytes_are_refused() {
    let sliding = packed(&hit(limit(SlidingWindow, 1_000, 100, 4), &[(7_000, 258), (7_025, 2), (7_075, 3)]));
    let log = packed(&hit(limit(SlidingLog, 1_000, 100, 4), &[(1000, 1), (1001, 2)]));
    let bucket = packed(&hit(limit(TokenBucket, 1_000, 100, 4), &[(1000, 1)]));
    let fixed = packed(&hit(limit(FixedWindow, 1_000, 100, 4), &[(1000, 1)]));
    let cases: [(&str, Algorithm, &[u8], usize, u8); 14] = [
        ("an index that no time has", SlidingWindow, &sliding, 12, 32),
        ("a sum that isn't the pairs'", SlidingWindow, &sliding, 17, 5),
        ("an oldest that isn't the first pair", SlidingWindow, &sliding, 22, 4),
        ("more pairs than there are", SlidingWindow, &sliding, 23, 3),
        ("more pairs than sub-windows", SlidingWindow, &sliding, 23, 200),
        ("pairs that are left out", SlidingWindow, &sliding, 23, 0),
        ("a pair as new as the current sub-window", SlidingWindow, &sliding, 29, 27),
        ("a pair without hits", SlidingWindow, &sliding, 30, 0),
        ("an index that no window has", FixedWindow, &fixed, 12, 255),
        ("a newest that isn't", SlidingLog, &log, 6, 1),
        ("more entries than there are", SlidingLog, &log, 23, 3),
        ("more dead than there are", SlidingLog, &log, 19, 1),
        ("entries out of order", SlidingLog, &log, 27, 255),
        ("a level that no bucket has", TokenBucket, &bucket, 12, 32),
    ];
    for (what, algorithm, bytes, at, value) in cases {
        let mut damaged = bytes.to_vec();
        damaged[at] = value;
        assert!(State::decode(bytes, algorithm).is_some(), "sound without {what}");
        assert_eq!(State::decode(&damaged, algorithm), None, "{what}");
    }
}

#[test]
fn bytes_that_end_early_are_refused() {
    for algorithm in Algorithm::ALL {
        let limit = Limit { burst: 10, ..limit(algorithm, 10, 100, 4) };
        let whole = packed(&hit(limit, &[(1000, 1), (1030, 1)]));
        for length in 1..whole.len() {
            assert_eq!(State::decode(&whole[..length], algorithm), None, "{algorithm:?}, {length} bytes");
        }
    }
}

/// A ring of six slots, four of them with entries, which begin in the fifth: 3, 1 and 4 hits at 1,000, 1,002 and 1,005, then
/// one hit at 1,005,000. The clock was set back by 9 in all, and sums are about to begin again.
fn packed_ring() -> Vec<u8> {
    let base = (1u64 << 48) - 5;
    let mut out = Vec::new();
    let mut put = |value: u64, bytes: usize| out.extend_from_slice(&value.to_le_bytes()[..bytes]);
    put(1_234, 6);
    put(1_005_000, 7);
    put(9, 6);
    put(base, 6);
    put(9, 7);
    for number in [4, 4, 6] {
        put(number, 3);
    }
    let entries = [(1_000, 3), (1_002, 4), (1_005, 8), (1_005_000, 9)];
    for (time, upto) in [entries[2], entries[3], (7, 7), (0, 0), entries[0], entries[1]] {
        put(time + 9, 7);
        put((base + upto) % (1 << 48), 6);
    }
    out
}

fn read_ring(bytes: &[u8]) -> Option<State> {
    State::from_redis(bytes, SlidingLog)
}

#[test]
fn a_ring_reads_as_the_log_that_it_is() {
    let hits = [(1_000, 3), (1_002, 1), (1_005, 4), (1_005_000, 1)];
    let log = hit(limit(SlidingLog, 10, 9_000_000, 1), &hits).state;
    let mut bytes = packed_ring();
    assert_eq!(bytes.len(), 41 + 6 * 13);
    assert_eq!(bytes[..41][38..], [6, 0, 0], "the slots end the header");
    assert_eq!(read_ring(&bytes), Some(log));
    bytes.extend_from_slice(&[0xff; 9]);
    assert!(read_ring(&bytes).is_some(), "bytes behind it mean nothing");
    assert_eq!(read_ring(&[]), Some(State::Empty));
}

#[test]
fn a_time_that_was_set_back_to_the_epoch_reads_as_that() {
    let mut bytes = packed_ring();
    // By more than the oldest three.
    bytes[25..32].copy_from_slice(&1_200u64.to_le_bytes()[..7]);
    bytes[6..13].copy_from_slice(&(1_005_009u64 - 1_200).to_le_bytes()[..7]);
    let Some(State::Log { sum, log }) = read_ring(&bytes) else { panic!("it is sound") };
    assert_eq!((sum, log.iter().collect::<Vec<_>>()), (9, vec![(0, 3), (0, 1), (0, 4), (1_003_809, 1)]));
}

#[test]
fn a_damaged_ring_is_refused() {
    let sound = packed_ring();
    let slot = |nth: usize| 41 + nth * 13;
    let cases: [(&str, usize, u8); 13] = [
        ("a newest that isn't", 6, 1),
        ("a newest that no time is", 12, 255),
        ("a sum that isn't that of the entries", 13, 8),
        ("no hits and entries", 13, 0),
        ("a sum before them that isn't", 19, 0),
        ("more of a shift than there can be", 31, 255),
        ("an oldest that no slot has", 32, 6),
        ("an oldest that isn't", 32, 3),
        ("no entries and hits", 35, 0),
        ("more entries than slots", 35, 7),
        ("more slots than there are", 38, 7),
        ("entries out of order", slot(5), 0),
        ("an entry without hits", slot(5) + 7, 254),
    ];
    for (what, at, value) in cases {
        let mut damaged = sound.clone();
        assert_ne!(damaged[at], value, "{what}");
        damaged[at] = value;
        assert_eq!(read_ring(&damaged), None, "{what}");
    }
    for length in 1..sound.len() {
        assert_eq!(read_ring(&sound[..length]), None, "{length} bytes");
    }
}
