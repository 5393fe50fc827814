use super::*;

const NEW_YEAR: u64 = 1_798_761_600_000_000;

#[test]
fn dates_and_times_are_read_in_utc_unless_they_say_otherwise() {
    for (written, micros) in [
        ("1970-01-01", 0),
        ("2027-01-01", NEW_YEAR),
        ("2027-01-01T00:00:00Z", NEW_YEAR),
        (" 2027-01-01 00:00:00 ", NEW_YEAR),
        ("2027-01-01T02:00:00+02:00", NEW_YEAR),
        ("2026-12-31T19:00:00-05:00", NEW_YEAR),
        ("2027-01-01T00:00:00.250001Z", NEW_YEAR + 250_001),
        ("2028-02-29", NEW_YEAR + (365 + 31 + 28) * 86_400_000_000),
        ("9999-12-31", LAST),
        ("9999-12-31T23:59:59-12:00", LAST),
        ("2255-06-05T23:47:34.740991Z", LAST),
        ("2027-01-01t00:00:00z", NEW_YEAR),
        ("2027-01-01T02:00:00+0200", NEW_YEAR),
        ("2027-01-01T02:00:00+02", NEW_YEAR),
        ("2027-01-01 02:00:00 +02:00", NEW_YEAR),
        ("2026-12-31T23:59:60Z", NEW_YEAR - 1_000_000),
        ("2027-01-01T00:00:00.1234567899999Z", NEW_YEAR + 123_456),
    ] {
        assert_eq!(parse(written), Ok(UnixMicros(micros)), "{written}");
    }
}

#[test]
fn what_is_no_moment_is_refused() {
    for written in [
        "",
        "tomorrow",
        "2027",
        "2027-13-01",
        "2027-02-29",
        "2027-01-01T25:00:00Z",
        "01.01.2027",
        "1e9",
        "20270101",
        "2027-W01-1",
        "2027-01-01T08:30Z",
        "2027-01-01T08:30:00,5Z",
        "2027-01-01T08:30:00[Europe/Berlin]",
        "2027-01-01T08:30:00+24:00",
        "2027 -01-01T08:30:00Z",
        "2027-01-01T08:30:61Z",
    ] {
        assert!(parse(written).is_err(), "{written}");
    }
    for written in ["1969-12-31", "1969-12-31T23:59:59.9999999Z", "1970-01-01T00:00:00+00:01"] {
        assert_eq!(parse(written), Err("it is before 1970"), "{written}");
    }
}

#[test]
fn a_moment_that_is_written_is_read_back() {
    for micros in [0, 1, NEW_YEAR, NEW_YEAR + 1_500_000, LAST] {
        assert_eq!(parse(&write(UnixMicros(micros))), Ok(UnixMicros(micros)));
    }
    for (micros, written) in [
        (NEW_YEAR, "2027-01-01T00:00:00Z"),
        (NEW_YEAR + 250_000, "2027-01-01T00:00:00.250Z"),
        (NEW_YEAR + 250_100, "2027-01-01T00:00:00.250100Z"),
        (u64::MAX, "9999-12-30T22:00:00.999999Z"),
    ] {
        assert_eq!(write(UnixMicros(micros)), written);
    }
}

#[test]
fn a_distance_is_told_in_its_largest_unit() {
    let now = UnixMicros(1_800_000_000_000_000);
    let after = |micros: u64| distance(UnixMicros(now.0 + micros), now);
    let before = |micros: u64| distance(UnixMicros(now.0 - micros), now);
    const SECOND: u64 = 1_000_000;
    for (seconds, words) in
        [(2, "2 s"), (60, "1 min"), (58, "58 s"), (90, "90 s"), (119, "2 min"), (5_400, "90 min"), (7_200, "2 h")]
    {
        assert_eq!(after(seconds * SECOND), format!("in {words}"));
        assert_eq!(before(seconds * SECOND), format!("{words} ago"));
    }
    // What was set to last 4 hours, a moment ago.
    assert_eq!(after(14_400 * SECOND - 20_000), "in 4 h");
    assert_eq!((after(36 * 3_600 * SECOND), after(7 * 86_400 * SECOND)), ("in 36 h".to_owned(), "in 7 d".to_owned()));
    assert_eq!((after(0), after(999_999), before(999_999)), ("now".to_owned(), "now".to_owned(), "now".to_owned()));
    assert_eq!([before(1_092_000), after(1_600_000)], ["1 s ago", "in 2 s"], "to the second");
    // No overflow at the end of time.
    assert!(distance(UnixMicros(u64::MAX), UnixMicros(0)).ends_with(" d"));
}

#[test]
fn a_length_of_time_is_rounded_and_never_a_long_fraction() {
    for (micros, words) in
        [(9_984_938_u64 / 1_000, "10 ms"), (1, "1 µs"), (0, "0 µs"), (1_000_000, "1 s"), (1_500, "1500 µs")]
    {
        assert_eq!(length_in_words(micros), words);
    }
}
