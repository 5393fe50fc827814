use super::*;
use crate::limit::Entry;

const LINE: &str = r#"{"v":1,"sample":"1%","by":"user","replica":"pod-1","t":1764361076.123456,"domain":"api",
"descriptors":[{"entries":[{"key":"user","value":"al\"ice \u00e9"},{"key":"path","value":"/a"}],
"limits":[{"limit_id":"api/user#hourly","code":"OVER_LIMIT","requests":100,"window":3600,"remaining":0,"reset":12.5}],
"hits":2},{"entries":[{"key":"host"}],"limit":{"requests_per_unit":3,"unit":"hour"}}],"descriptors_left_out":2,"hits":3,"origin":"api","code":"OVER_LIMIT","limit_id":"api/user#hourly"}"#;

fn told(line: &str) -> Result<Recorded, String> {
    let mut recorded = Recorded::default();
    read(line.as_bytes(), &mut recorded).map(|()| recorded)
}

#[test]
fn a_line_of_the_decision_log_is_the_request_that_it_was() {
    let recorded = told(LINE).expect("it is a line");
    let request = recorded.request();
    assert_eq!((recorded.at, request.domain, request.hits), (UnixMicros(1_764_361_076_123_456), "api", 3));
    assert_eq!(request.origin, Origin::Api);
    let entries = [Entry { key: "user", value: "al\"ice é" }, Entry { key: "path", value: "/a" }];
    assert_eq!((&*request.descriptors[0].entries, request.descriptors[0].hits), (&entries[..], Some(2)));
    let entries = [Entry { key: "host", value: "" }];
    assert_eq!((&*request.descriptors[1].entries, request.descriptors[1].hits), (&entries[..], None));
    assert_eq!([0, 1].map(|nth| request.descriptors[nth].limit), [None, Some((3, Unit::Hour))]);
    assert!(recorded.is_incomplete);
    assert_eq!((recorded.code, recorded.limit_id()), (Some(Code::OverLimit), Some("api/user#hourly")));
    assert_eq!((recorded.sample, recorded.by()), (Sample::Share(100), Some("user")));
}

#[test]
fn the_next_line_has_nothing_of_the_one_before() {
    let mut recorded = told(LINE).expect("it is a line");
    let short = r#"{"t":1,"domain":"x","descriptors":[{"entries":[{"key":"k","value":"v"}]}]}"#;
    read(short.as_bytes(), &mut recorded).expect("it is a line");
    let request = recorded.request();
    assert_eq!((request.hits, request.origin, request.descriptors.len()), (1, Origin::Envoy, 1));
    assert_eq!((recorded.code, recorded.limit_id(), recorded.by()), (None, None, None));
    assert_eq!((recorded.sample, recorded.at), (Sample::Unsaid, UnixMicros(1_000_000)));
}

/// Every microsecond that a log may have is the same again.
#[test]
fn a_time_is_read_to_the_microsecond() {
    for step in 0..200_000u64 {
        let at = 1_764_361_076_000_000 + step * 7_919;
        let seconds: f64 = format!("{}.{:06}", at / 1_000_000, at % 1_000_000).parse().expect("a number");
        assert_eq!(moment(seconds), Some(UnixMicros(at)));
    }
}

#[test]
fn what_is_wrong_with_a_line_is_said() {
    for (line, what) in [
        ("{", "this is no JSON: EOF while parsing an object at column 1"),
        ("nonsense", "this is no JSON: expected ident at column 2"),
        (r#"{"t":1} x"#, "there is no `domain`"),
        ("[]", "invalid type: sequence, expected an object with `t`, `domain` and `descriptors`"),
        (r#"{"domain":"a","descriptors":[]}"#, "there is no `t`"),
        (r#"{"t":1,"domain":"a"}"#, "there is no `descriptors`"),
        (r#"{"t":"now","domain":"a"}"#, "invalid type: string \"now\", expected f64"),
        (r#"{"t":-1,"domain":"a"}"#, "`t` is no time in seconds since 1970: -1"),
        (r#"{"t":1764361076123,"domain":"a"}"#, "`t` is no time in seconds since 1970: 1764361076123"),
        (r#"{"t":1,"domain":"a","descriptors":[{"entries":[{"value":"x"}]}]}"#, "an entry has no `key`"),
        (r#"{"sample":"some"}"#, "`sample` is `some`: it must be `all`, `denied` or a share such as `1%`"),
    ] {
        assert_eq!(told(line).expect_err(line), what, "{line}");
    }
}
