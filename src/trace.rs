//! Traces: which requests are sampled, the attributes of their spans, and when a span ends. It knows neither requests nor
//! how a span reaches the collector. For a request that isn't sampled, nothing is formatted, allocated or read.
//!
//! A sampled request has a [`TraceContext`] in its task, so that functions need no argument for tracing.

mod context;
mod export;
mod message;
mod sample;
mod send;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Instant};

use http::HeaderMap;
use parking_lot::Mutex;

pub use self::{
    context::Propagators,
    export::{Exporter, UnmatchedCounts},
    sample::Sampler,
    send::{Destination, OtlpProtocol},
};
use self::{
    context::{CallerTrace, ParentSpan},
    export::SpanQueue,
};
use crate::clock;

/// Which requests are sampled, and how spans are sent.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    pub sampler: Sampler,
    pub propagators: Propagators,
    /// Attributes of this process, which every span has.
    pub resource: Vec<(String, String)>,
    pub destination: Destination,
    /// Number of spans that may wait; further ones are dropped, and counted.
    pub queue_max: usize,
    /// Number of spans in one message.
    pub batch_max: usize,
    /// Time between one message and the next, unless a batch is full.
    pub delay: std::time::Duration,
    /// Longest text in bytes; longer ones are cut.
    pub text_bytes_max: usize,
}

/// Makes the traces of sampled requests. There is one in the process.
pub struct Tracer {
    sampler: Sampler,
    propagators: Propagators,
    text_bytes_max: usize,
    queue: Arc<SpanQueue>,
}

