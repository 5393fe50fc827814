//! Traces: which requests are followed, what is said of them, and when it is over. Knows neither what a request asks
//! nor how a span reaches its collector; where nothing is followed nothing is formatted, allocated or read.
//!
//! A request that is followed carries a [`Here`] in its task, so that the rooms it passes need no word of tracing in
//! their signatures.

mod context;
mod export;
mod otlp;
mod sample;
mod send;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Instant};

use http::HeaderMap;
use parking_lot::Mutex;

pub use self::{
    context::Propagators,
    export::{Counts, Exporter},
    sample::Sampler,
    send::{Destination, Protocol},
};
use self::{
    context::{Parent, Sampled},
    export::Outbox,
};
use crate::clock;

/// What is followed, and how it is told.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    pub sampler: Sampler,
    pub propagators: Propagators,
    /// What every span says of this process.
    pub resource: Vec<(String, String)>,
    pub destination: Destination,
    /// Spans that may wait; more are dropped, and counted.
    pub queue_max: usize,
    /// Spans in one message.
    pub batch_max: usize,
    /// Between one message and the next, unless a batch is full.
    pub delay: std::time::Duration,
    /// Longer texts are cut.
    pub text_bytes_max: usize,
}

/// Follows requests. One for the process.
pub struct Tracer {
    sampler: Sampler,
    propagators: Propagators,
    text_bytes_max: usize,
    outbox: Arc<Outbox>,
}

