use super::*;

const START: UnixMicros = UnixMicros(1_767_603_600_400_000);

fn after(seconds: u64) -> UnixMicros {
    UnixMicros(START.0 + seconds * SECOND.0)
}

#[test]
fn buckets_double_until_the_time_fits() {
    let mut buckets = Buckets::new(START);
    let mut all = Timeline::default();
    // One that is only counted in at first is put together all the same.
    let mut early = Timeline::default();
    for second in 0..3_600 {
        let bucket = buckets.bucket(after(second));
        all.add(buckets, bucket, 1);
        if second < 10 {
            early.add(buckets, bucket, 1);
        }
    }
    assert_eq!(buckets.span(), Micros(64 * SECOND.0));
    let counts = all.counts(buckets, 56);
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (57, 3_600));
    assert!(counts[..56].iter().all(|count| *count == 64), "{counts:?}");
    assert_eq!(early.counts(buckets, 1), [10, 0]);
    let peak = Peak { count: 10, at: UnixMicros(START.0 - 400_000), span: buckets.span() };
    assert_eq!(early.peak(buckets), Some(peak));
    assert_eq!(Timeline::default().peak(buckets), None);
}

#[test]
fn a_sparkline_shows_shares_of_the_largest_and_blanks_where_nothing_is() {
    assert_eq!(sparkline(&[0, 1, 400, 800]), " ▁▄█");
    assert_eq!(sparkline(&[0, 0]), "  ");
    assert_eq!(sparkline(&[u64::MAX, u64::MAX / 2]), "█▄");
}
