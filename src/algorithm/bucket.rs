//! `token_bucket` and `leaky_bucket`: one meter that fills with hits and drains at `requests` a window, continuously; a
//! cost is admitted if it fits under `burst`. Tokens are what is free in it, so both names are one algorithm with
//! different defaults of `burst` (the limit; 1). Must not know how other algorithms count.
//!
//! The level, not the tokens, is kept: so a raised limit acts at once, as everywhere, with what was used still used.
//! It is a whole number of [`UNIT`]ths of a hit, so that sums are exact and nothing creeps; what drains is rounded
//! down, which loses at most 2^-20 hit per charged cost. Arithmetic, the same in Lua, in f64:
//! - `drained(e) = floor(e * requests * UNIT / window)`, multiplied from the left; monotone in `e`.
//! - After a refusal the cost is admitted `e` µs after the state's time, for the least `e` with `drained(e) >= need`:
//!   `need * window / (requests * UNIT)`, then moved by single µs to where that begins to hold (it is off by few).
//!
//! A denied cost that is charged puts the bucket in debt, at most one window's worth deep (`level <= burst + requests`):
//! nobody is kept out longer than about a window by hits that never passed. The same bounds what a lowered limit does.
//! On a clock that was set back, a bucket in debt holds its time less far ahead, by what the debt takes to drain.

use super::State;
use crate::limit::{Cost, Limit, Micros, Reading};

#[cfg(test)]
mod tests;

/// Units of one hit in which a bucket counts. 2^32 hits of capacity and 2^32 of debt then stay below 2^53.
pub(super) const UNIT: u64 = 1 << 20;

/// Longest wait: 142 years. A bucket that drains more slowly never does. Below 2^53, where f64 still holds single µs.
const WAIT_MAX: u64 = 1 << 52;

pub(super) fn step(limit: &Limit, state: State, cost: Cost, now: u64) -> (State, Reading) {
    let Cost { hits, charge_denied } = cost;
    let (requests, burst) = (u64::from(limit.requests), u64::from(limit.burst));
    let deepest = (burst + requests) * UNIT;
    let (mut level, mut at) = match state {
        State::Bucket { level, at } if at > now => (level, effective_time(limit, level.min(deepest), at, now)),
        State::Bucket { level, at } => (level, at),
        _ => (0, now),
    };
    let kept = if level == 0 { State::Empty } else { State::Bucket { level, at } };
    level = level.min(deepest);
    let current = at.max(now);
    let mut left = level.saturating_sub(drained(limit, current - at));

    let units = hits.unsigned_abs() * UNIT;
    let passes = hits == 0 || (requests > 0 && hits.unsigned_abs() <= burst);
    let admitted = hits < 0 || (passes && left + units <= burst * UNIT);
    let before = left;
    let state = if hits != 0 && (admitted || charge_denied) {
        at = current;
        level = if hits < 0 { left.saturating_sub(units) } else { (left + units).min(deepest) };
        left = level;
        if level == 0 { State::Empty } else { State::Bucket { level, at } }
    } else {
        kept
    };

    let counted = if admitted { left } else { before };
    let remaining = if requests == 0 { 0 } else { (burst * UNIT).saturating_sub(counted) / UNIT };
    // Time in which `need` units have drained since `at`.
    let until = |need: u64| (at + wait(limit, need)).saturating_sub(now);
    let reset = if admitted && remaining > 0 {
        if left == 0 { 0 } else { until(level) }
    } else if admitted {
        if burst == 0 || requests == 0 { limit.window.0 } else { until(level - (burst - 1) * UNIT) }
    } else if passes {
        until(level - (burst * UNIT - units))
    } else {
        limit.window.0
    };
    (state, Reading { admitted, remaining, reset: Micros(reset) })
}

/// The time that a state with time `at`, ahead of `now`, keeps: its own if that is at most a window ahead, else now;
/// but not so late that its debt, and with it the wait of any client, is more than a window from now.
fn effective_time(limit: &Limit, level: u64, at: u64, now: u64) -> u64 {
    if at > now + limit.window.0 {
        return now;
    }
    match level.saturating_sub(u64::from(limit.burst) * UNIT) {
        0 => at,
        debt => at.min((now + limit.window.0).saturating_sub(wait(limit, debt)).max(now)),
    }
}

/// How long a bucket with all its burst in use takes until none is.
#[cfg(test)]
pub(super) fn fills_in(limit: &Limit) -> u64 {
    wait(limit, u64::from(limit.burst) * UNIT)
}

pub(super) fn expires(limit: &Limit, level: u64, at: u64) -> u64 {
    let deepest = (u64::from(limit.burst) + u64::from(limit.requests)) * UNIT;
    at + wait(limit, level.min(deepest))
}

/// Units in use at `now`.
pub(super) fn units_in_use(limit: &Limit, level: u64, at: u64, now: u64) -> u64 {
    let deepest = (u64::from(limit.burst) + u64::from(limit.requests)) * UNIT;
    level.min(deepest).saturating_sub(drained(limit, now.saturating_sub(at)))
}

/// Units that drain within `elapsed` µs.
fn drained(limit: &Limit, elapsed: u64) -> u64 {
    let window = limit.window.0.max(1) as f64;
    // The cast rounds down, without the call into libm that `floor` is.
    (elapsed as f64 * f64::from(limit.requests) * UNIT as f64 / window) as u64
}

/// The shortest time in µs in which `need` units drain.
fn wait(limit: &Limit, need: u64) -> u64 {
    if limit.requests == 0 {
        return limit.window.0;
    }
    let window = limit.window.0.max(1) as f64;
    let guess = need as f64 * window / (f64::from(limit.requests) * UNIT as f64);
    if guess >= WAIT_MAX as f64 {
        return WAIT_MAX;
    }
    let mut wait = guess as u64;
    if drained(limit, wait) >= need {
        while wait > 0 && drained(limit, wait - 1) >= need {
            wait -= 1;
        }
        return wait;
    }
    while drained(limit, wait) < need {
        wait += 1;
    }
    wait
}
