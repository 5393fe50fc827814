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
    ] {
        assert_eq!(parse(written), Ok(UnixMicros(micros)), "{written}");
    }
}

#[test]
fn what_is_no_moment_is_refused() {
    for written in ["", "tomorrow", "2027", "2027-13-01", "2027-02-29", "2027-01-01T25:00:00Z", "01.01.2027", "1e9"] {
        assert!(parse(written).is_err(), "{written}");
    }
    assert_eq!(parse("1969-12-31"), Err("it is before 1970"));
}

#[test]
fn a_moment_that_is_written_is_read_back() {
    for micros in [0, 1, NEW_YEAR, NEW_YEAR + 1_500_000, LAST] {
        assert_eq!(parse(&text(UnixMicros(micros))), Ok(UnixMicros(micros)));
    }
    assert_eq!(text(UnixMicros(NEW_YEAR)), "2027-01-01T00:00:00Z");
}
