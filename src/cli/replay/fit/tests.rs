use super::*;

#[test]
fn a_share_is_read_exactly() {
    let parts = |text| Quantile::parse(text).map(|share| share.parts);
    assert_eq!(parts("p99.9"), Ok(99_900_000));
    assert_eq!(parts("P50"), Ok(50_000_000));
    assert_eq!(parts("p0"), Ok(0));
    assert_eq!(parts("p100"), Ok(100_000_000));
    assert_eq!(parts("p99.999999"), Ok(99_999_999));
    for text in ["99", "p", "p-1", "p101", "p100.1", "p99.", "p99.9999999", "p9999", "px"] {
        let error = Quantile::parse(text).expect_err(text);
        assert!(error.contains("write it as p99 or p99.9"), "{error}");
    }
}

/// The least number that refuses at most the rest.
#[test]
fn a_number_is_the_least_that_refuses_no_more_than_the_share() {
    let peaks: Vec<u32> = (1..=1_000).collect();
    for (share, requests, refused) in
        [("p100", 1_000, 0), ("p99.9", 999, 1), ("p99.95", 1_000, 0), ("p50", 500, 500), ("p0", 0, 1_000)]
    {
        let share = Quantile::parse(share).expect("a share");
        let expected = FitPoint { quantile: share.name.clone(), requests, counters_refused: refused };
        assert_eq!(point(&peaks, &share, Scale::ONE), expected);
    }
    // Those that are equal are refused together or not at all.
    let p50 = Quantile::parse("p50").expect("a share");
    assert_eq!(point(&[1, 7, 7, 7], &p50, Scale::ONE).counters_refused, 0);
    assert_eq!(point(&[7], &p50, Scale::ONE).requests, 7);
}
