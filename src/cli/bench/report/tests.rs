//! Buckets have every answer once, in order, without gaps.

use super::*;

fn of(times_us: &[u64]) -> Vec<(f64, f64, u64)> {
    let mut histogram = BenchCounts::default().times_us;
    times_us.iter().for_each(|time| histogram.record(*time).expect("it is within bounds"));
    super::histogram(&histogram).into_iter().map(|bucket| (bucket.from_ms, bucket.to_ms, bucket.count)).collect()
}

#[test]
fn an_answer_is_in_the_bucket_that_begins_at_its_time() {
    assert_eq!(of(&[]), []);
    assert_eq!(of(&[1]), [(0.0, 0.01, 1)]);
    assert_eq!(of(&[199, 200, 299, 300]), [(0.15, 0.2, 1), (0.2, 0.3, 2), (0.3, 0.5, 1)]);
}

#[test]
fn empty_buckets_between_are_there_and_those_around_are_not() {
    let buckets = of(&[100, 120, 1_600]);
    assert_eq!((buckets.len(), buckets[0], buckets[7]), (8, (0.1, 0.15, 2), (1.5, 2.0, 1)));
    assert!(buckets.windows(2).all(|pair| pair[0].1 == pair[1].0), "{buckets:?}");
    assert_eq!(buckets.iter().map(|bucket| bucket.2).sum::<u64>(), 3);
}

#[test]
fn each_answer_is_counted_once_however_long_it_took() {
    let times: Vec<u64> = (0..3_000).map(|nth| 1 + nth * nth * 397).collect();
    let buckets = of(&times);
    assert_eq!(buckets.iter().map(|bucket| bucket.2).sum::<u64>(), 3_000);
    assert!(buckets.iter().all(|bucket| bucket.0 < bucket.1));
}
