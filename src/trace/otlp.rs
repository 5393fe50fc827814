//! Spans as OpenTelemetry's protocol has them: the messages of `opentelemetry/proto/trace/v1` and its collector's
//! service, as far as they are used. Numbers are the protos'.

use prost::{Message, Oneof};

use super::{Finished, Kind, Value};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 3")]
    pub value: Option<Any>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Int(i64),
}

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

/// Sampled; and that the next bit, whether the parent is another process', means something.
const FLAGS: u32 = 0x101;
const REMOTE: u32 = 0x200;

/// One message for a batch.
pub(super) fn request(resource: &[(String, String)], batch: &[Finished]) -> ExportRequest {
    let attributes = resource.iter().map(|(key, value)| KeyValue { key: key.clone(), value: text(value.clone()) });
    let scope = Scope { name: "tollgate".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let spans = ScopeSpans { scope: Some(scope), spans: batch.iter().map(span).collect() };
    let resource = Resource { attributes: attributes.collect() };
    ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans: vec![spans] }] }
}

fn span(finished: &Finished) -> Span {
    let trace = &finished.trace;
    let attribute = |(key, value): &(&str, Value)| KeyValue { key: (*key).to_owned(), value: any(value) };
    let parent = (finished.parent != 0).then(|| finished.parent.to_be_bytes().to_vec());
    Span {
        trace_id: trace.id.to_be_bytes().to_vec(),
        span_id: finished.id.to_be_bytes().to_vec(),
        trace_state: trace.state.clone(),
        parent_span_id: parent.unwrap_or_default(),
        name: finished.name.to_owned(),
        kind: match finished.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: trace.wall(finished.began),
        end_time_unix_nano: trace.wall(finished.ended),
        attributes: finished.attributes.iter().map(attribute).collect(),
        status: finished.error.clone().map(|message| Status { message, code: ERROR }),
        flags: FLAGS | if finished.is_parent_remote { REMOTE } else { 0 },
    }
}

fn any(value: &Value) -> Option<AnyValue> {
    match value {
        Value::Text(value) => text(value.clone()),
        Value::Int(value) => Some(AnyValue { value: Some(Any::Int(*value)) }),
    }
}

fn text(text: String) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Any::Text(text)) })
}
