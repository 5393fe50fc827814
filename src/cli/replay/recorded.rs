//! One recorded request, whatever log it comes from. It owns its text in one buffer, which the next request of the same
//! log writes over: reading a log allocates nothing for each of its lines.

use std::ops::Range;

use crate::limit::{Code, Descriptor, Entry, Origin, Request, Unit, UnixMicros};

/// Text within a [`Recorded`].
pub(super) type Span = Range<usize>;

/// Which requests a log has, as one of its lines says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sample {
    /// The log doesn't say: every one, unless all were refused.
    #[default]
    Unsaid,
    All,
    /// All requests of so many clients, in parts of [`crate::limit::PARTS`].
    Share(u16),
    /// Refused requests only.
    Denials,
}

#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) at: UnixMicros,
    text: String,
    domain: Span,
    entries: Vec<(Span, Span)>,
    descriptors: Vec<RecordedDescriptor>,
    pub(super) hits: i64,
    pub(super) origin: Origin,
    /// The answer that was given, if the log has it.
    pub(super) code: Option<Code>,
    limit_id: Option<Span>,
    pub(super) sample: Sample,
    by: Option<Span>,
    /// It had more descriptors than the log has.
    pub(super) is_incomplete: bool,
}

#[derive(Debug)]
struct RecordedDescriptor {
    entries: Range<usize>,
    hits: Option<i64>,
    limit: Option<(u32, Unit)>,
}

impl Recorded {
    /// Forgets the request, and keeps the buffers.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.descriptors.clear();
        let Recorded { text, entries, descriptors, .. } = std::mem::take(self);
        *self = Recorded { text, entries, descriptors, hits: 1, origin: Origin::Envoy, ..Recorded::default() };
    }

    /// Keeps a text, for one of the fields below.
    pub(super) fn keep(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    pub(super) fn set_domain(&mut self, domain: Span) {
        self.domain = domain;
    }

    pub(super) fn set_limit_id(&mut self, id: Span) {
        self.limit_id = Some(id);
    }

    pub(super) fn set_by(&mut self, key: Span) {
        self.by = Some(key);
    }

    /// An entry of the descriptor that [`Recorded::end_descriptor`] ends.
    pub(super) fn push_entry(&mut self, key: Span, value: Span) {
        self.entries.push((key, value));
    }

    /// Ends a descriptor, which has the entries since the last one's end, and a cost and a limit of its own if it
    /// has them.
    pub(super) fn end_descriptor(&mut self, hits: Option<i64>, limit: Option<(u32, Unit)>) {
        let start = self.descriptors.last().map_or(0, |before| before.entries.end);
        self.descriptors.push(RecordedDescriptor { entries: start..self.entries.len(), hits, limit });
    }

    /// Takes back the entries since the last descriptor's end.
    pub(super) fn drop_descriptor(&mut self) {
        self.entries.truncate(self.descriptors.last().map_or(0, |before| before.entries.end));
    }

    pub(super) fn has_descriptors(&self) -> bool {
        !self.descriptors.is_empty()
    }

    pub(super) fn domain(&self) -> &str {
        &self.text[self.domain.clone()]
    }

    /// The limit that denied the request, if the log has it.
    pub(super) fn limit_id(&self) -> Option<&str> {
        self.limit_id.clone().map(|span| &self.text[span])
    }

    /// The key of the entry by whose value clients were sampled.
    pub(super) fn by(&self) -> Option<&str> {
        self.by.clone().map(|span| &self.text[span])
    }

    /// As the service gets it.
    pub(super) fn request(&self) -> Request<'_> {
        let entry =
            |(key, value): &(Span, Span)| Entry { key: &self.text[key.clone()], value: &self.text[value.clone()] };
        let descriptor = |recorded: &RecordedDescriptor| Descriptor {
            entries: self.entries[recorded.entries.clone()].iter().map(entry).collect(),
            hits: recorded.hits,
            limit: recorded.limit,
        };
        Request {
            domain: self.domain(),
            descriptors: self.descriptors.iter().map(descriptor).collect(),
            hits: self.hits,
            caller_limit: None,
            origin: self.origin,
        }
    }
}
