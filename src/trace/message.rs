//! A batch of spans as the message that OpenTelemetry's protocol (OTLP) sends, in bytes. Knows nothing of how it is sent.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status, span, status::StatusCode},
};
use prost::Message;

use super::{AttributeValue, Record, SpanKind};

/// One message for a batch. It is encoded once, for as many attempts to send it as there will be.
pub(super) fn encode(resource: &[(String, String)], batch: Vec<Record>) -> Bytes {
    let attributes = resource.iter().map(|(key, value)| attribute(key, AttributeValue::Text(value.clone()))).collect();
    let resource = Resource { attributes, ..Resource::default() };
    let (name, version) = ("tollgate".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let scope = InstrumentationScope { name, version, ..InstrumentationScope::default() };
    let spans = batch.into_iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource_spans = ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec().into()
}

pub(super) fn span(record: Record) -> Span {
    let trace = &record.trace;
    let parent = (record.parent != 0).then(|| record.parent.to_be_bytes().to_vec());
    // That the flag of a remote parent means something is a flag too. What isn't sampled never becomes a span.
    let remote = if record.is_parent_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    Span {
        trace_id: trace.id.to_be_bytes().to_vec(),
        span_id: record.id.to_be_bytes().to_vec(),
        trace_state: trace.state.clone(),
        parent_span_id: parent.unwrap_or_default(),
        flags: SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32 | remote,
        name: record.name.to_owned(),
        kind: match record.kind {
            SpanKind::Internal => span::SpanKind::Internal,
            SpanKind::Server => span::SpanKind::Server,
            SpanKind::Client => span::SpanKind::Client,
        }
        .into(),
        start_time_unix_nano: trace.wall(record.began),
        end_time_unix_nano: trace.wall(record.ended),
        attributes: record.attributes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
        status: record.error.map(|message| Status { message, code: StatusCode::Error.into() }),
        ..Span::default()
    }
}

/// W3C's flag of the trace context, in the lowest eight bits.
const SAMPLED: u32 = 1;

fn attribute(key: &str, value: AttributeValue) -> KeyValue {
    let value = match value {
        AttributeValue::Text(text) => any_value::Value::StringValue(text),
        AttributeValue::Int(number) => any_value::Value::IntValue(number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
