use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;

use super::*;

const ALL: Propagators = Propagators { w3c: true, b3: true, b3_multi: true };
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().expect("a header"));
    pairs.iter().map(pair).collect::<Vec<(HeaderName, HeaderValue)>>().into_iter().collect()
}

/// The trace's id and the span's, if they are said, and what the caller decided.
type Said = (Option<(u128, u64)>, Option<bool>);

fn read(pairs: &[(&'static str, &str)]) -> Option<Said> {
    match ALL.read(&headers(pairs))? {
        CallerTrace::By(parent) => Some((Some((parent.trace_id, parent.span_id)), parent.sampled)),
        CallerTrace::Without(decision) => Some((None, decision)),
    }
}

#[test]
fn a_caller_says_its_trace_in_the_headers_of_w3c_and_of_b3() {
    let ids = Some((0x4bf92f3577b34da6a3ce929d0e0e4736, 0x00f067aa0ba902b7));
    let short = Some((0xa3ce929d0e0e4736, 0x00f067aa0ba902b7));
    let (yes, no, open) = (Some(true), Some(false), None);
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let cases: &[(&[(&'static str, &str)], _)] = &[
        (&[("traceparent", &parent)], Some((ids, yes))),
        (&[("traceparent", &format!("00-{TRACE}-{SPAN}-00"))], Some((ids, no))),
        (&[("traceparent", &format!("00-{TRACE}-{SPAN}-03"))], Some((ids, yes))),
        (&[("traceparent", &format!("cc-{TRACE}-{SPAN}-01-what-comes-later"))], Some((ids, yes))),
        (&[("b3", &format!("{TRACE}-{SPAN}-1"))], Some((ids, yes))),
        (&[("b3", &format!("{TRACE}-{SPAN}-0-{SPAN}"))], Some((ids, no))),
        (&[("b3", &format!("{TRACE}-{SPAN}-d"))], Some((ids, yes))),
        (&[("b3", &format!("{TRACE}-{SPAN}"))], Some((ids, open))),
        (&[("b3", &format!("a3ce929d0e0e4736-{SPAN}-1"))], Some((short, yes))),
        (&[("b3", "0")], Some((None, no))),
        (&[("b3", "1")], Some((None, yes))),
        (&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")], Some((ids, yes))),
        (&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "0")], Some((ids, no))),
        (&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-flags", "1")], Some((ids, yes))),
        (&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)], Some((ids, open))),
        (&[("x-b3-sampled", "0")], Some((None, no))),
        // W3C first.
        (&[("b3", "0"), ("traceparent", &parent)], Some((ids, yes))),
        (&[("b3", "0"), ("traceparent", "nonsense")], Some((None, no))),
    ];
    for (pairs, expected) in cases {
        assert_eq!(read(pairs), *expected, "{pairs:?}");
    }
}

#[test]
fn headers_that_are_not_as_they_should_be_say_nothing() {
    let zero = "0".repeat(32);
    let wrong = [
        ("traceparent", String::new()),
        ("traceparent", format!("00-{TRACE}-{SPAN}")),
        ("traceparent", format!("00-{TRACE}-{SPAN}-01-more")),
        ("traceparent", format!("ff-{TRACE}-{SPAN}-01")),
        ("traceparent", format!("00-{zero}-{SPAN}-01")),
        ("traceparent", format!("00-{TRACE}-0000000000000000-01")),
        ("traceparent", format!("00-a3ce929d0e0e4736-{SPAN}-01")),
        ("traceparent", format!("00-{TRACE}-+0f067aa0ba902b7-01")),
        ("traceparent", format!("00-{TRACE}-{SPAN}-1")),
        ("b3", format!("{TRACE}-{SPAN}-2")),
        ("b3", format!("{TRACE}-")),
        ("b3", "2".to_owned()),
        ("x-b3-traceid", TRACE.to_owned()),
        ("x-b3-sampled", "maybe".to_owned()),
    ];
    for (name, value) in wrong {
        assert_eq!(read(&[(name, &value)]), None, "{name}: {value}");
    }
}

#[test]
fn headers_of_propagators_that_are_off_are_not_read() {
    let none = Propagators { w3c: false, b3: false, b3_multi: false };
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let all = headers(&[("traceparent", &parent), ("b3", "1"), ("x-b3-sampled", "1")]);
    assert_eq!(none.read(&all), None);
    assert_eq!(Propagators { b3_multi: true, ..none }.read(&all), Some(CallerTrace::Without(Some(true))));
}

#[test]
fn the_caller_decides_and_without_its_word_the_ratio_does_by_the_traces_id() {
    let follows =
        |heeds_parent, ratio, decision, id| Sampler { respects_parent: heeds_parent, ratio }.samples(decision, id);
    assert!(follows(true, 0.0, Some(true), 1) && !follows(true, 1.0, Some(false), 1));
    assert!(!follows(false, 0.0, Some(true), 1) && follows(false, 1.0, Some(false), 1));
    assert!(follows(true, 1.0, None, u128::MAX) && !follows(true, 0.0, None, 1));
    // The upper 63 bits of the lower half: below a quarter of all, and at it.
    let quarter = 1u128 << 62;
    assert!(follows(true, 0.25, None, quarter - 1) && !follows(true, 0.25, None, quarter));
    assert!(follows(true, 0.25, None, (u128::MAX << 64) | (quarter - 1)), "the upper half has no say");
}

fn settings(sampler: Sampler) -> TraceSettings {
    let destination = Destination {
        protocol: OtlpProtocol::Http,
        uri: http::Uri::from_static("http://127.0.0.1:1/v1/traces"),
        headers: HeaderMap::new(),
        timeout: std::time::Duration::from_secs(1),
        gzip: false,
        ca: None,
        identity: None,
    };
    let delay = std::time::Duration::from_secs(3_600);
    let resource = Vec::new();
    TraceSettings {
        sampler,
        propagators: ALL,
        resource,
        destination,
        queue_max: 4,
        batch_max: 4,
        delay,
        text_bytes_max: 8,
    }
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let (tracer, _exporter) = Tracer::new(&settings(Sampler { respects_parent: true, ratio: 1.0 }));
    for _ in 0..7 {
        drop(tracer.begin(&HeaderMap::new(), "a request"));
    }
    assert_eq!(tracer.counts().dropped.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[test]
fn a_request_that_is_not_followed_allocates_nothing() {
    let (tracer, _exporter) = Tracer::new(&settings(Sampler { respects_parent: true, ratio: 0.0 }));
    let parent = format!("00-{TRACE}-{SPAN}-00");
    let callers = [headers(&[]), headers(&[("traceparent", &parent), ("tracestate", "a=b")]), headers(&[("b3", "0")])];
    // The random numbers' own state comes into being once.
    tracer.begin(&callers[0], "a request");
    for caller in &callers {
        let counted = allocation_counter::measure(|| {
            assert!(tracer.begin(caller, "a request").is_none());
            assert!(current().is_none() && !is_sampled());
        });
        assert_eq!(counted.count_total, 0, "{caller:?}");
    }
}

#[test]
fn long_texts_are_cut_at_a_characters_end() {
    let (tracer, _exporter) = Tracer::new(&settings(Sampler { respects_parent: true, ratio: 1.0 }));
    let mut span = tracer.begin(&HeaderMap::new(), "a request").expect("all are followed");
    span.set_text("key", "1234567é8");
    assert_eq!(span.record.attributes, [("key", AttributeValue::Text("1234567".to_owned()))]);
}

/// The bytes that collectors get, by the field numbers of `opentelemetry/proto/trace/v1/trace.proto`.
#[test]
fn a_span_is_written_as_the_protocol_numbers_its_fields() {
    let (tracer, _exporter) = Tracer::new(&settings(Sampler { respects_parent: true, ratio: 1.0 }));
    let began = clock::instant();
    let trace = Arc::new(Trace { tracer, id: 0x0102, state: "a=b".to_owned(), began: (1_000_000, began) });
    let finished = |is_part: bool| Record {
        trace: Arc::clone(&trace),
        id: 0x0304,
        parent: if is_part { 0x0506 } else { 0 },
        is_parent_remote: is_part,
        name: "ask",
        kind: if is_part { SpanKind::Client } else { SpanKind::Server },
        began,
        ended: began + std::time::Duration::from_nanos(7),
        attributes: vec![
            ("t", AttributeValue::Text("x".to_owned())),
            ("i", AttributeValue::Int(0)),
            ("e", AttributeValue::Text(String::new())),
        ],
        error: is_part.then(|| "no".to_owned()),
    };
    let ids = [b"\x0a\x10".as_slice(), &[0; 14], b"\x01\x02\x12\x08", &[0; 6], b"\x03\x04"].concat();
    let times = [b"\x39".as_slice(), &1_000_000u64.to_le_bytes(), b"\x41", &1_000_007u64.to_le_bytes()].concat();
    let attributes =
        b"\x4a\x08\x0a\x01t\x12\x03\x0a\x01x\x4a\x07\x0a\x01i\x12\x02\x18\x00\x4a\x07\x0a\x01e\x12\x02\x0a\x00";
    let parent = [b"\x1a\x03a=b\x22\x08".as_slice(), &[0; 6], b"\x05\x06"].concat();
    let expected = [
        &ids,
        &parent,
        &b"\x2a\x03ask\x30\x03"[..],
        &times,
        attributes,
        b"\x7a\x06\x12\x02no\x18\x02\x85\x01\x01\x03\x00\x00",
    ];
    assert_eq!(message::span(finished(true)).encode_to_vec(), expected.concat());
    let expected = [&ids, &b"\x1a\x03a=b\x2a\x03ask\x30\x02"[..], &times, attributes, b"\x85\x01\x01\x01\x00\x00"];
    assert_eq!(message::span(finished(false)).encode_to_vec(), expected.concat());
}
