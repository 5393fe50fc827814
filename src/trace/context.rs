//! Reads the caller's trace context from the headers of W3C Trace Context and of B3. Malformed headers count as absent:
//! a trace that begins here is better than one that can't be put together.

use http::HeaderMap;

/// Which forms of headers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagators {
    /// `traceparent` and `tracestate`.
    pub w3c: bool,
    /// `b3`.
    pub b3: bool,
    /// `x-b3-traceid` and so on.
    pub b3_multi: bool,
}

/// The trace context in the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallerTrace {
    /// The request is part of a trace.
    By(ParentSpan),
    /// There is no trace, but perhaps a sampling decision.
    Without(Option<bool>),
}

/// The caller's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParentSpan {
    pub trace_id: u128,
    pub span_id: u64,
    /// The caller's sampling decision; `None` leaves it to this service.
    pub sampled: Option<bool>,
    is_w3c: bool,
}

/// Longest `tracestate` in bytes, as in W3C; longer ones are dropped.
const STATE_BYTES_MAX: usize = 512;

impl Propagators {
    /// Reads the first form that is there: W3C, then B3 in one header, then in several.
    pub(super) fn read(self, headers: &HeaderMap) -> Option<CallerTrace> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let w3c = || text("traceparent").and_then(traceparent).map(CallerTrace::By);
        let b3 = || text("b3").and_then(b3);
        let several = || {
            let ids = text("x-b3-traceid").and_then(hex_trace).zip(text("x-b3-spanid").and_then(hex_span));
            let sampled = match text("x-b3-flags") {
                Some("1") => Some(true),
                _ => text("x-b3-sampled").and_then(decision),
            };
            match ids {
                Some((trace_id, span_id)) => {
                    Some(CallerTrace::By(ParentSpan { trace_id, span_id, sampled, is_w3c: false }))
                }
                None => sampled.map(|sampled| CallerTrace::Without(Some(sampled))),
            }
        };
        let w3c = self.w3c.then(w3c).flatten();
        let b3 = || self.b3.then(b3).flatten();
        w3c.or_else(b3).or_else(|| self.b3_multi.then(several).flatten())
    }
}

/// The `tracestate` of vendors, which belongs to a `traceparent`.
pub(super) fn state(parent: &ParentSpan, headers: &HeaderMap) -> String {
    if !parent.is_w3c {
        return String::new();
    }
    let all = headers.get_all("tracestate").iter().filter_map(|value| value.to_str().ok());
    let state = all.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(",");
    if state.len() > STATE_BYTES_MAX { String::new() } else { state }
}

/// Reads `00-<32 hex digits>-<16>-<2>`; a later version may have more behind that.
fn traceparent(text: &str) -> Option<ParentSpan> {
    let mut parts = text.trim().split('-');
    let version = parts.next().filter(|version| version.len() == 2 && *version != "ff").and_then(hex)?;
    let trace_id = parts.next().filter(|id| id.len() == 32).and_then(hex_trace)?;
    let span_id = parts.next().and_then(hex_span)?;
    let flags = parts.next().filter(|flags| flags.len() == 2).and_then(hex)?;
    if version == 0 && parts.next().is_some() {
        return None;
    }
    Some(ParentSpan { trace_id, span_id, sampled: Some(flags & 1 == 1), is_w3c: true })
}

/// Reads `<trace>-<span>[-<decision>[-<parent>]]`, or the decision alone.
fn b3(text: &str) -> Option<CallerTrace> {
    let mut parts = text.trim().split('-');
    let first = parts.next()?;
    let Some(span) = parts.next() else {
        return decision(first).map(|decision| CallerTrace::Without(Some(decision)));
    };
    let (trace_id, span_id) = (hex_trace(first)?, hex_span(span)?);
    let sampled = match parts.next() {
        Some(word) => Some(decision(word)?),
        None => None,
    };
    Some(CallerTrace::By(ParentSpan { trace_id, span_id, sampled, is_w3c: false }))
}

fn decision(word: &str) -> Option<bool> {
    match word {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// Reads a trace id of 32 digits, or with B3 16. Zero is none.
fn hex_trace(text: &str) -> Option<u128> {
    (text.len() == 32 || text.len() == 16).then(|| hex(text)).flatten().filter(|id| *id != 0)
}

fn hex_span(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| hex(text)).flatten().and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)
}

/// Reads hex digits without a sign, which the standard library would accept.
fn hex(text: &str) -> Option<u128> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}
