//! One who watches decisions: what it wants to see, and the lines that wait to be sent to it. The number of lines is bounded
//! between two looks, and what is beyond is counted and not even written.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Decided, Refused, line::limit_id};
use crate::{
    limit::Code,
    privacy::Privacy,
    run_time::fleet::{WatchFilter, WatchedKind},
};

/// Whom lines are kept for until they are taken.
pub struct DecisionWatch {
    id: Box<str>,
    filter: WatchFilter,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<Arc<str>>,
    left_out: u64,
    /// Lines that may still be added before the next look; with fractions, so that the share of a hundredth of a line
    /// comes to a line some time.
    room: f64,
}

impl DecisionWatch {
    /// A watch that takes no line before [`DecisionWatch::take`] was called first.
    pub fn new(id: &str, filter: WatchFilter) -> DecisionWatch {
        DecisionWatch { id: id.into(), filter, waiting: Mutex::default() }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes the lines that were added, with the number of those that had no room, and makes room for `more` lines: what is
    /// left of the room before is lost, but for its fraction.
    pub fn take(&self, more: f64) -> (Vec<Arc<str>>, u64) {
        let mut waiting = self.waiting.lock();
        let carried = if waiting.room < 1.0 { waiting.room.max(0.0) } else { 0.0 };
        waiting.room = more + carried;
        (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.left_out))
    }

    /// Whether a line may be added; if not, it is counted as left out.
    pub(super) fn has_room(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.room < 1.0 {
            waiting.left_out += 1;
            return false;
        }
        waiting.room -= 1.0;
        true
    }

    pub(super) fn add(&self, line: &str) {
        self.waiting.lock().lines.push(line.into());
    }

    /// Whether it wants to see this decision.
    pub(super) fn admits(&self, decided: &Decided<'_, '_, '_>, privacy: &Privacy) -> bool {
        let WatchFilter { domains, limit, entry, only } = &self.filter;
        let request = decided.request;
        domains.as_ref().is_none_or(|domains| domains.iter().any(|domain| **domain == *request.domain))
            && only.is_none_or(|kind| is_of(kind, decided))
            && (limit.is_empty() || has_limit(decided, limit))
            && entry.as_ref().is_none_or(|(key, value)| {
                let is_it =
                    |(of, is): (&str, &str)| of == &**key && (is == &**value || *privacy.shown(of, is) == **value);
                request.descriptors.iter().flat_map(|of| &of.entries).any(|entry| is_it((entry.key, entry.value)))
            })
    }
}

fn is_of(kind: WatchedKind, decided: &Decided<'_, '_, '_>) -> bool {
    let decision = decided.outcome.map(|outcome| outcome.decision);
    match kind {
        WatchedKind::Denied => decision.is_some_and(|decision| decision.overall == Code::OverLimit),
        WatchedKind::Shadow => {
            (0..decided.plan.checks.len()).any(|index| decided.refusal(index) == Some(Refused::Shadow))
        }
        WatchedKind::Degraded => decision.is_none_or(|decision| decision.failure_policy.is_some()),
    }
}

fn has_limit(decided: &Decided<'_, '_, '_>, id: &str) -> bool {
    decided
        .plan
        .descriptors
        .iter()
        .any(|planned| (0..planned.checks().len()).any(|position| limit_id(decided, planned, position) == id))
}
