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
