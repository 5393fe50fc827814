//! The contents of a counter, for people: the hits that count at a moment, when they came and when they leave. Each
//! algorithm reads its own state; this is the common form. It reads states, and changes none.

use super::{State, bucket, fixed, log, sliding, step};
use crate::limit::{Cost, Limit, UnixMicros};

/// Number of a log's entries that are listed. Sub-windows, of which there are at most 65, are all listed.
const ENTRIES_TOLD: usize = 20;

/// The contents of a counter at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// All hits that count. A whole number, except for a bucket, which drains all the time. Exact to 2^-20.
    pub hits: f64,
    /// When none of them counts any more, if no others come; `None` if there are none.
    pub until: Option<UnixMicros>,
    /// Hits that leave together, oldest first: sub-windows with hits, the fixed window, or entries of a log; none for a
    /// bucket.
    pub parts: Vec<Part>,
    /// Number of a log's entries that aren't in `parts`, from the middle.
    pub left_out: usize,
}

/// Hits that leave together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub hits: u64,
    /// The begin of their sub-window or window; for a log, when they came.
    pub since: UnixMicros,
    /// When they stop counting.
    pub until: UnixMicros,
}

/// `now` is below [`super::NOW_MAX`].
pub(super) fn held(state: &State, limit: &Limit, now: u64) -> Held {
    // A look with 0 hits returns the state as it counts: one from the future comes back shifted, as in a decision.
    let look = Cost { hits: 0, charge_denied: false };
    let (state, _) = step(limit, state.clone(), look, UnixMicros(now));
    match &state {
        State::Empty => Held::default(),
        State::Sliding { .. } => Held::of(sliding::parts_held(limit, state, now)),
        State::Fixed { index, count } => Held::of(fixed::parts_held(limit, *index, *count, now)),
        State::Log { log, .. } => Held::of(log::parts_held(limit, log, now)).telling(ENTRIES_TOLD),
        State::Bucket { level, at } => {
            let hits = bucket::units_held(limit, *level, *at, now) as f64 / bucket::UNIT as f64;
            let until = (hits > 0.0).then(|| UnixMicros(bucket::expires(limit, *level, *at)));
            Held { hits, until, ..Held::default() }
        }
    }
}

impl Held {
    fn of(parts: Vec<Part>) -> Held {
        Held {
            hits: parts.iter().map(|part| part.hits).sum::<u64>() as f64,
            until: parts.last().map(|part| part.until),
            parts,
            left_out: 0,
        }
    }

    /// Lists no more than `at_most`, the oldest and the newest: the oldest show when there is room again, the newest
    /// which requests come now.
    fn telling(mut self, at_most: usize) -> Held {
        self.left_out = self.parts.len().saturating_sub(at_most);
        let oldest = at_most / 2;
        if self.left_out > 0 {
            self.parts.drain(oldest..oldest + self.left_out);
        }
        self
    }
}
