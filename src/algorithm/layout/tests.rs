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
    // As the Lua leaves it: one entry forgotten in front, and old bytes behind.
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
