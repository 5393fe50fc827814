//! The contents of a counter, for people: the hits that count at a moment, when they came and when they leave. Each
//! algorithm reads its own state; this is the common form. It reads states, and changes none.

use super::{State, bucket, fixed, log, sliding, step};
use crate::limit::{Cost, Limit, UnixMicros};

/// Number of a log's entries that are listed. Sub-windows, of which there are at most 65, are all listed.
const ENTRIES_SHOWN: usize = 20;

/// The contents of a counter at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CounterContents {
    /// All hits that count. A whole number, except for a bucket, which drains all the time. Exact to 2^-20.
    pub hits: f64,
    /// When none of them counts any more, if no others come; `None` if there are none.
    pub until: Option<UnixMicros>,
    /// Hits that leave together, oldest first: sub-windows with hits, the fixed window, or entries of a log; none for a
    /// bucket.
    pub groups: Vec<HitGroup>,
    /// Number of a log's entries that aren't in `groups`, from the middle.
    pub omitted: usize,
}

/// Hits that leave together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HitGroup {
    pub hits: u64,
    /// The begin of their sub-window or window; for a log, when they came.
    pub since: UnixMicros,
    /// When they stop counting.
    pub until: UnixMicros,
}

/// `now` is below [`super::NOW_MAX`].
pub(super) fn contents(state: &State, limit: &Limit, now: u64) -> CounterContents {
    // A look with 0 hits returns the state as it counts: one from the future comes back shifted, as in a decision.
    let look = Cost { hits: 0, charge_denied: false };
    let (state, _) = step(limit, state.clone(), look, UnixMicros(now));
    match &state {
        State::Empty => CounterContents::default(),
        State::Sliding { .. } => CounterContents::from_groups(sliding::hit_groups(limit, state, now)),
        State::Fixed { index, count } => CounterContents::from_groups(fixed::hit_groups(limit, *index, *count, now)),
        State::Log { log, .. } => {
            CounterContents::from_groups(log::hit_groups(limit, log, now)).truncated(ENTRIES_SHOWN)
        }
        State::Bucket { level, at } => {
            let hits = bucket::units_in_use(limit, *level, *at, now) as f64 / bucket::UNIT as f64;
            let until = (hits > 0.0).then(|| UnixMicros(bucket::expires(limit, *level, *at)));
            CounterContents { hits, until, ..CounterContents::default() }
        }
    }
}

impl CounterContents {
    fn from_groups(groups: Vec<HitGroup>) -> CounterContents {
        CounterContents {
            hits: groups.iter().map(|group| group.hits).sum::<u64>() as f64,
            until: groups.last().map(|group| group.until),
            groups,
            omitted: 0,
        }
    }

    /// Lists no more than `at_most`, the oldest and the newest: the oldest show when there is room again, the newest
    /// which requests come now.
    fn truncated(mut self, at_most: usize) -> CounterContents {
        self.omitted = self.groups.len().saturating_sub(at_most);
        let oldest = at_most / 2;
        if self.omitted > 0 {
            self.groups.drain(oldest..oldest + self.omitted);
        }
        self
    }
}
