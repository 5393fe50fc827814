//! A request that no single script can decide, because its counters are in several Redis or too many, as the parts that one
//! can: what the two ways of going through them (over two Redis, over the lanes of one) share. Asks nobody.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Ask, Role};
use crate::{
    algorithm::charged_at,
    limit::{COUNTERS_MAX, Reading, UnixMicros},
};

/// A refund may arrive after the answer has left; without it the counters would stay too high for a window.
pub(super) const REFUND_PATIENCE: Duration = Duration::from_millis(250);

/// Those whose refusal denies come first, so that there is little to give back; then the quotas, which deny only
/// together; last what never denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Enforced,
    Quota,
    Rest,
}

impl Phase {
    pub(super) const ALL: [Phase; 3] = [Phase::Enforced, Phase::Quota, Phase::Rest];

    fn of(ask: &Ask<'_>) -> Phase {
        match ask.role {
            Role::Quota => Phase::Quota,
            // A refund of a denied request doesn't happen, so it waits for the verdict.
            Role::Enforced if ask.cost.hits >= 0 => Phase::Enforced,
            Role::Enforced | Role::Shadow => Phase::Rest,
        }
    }
}

/// What one script decides: asks of one phase in one place, at most [`COUNTERS_MAX`].
#[derive(Debug)]
pub(super) struct Part<P> {
    pub phase: Phase,
    pub place: P,
    pub asks: SmallVec<[usize; 4]>,
}

/// The parts of a request in the order in which they are asked, which is the same for all replicas. `one_by_one` keeps even
/// the asks of one place apart.
pub(super) fn parts<P: Copy + Ord>(asks: &[Ask<'_>], place: impl Fn(usize) -> P, one_by_one: bool) -> Vec<Part<P>> {
    let mut placed: SmallVec<[(Phase, P, usize); 8]> =
        asks.iter().enumerate().map(|(nth, ask)| (Phase::of(ask), place(nth), nth)).collect();
    placed.sort_unstable();
    let same_part = placed.chunk_by(|one, other| !one_by_one && (one.0, one.1) == (other.0, other.1));
    let parts = same_part.flat_map(|part| part.chunks(COUNTERS_MAX)).map(|part| {
        let (phase, place, _) = part[0];
        Part { phase, place, asks: part.iter().map(|(.., nth)| *nth).collect() }
    });
    parts.collect()
}

/// What an ask charged, since when by the clock here and as of when by that of its Redis.
pub(super) struct Charge {
    pub nth: usize,
    begun: Instant,
    pub at: UnixMicros,
}

impl Charge {
    /// Of the `nth` ask, whose part was sent at `begun` and answered at `now` of its Redis; `None` if it charged nothing.
    /// `admits` is whether its part was not denied.
    pub(super) fn of(
        (nth, ask): (usize, &Ask<'_>),
        reading: &Reading,
        (begun, now): (Instant, UnixMicros),
        admits: bool,
    ) -> Option<Charge> {
        let is_charged = ask.cost.hits > 0 && (ask.cost.charge_denied || (reading.admitted && admits));
        let at = if reading.admitted { charged_at(&ask.limit, reading, now) } else { now };
        is_charged.then_some(Charge { nth, begun, at })
    }

    /// Whether there is something to give back: what was charged a window ago counts no more, and of a bucket a refund would
    /// take others' hits.
    pub(super) fn counts(&self, ask: &Ask<'_>) -> bool {
        self.begun.elapsed() < ask.limit.window.as_duration()
    }
}