/// What the spans of one request share.
struct Trace {
    tracer: Arc<Tracer>,
    id: u128,
    /// The caller's `tracestate`, passed on as it came.
    state: String,
    /// One moment by both clocks: spans have wall time, and are measured by the steady clock.
    began: (u64, Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    Internal,
    Server,
    Client,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    Text(String),
    Int(i64),
}

type Attributes = Vec<(&'static str, AttributeValue)>;

/// A span: a part of a request's work. It is sent when it is dropped, so that one that is cut short is sent too.
pub struct Span {
    record: Record,
}

/// The fields of a span, as they are sent to the collector.
struct Record {
    trace: Arc<Trace>,
    id: u64,
    /// Id of the parent span; 0 if there is none.
    parent: u64,
    is_parent_remote: bool,
    name: &'static str,
    kind: SpanKind,
    began: Instant,
    /// `began` until it is over.
    ended: Instant,
    attributes: Attributes,
    error: Option<String>,
}

/// The current trace context of a task. Cheap to clone.
#[derive(Clone)]
pub struct TraceContext {
    trace: Arc<Trace>,
    /// Id of the span that new spans belong to.
    span: u64,
    /// Id of the span of the store's call, once there is one: it is needed before that span is sent.
    store: u64,
    notes: Arc<Mutex<Attributes>>,
}

tokio::task_local! {
    static HERE: TraceContext;
}

/// Current trace context, if the request is sampled.
pub fn current() -> Option<TraceContext> {
    HERE.try_with(TraceContext::clone).ok()
}

/// Whether this task's request is sampled.
pub fn is_sampled() -> bool {
    HERE.try_with(|_| ()).is_ok()
}

impl Tracer {
    pub fn new(settings: &TraceSettings) -> (Arc<Tracer>, Exporter) {
        let outbox = Arc::new(SpanQueue::new(settings.queue_max, settings.batch_max));
        let tracer = Tracer {
            sampler: settings.sampler,
            propagators: settings.propagators,
            text_bytes_max: settings.text_bytes_max,
            queue: Arc::clone(&outbox),
        };
        (Arc::new(tracer), Exporter::new(outbox, settings))
    }

    /// Begins the span of a request with these headers, if it is sampled.
    pub fn begin(self: &Arc<Tracer>, headers: &HeaderMap, name: &'static str) -> Option<Span> {
        let parent = self.propagators.read(headers);
        let new_id = || rand::random::<u128>().max(1);
        let (id, parent) = match parent {
            None => {
                let id = new_id();
                self.sampler.samples(None, id).then_some((id, None))?
            }
            Some(CallerTrace::Without(decision)) => {
                let id = new_id();
                self.sampler.samples(decision, id).then_some((id, None))?
            }
            Some(CallerTrace::By(parent)) => {
                self.sampler.samples(parent.sampled, parent.trace_id).then_some((parent.trace_id, Some(parent)))?
            }
        };
        let began = clock::instant();
        let state = parent.as_ref().map_or_else(String::new, |parent| context::state(parent, headers));
        let parent = parent.map_or(0, |ParentSpan { span_id, .. }| span_id);
        let trace = Trace { tracer: Arc::clone(self), id, state, began: (clock::now().0 * 1_000, began) };
        let mut span = Span::new(Arc::new(trace), new_span_id(), parent, name, SpanKind::Server, began);
        span.record.is_parent_remote = parent != 0;
        Some(span)
    }

    pub fn counts(&self) -> &UnmatchedCounts {
        self.queue.counts()
    }
}

impl Trace {
    /// An instant as nanoseconds since 1970.
    fn wall(&self, at: Instant) -> u64 {
        let (wall, steady) = self.began;
        match at.checked_duration_since(steady) {
            Some(since) => wall + since.as_nanos() as u64,
            None => wall - (steady - at).as_nanos() as u64,
        }
    }
}

fn new_span_id() -> u64 {
    rand::random::<u64>().max(1)
}

impl Span {
    fn new(trace: Arc<Trace>, id: u64, parent: u64, name: &'static str, kind: SpanKind, began: Instant) -> Span {
        let (ended, attributes) = (began, Attributes::new());
        Span {
            record: Record {
                trace,
                id,
                parent,
                is_parent_remote: false,
                name,
                kind,
                began,
                ended,
                attributes,
                error: None,
            },
        }
    }

    /// Begins a child of this span.
    pub fn child(&self, name: &'static str, kind: SpanKind) -> Span {
        Span::new(Arc::clone(&self.record.trace), new_span_id(), self.record.id, name, kind, clock::instant())
    }

    pub fn set_int(&mut self, key: &'static str, value: i64) {
        self.record.attributes.push((key, AttributeValue::Int(value)));
    }

    pub fn set_text(&mut self, key: &'static str, value: impl Into<String>) {
        let mut value = value.into();
        cut(&mut value, self.text_bytes_max());
        self.record.attributes.push((key, AttributeValue::Text(value)));
    }

    /// Longest text in bytes: longer ones are cut.
    pub fn text_bytes_max(&self) -> usize {
        self.record.trace.tracer.text_bytes_max
    }

    /// Marks the span as failed.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.record.error = Some(why.into());
    }

    /// Runs `work` in this span: spans that are made meanwhile are its children, and notes are its attributes.
    pub async fn around<T>(&mut self, work: impl Future<Output = T>) -> T {
        let notes = Arc::default();
        let (trace, notes_of) = (Arc::clone(&self.record.trace), Arc::clone(&notes));
        let done = HERE.scope(TraceContext { trace, span: self.record.id, store: new_span_id(), notes }, work).await;
        self.record.attributes.append(&mut notes_of.lock());
        done
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let over = Record {
            trace: Arc::clone(&self.record.trace),
            ended: clock::instant(),
            attributes: std::mem::take(&mut self.record.attributes),
            error: self.record.error.take(),
            ..self.record
        };
        self.record.trace.tracer.queue.put(over);
    }
}

impl TraceContext {
    /// Adds an attribute to the current span.
    pub fn note_text(&self, key: &'static str, value: &str) {
        self.notes.lock().push((key, AttributeValue::Text(value.to_owned())));
    }

    pub fn note_int(&self, key: &'static str, value: i64) {
        self.notes.lock().push((key, AttributeValue::Int(value)));
    }

    /// Adds the span of a call of the store, which began at `began` and ends now.
    pub fn store_span(&self, name: &'static str, began: Instant) -> Span {
        Span::new(Arc::clone(&self.trace), self.store, self.span, name, SpanKind::Client, began)
    }

    /// A child of the span of the store's call: it began at `began`, and ends when it is dropped.
    pub fn store_child_span(&self, name: &'static str, began: Instant) -> Span {
        Span::new(Arc::clone(&self.trace), new_span_id(), self.store, name, SpanKind::Client, began)
    }
}

/// At a character's end.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
}
