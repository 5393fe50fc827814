//! `fixed_window`: one count per window, windows aligned to the epoch, as envoyproxy/ratelimit counts. Cheapest and
//! coarsest: around a window's edge twice the limit can pass. Must not know how other algorithms count.
//!
//! Arithmetic, the same in Lua: `index = floor(now / window)`, the window ends at `(index + 1) * window`.

use super::{HitGroup, State};
use crate::limit::{Cost, Limit, Micros, Reading, UnixMicros};

#[cfg(test)]
mod tests;

/// Largest count. Refused hits may be charged far past any limit, and a later look must still find the counter over its
/// limit.
const COUNT_MAX: u64 = (1 << 53) - 1;

/// Decides a cost. With `charged`, negative hits take back a charge of that time.
pub(super) fn step(limit: &Limit, state: State, cost: Cost, charged: Option<u64>, now: u64) -> (State, Reading) {
    let Cost { hits, charge_denied } = cost;
    let requests = u64::from(limit.requests);
    let now_index = now / length(limit);
    let (index, mut count) = match state {
        State::Fixed { index, count } if index > now_index + 1 => (now_index, count),
        State::Fixed { index, count } => (index, count),
        _ => (now_index, 0),
    };
    // A state that is slightly ahead keeps its time.
    let current = index.max(now_index);
    let kept = if count == 0 { State::Empty } else { State::Fixed { index, count } };
    if current > index {
        count = 0;
    }

    let admitted = hits < 0 || count + hits.unsigned_abs() <= requests;
    let before = count;
    let state = if hits != 0 && (admitted || charge_denied) {
        // A charge is taken back only while its window is the current one.
        let is_gone = charged.is_some_and(|time| time / length(limit) != current);
        let by = if is_gone { 0 } else { hits.unsigned_abs() };
        count = if hits > 0 { (count + by).min(COUNT_MAX) } else { count.saturating_sub(by) };
        if count == 0 { State::Empty } else { State::Fixed { index: current, count } }
    } else {
        kept
    };

    let remaining = requests.saturating_sub(if admitted { count } else { before });
    let never = !admitted && hits.unsigned_abs() > requests;
    let reset = if never { limit.window.0 } else { (current + 1) * length(limit) - now };
    (state, Reading { admitted, remaining, reset: Micros(reset) })
}

pub(super) fn is_ahead(limit: &Limit, index: u64, now: u64) -> bool {
    index > now / length(limit) + 1
}

pub(super) fn expires(limit: &Limit, index: u64) -> u64 {
    (index + 1).saturating_mul(length(limit))
}

/// The hits of the window, if it counts at `now`.
pub(super) fn hit_groups(limit: &Limit, index: u64, hits: u64, now: u64) -> Vec<HitGroup> {
    let since = index.saturating_mul(length(limit));
    let part = HitGroup { hits, since: UnixMicros(since), until: UnixMicros(expires(limit, index)) };
    if part.until.0 > now { vec![part] } else { Vec::new() }
}

fn length(limit: &Limit) -> u64 {
    limit.window.0.max(1)
}