/// What the spans of one request share.
struct Trace {
    tracer: Arc<Tracer>,
    id: u128,
    /// The caller's `tracestate`, handed on as it came.
    state: String,
    /// One moment on both clocks: spans are told in wall time and measured by the steady clock.
    began: (u64, Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Int(i64),
}

type Attributes = Vec<(&'static str, Value)>;

/// A part of a request's way. Told when it is dropped, so that one that is cut off is told too.
pub struct Span {
    trace: Arc<Trace>,
    id: u64,
    /// 0: none.
    parent: u64,
    is_parent_remote: bool,
    name: &'static str,
    kind: Kind,
    began: Instant,
    attributes: Attributes,
    error: Option<String>,
}

/// Where in a trace a task is. Cheap to clone.
#[derive(Clone)]
pub struct Here {
    trace: Arc<Trace>,
    /// The span that others belong to.
    span: u64,
    /// That of the question to the store, once there is one: its id is known before it is told.
    store: u64,
    notes: Arc<Mutex<Attributes>>,
}

tokio::task_local! {
    static HERE: Here;
}

/// Where this task is, if its request is followed.
pub fn here() -> Option<Here> {
    HERE.try_with(Here::clone).ok()
}

/// Whether this task's request is followed.
pub fn is_followed() -> bool {
    HERE.try_with(|_| ()).is_ok()
}

impl Tracer {
    pub fn new(settings: &TraceSettings) -> (Arc<Tracer>, Exporter) {
        let outbox = Arc::new(Outbox::new(settings.queue_max, settings.batch_max));
        let tracer = Tracer {
            sampler: settings.sampler,
            propagators: settings.propagators,
            text_bytes_max: settings.text_bytes_max,
            outbox: Arc::clone(&outbox),
        };
        (Arc::new(tracer), Exporter::new(outbox, settings))
    }

    /// The span of a request with these headers, if it is to be followed.
    pub fn begin(self: &Arc<Tracer>, headers: &HeaderMap, name: &'static str) -> Option<Span> {
        let parent = self.propagators.read(headers);
        let new_id = || rand::random::<u128>().max(1);
        let (id, parent) = match parent {
            None => {
                let id = new_id();
                self.sampler.follows(None, id).then_some((id, None))?
            }
            Some(Sampled::Without(decision)) => {
                let id = new_id();
                self.sampler.follows(decision, id).then_some((id, None))?
            }
            Some(Sampled::By(parent)) => {
                self.sampler.follows(parent.sampled, parent.trace_id).then_some((parent.trace_id, Some(parent)))?
            }
        };
        let began = clock::instant();
        let state = parent.as_ref().map_or_else(String::new, |parent| context::state(parent, headers));
        let parent = parent.map_or(0, |Parent { span_id, .. }| span_id);
        let trace = Trace { tracer: Arc::clone(self), id, state, began: (clock::now().0 * 1_000, began) };
        let mut span = Span::new(Arc::new(trace), new_span_id(), parent, name, Kind::Server, began);
        span.is_parent_remote = parent != 0;
        Some(span)
    }

    pub fn counts(&self) -> &Counts {
        self.outbox.counts()
    }
}

impl Trace {
    /// Nanoseconds since 1970.
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
    fn new(trace: Arc<Trace>, id: u64, parent: u64, name: &'static str, kind: Kind, began: Instant) -> Span {
        let attributes = Attributes::new();
        Span { trace, id, parent, is_parent_remote: false, name, kind, began, attributes, error: None }
    }

    /// A part of this one, from now on.
    pub fn child(&self, name: &'static str, kind: Kind) -> Span {
        Span::new(Arc::clone(&self.trace), new_span_id(), self.id, name, kind, clock::instant())
    }

    pub fn set_int(&mut self, key: &'static str, value: i64) {
        self.attributes.push((key, Value::Int(value)));
    }

    pub fn set_text(&mut self, key: &'static str, value: impl Into<String>) {
        let mut value = value.into();
        cut(&mut value, self.text_bytes_max());
        self.attributes.push((key, Value::Text(value)));
    }

    /// How long a text may be: whoever writes a longer one writes for nothing.
    pub fn text_bytes_max(&self) -> usize {
        self.trace.tracer.text_bytes_max
    }

    /// It didn't come out well.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.error = Some(why.into());
    }

    /// Does `work` in this span: spans that are told meanwhile are its parts, and notes are its attributes.
    pub async fn around<T>(&mut self, work: impl Future<Output = T>) -> T {
        let notes = Arc::default();
        let (trace, notes_of) = (Arc::clone(&self.trace), Arc::clone(&notes));
        let done = HERE.scope(Here { trace, span: self.id, store: new_span_id(), notes }, work).await;
        self.attributes.append(&mut notes_of.lock());
        done
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let finished = Finished {
            trace: Arc::clone(&self.trace),
            id: self.id,
            parent: self.parent,
            is_parent_remote: self.is_parent_remote,
            name: self.name,
            kind: self.kind,
            began: self.began,
            ended: clock::instant(),
            attributes: std::mem::take(&mut self.attributes),
            error: self.error.take(),
        };
        self.trace.tracer.outbox.put(finished);
    }
}

impl Here {
    /// An attribute of the span that the task is in.
    pub fn note_text(&self, key: &'static str, value: &str) {
        self.notes.lock().push((key, Value::Text(value.to_owned())));
    }

    pub fn note_int(&self, key: &'static str, value: i64) {
        self.notes.lock().push((key, Value::Int(value)));
    }

    /// The question to the store, which began then and is answered now.
    pub fn store_asked(&self, name: &'static str, began: Instant) -> Span {
        Span::new(Arc::clone(&self.trace), self.store, self.span, name, Kind::Client, began)
    }

    /// A part of the question to the store, which began then and is over now.
    pub fn store_part(&self, name: &'static str, began: Instant) -> Span {
        Span::new(Arc::clone(&self.trace), new_span_id(), self.store, name, Kind::Client, began)
    }
}

/// A span that is over.
struct Finished {
    trace: Arc<Trace>,
    id: u64,
    parent: u64,
    is_parent_remote: bool,
    name: &'static str,
    kind: Kind,
    began: Instant,
    ended: Instant,
    attributes: Attributes,
    error: Option<String>,
}

/// At a character's end.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
}
