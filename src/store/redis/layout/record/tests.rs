//! The record as releases have written it.

use super::*;

#[test]
fn buckets_are_read_from_the_records_of_all_releases() {
    for (record, buckets) in [
        ("buckets=256 algorithm=sliding_window", Some(Buckets::DEFAULT)),
        ("buckets=16 algorithm=fixed_window", Some(Buckets::Hashed(16))),
        ("buckets=slots algorithm=sliding_window", Some(Buckets::EachSlot)),
        ("buckets=many", None),
        ("", None),
    ] {
        assert_eq!(buckets_of(record), buckets, "{record}");
    }
}
