use super::*;

fn recorded(times: &[(usize, u64)]) -> Recorded {
    let mut recorded = Recorded::default();
    for (bucket, count) in times {
        recorded.buckets[*bucket] = *count;
    }
    recorded
}

#[test]
fn a_quantile_lies_evenly_within_its_bucket() {
    assert_eq!(Recorded::default().quantile_us(0.99), 0, "nothing was recorded");
    // Up to 5 µs, and of 250 to 500.
    let half = recorded(&[(0, 50), (6, 50)]);
    assert_eq!((half.quantile_us(0.25), half.quantile_us(0.5), half.quantile_us(0.75)), (2, 5, 375));
    // Above every bound nothing is known but that.
    assert_eq!(recorded(&[(BUCKETS - 1, 1)]).quantile_us(0.5), 10_000_000);
}

#[test]
fn what_was_recorded_after_a_moment_is_the_difference() {
    let (before, after) = (recorded(&[(0, 5), (3, 2)]), recorded(&[(0, 6), (3, 2), (4, 9)]));
    assert_eq!(after.since(&before), recorded(&[(0, 1), (4, 9)]));
    assert_eq!(before.since(&after), Recorded::default(), "never below nothing");
}
