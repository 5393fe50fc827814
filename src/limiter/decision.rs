//! What the limiter answers: one status per descriptor, one answer for all, or why there is none. Plain values.

use std::{borrow::Cow, sync::Arc};

use smallvec::SmallVec;

use crate::{
    limit::{Code, FailurePolicy, Micros, Unit},
    privacy::Privacy,
    store::StoreError,
};

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub overall: Code,
    /// The answers to the descriptors, in their order.
    pub statuses: SmallVec<[Status; 3]>,
    /// The failure policy that answered, if the store failed.
    pub failure_policy: Option<FailurePolicy>,
    /// What the decision rested on; only there if the limiter makes notes.
    pub notes: Option<Box<Notes>>,
}

/// The answer to one descriptor.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub code: Code,
    /// Whether this is a quota: if it is refused, it denies the request only if all its other quotas are refused too.
    pub quota: bool,
    /// The limit that the status is about. `None` if no limit applies, or if the store failed and the policy is `open`.
    pub limit: Option<ShownLimit>,
    /// Hits that are left; `u32::MAX` for an unlimited rule.
    pub remaining: u32,
    /// As [`Reading::reset`]; there if `limit` is.
    pub reset: Option<Micros>,
}

/// A limit as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownLimit {
    pub requests: u32,
    /// `None` if the window isn't exactly one unit.
    pub unit: Option<Unit>,
    /// The rule's or the limit's name; empty for none.
    pub name: String,
}

impl Status {
    pub(super) const FREE: Status = Status { code: Code::Ok, quota: false, limit: None, remaining: 0, reset: None };
    pub(super) const UNLIMITED: Status = Status { remaining: u32::MAX, ..Status::FREE };
}

impl Decision {
    /// The descriptor that an answer reports: the one that denied it, else the one with least left.
    pub fn reported(&self) -> Option<usize> {
        self.denier().or_else(|| self.tightest())
    }

    /// The descriptor that the headers report: the last one that denies by itself, else the first with the fewest hits
    /// remaining (reference, H2).
    pub fn tightest(&self) -> Option<usize> {
        let (mut tightest, mut least) = (None, u32::MAX);
        for (index, status) in self.statuses.iter().enumerate().filter(|(_, status)| status.limit.is_some()) {
            let denies = status.code == Code::OverLimit && !status.quota;
            if denies || status.remaining < least {
                tightest = Some(index);
                least = if denies { 0 } else { status.remaining };
            }
        }
        tightest
    }

    /// The descriptor that a denied request waits for: of those that decided, the one with the longest wait.
    pub fn denier(&self) -> Option<usize> {
        let refusing = |quota: bool| {
            let all = self.statuses.iter().enumerate();
            all.filter(move |(_, status)| status.code == Code::OverLimit && status.quota == quota)
                .max_by_key(|(_, status)| status.reset)
                .map(|(index, _)| index)
        };
        // Quotas decide together, and only where nothing else does.
        let denier = || refusing(false).or_else(|| refusing(true));
        (self.overall == Code::OverLimit).then(denier).flatten()
    }
}

/// What the decision of a request rested on, for answers that tell more than the verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Notes {
    /// The snapshot of the rules that was seen.
    pub rules_version: u64,
    /// One per descriptor, in order.
    pub descriptors: Vec<Note>,
}

/// What the status of a descriptor rested on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Note {
    /// The limit that its status tells of; none where no limit applies.
    pub limit_id: Option<Arc<str>>,
    /// Of that limit.
    pub window: Option<Micros>,
    /// The limit came with the request.
    pub requested: bool,
    /// The override that it came from.
    pub overridden: Option<NotedOverride>,
    /// The rule's, where a limit of it applies.
    pub metadata: Option<Arc<serde_json::Value>>,
}

/// What an override matches that a limit came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedOverride {
    /// As it is shown to whoever asked: `user=alice`.
    pub text: Box<str>,
    /// Its keys and values.
    pub entries: Vec<(Box<str>, Box<str>)>,
}

impl NotedOverride {
    /// As it is shown to others: what `privacy` hides is hashed.
    pub fn shown(&self, privacy: &Privacy) -> Cow<'_, str> {
        if !privacy.hides_values() {
            return Cow::Borrowed(&self.text);
        }
        let entries = self.entries.iter().map(|(key, value)| format!("{key}={}", privacy.shown(key, value)));
        Cow::Owned(entries.collect::<Vec<_>>().join(","))
    }
}

/// Why no decision was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    #[error("no rate limit configuration loaded")]
    NoRules,
    #[error("rate limit domain must not be empty")]
    EmptyDomain,
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    #[error("the request has more than {max} descriptors", max = crate::limit::DESCRIPTORS_MAX)]
    TooManyDescriptors,
    #[error("the request's descriptors have more than {max} entries", max = crate::limit::ENTRIES_MAX)]
    TooManyEntries,
    #[error(transparent)]
    Store(#[from] StoreError),
}
