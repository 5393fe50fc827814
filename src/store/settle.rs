//! Decides one request, all or nothing: what it charges to its counters, as pure arithmetic over their states. The
//! memory store calls it, and Lua mirrors it inside Redis. It knows no keys, no shards and no clock.

use smallvec::SmallVec;

use super::counter_check::{CounterCheck, Gate, denied};
use super::readings::Readings;
use crate::{
    algorithm::{State, admits, step},
    limit::{Cost, Reading, UnixMicros},
};

#[cfg(test)]
mod tests;

/// A cost of 0 hits, which reads a counter and changes nothing.
const PEEK: Cost = Cost { hits: 0, charge_denied: false };

/// Decides a request: checks each counter in order, and leaves in `states` what is charged. `slots[i]` is the position
/// in `states` of the counter of check `i`, and every state belongs to some check. Checks of one counter share a slot
/// and are tried one after the other.
///
/// A request that isn't denied charges each check that was admitted. A denied one charges only the checks with
/// `charge_denied`; the reading of any other check that was admitted shows the counter as it stays. Whether a check was
/// admitted is always the result of the trial, because the decision rests on it.
pub fn settle(
    checks: &[CounterCheck<'_>],
    slots: &[usize],
    states: &mut [State],
    gate: Gate,
    now: UnixMicros,
) -> Readings {
    // As many counters as checks: no check sees another's hits, so all can be tried before any is charged.
    if states.len() == checks.len() {
        settle_independent(checks, slots, states, gate, now)
    } else {
        settle_in_order(checks, slots, states, gate, now)
    }
}

/// For checks of different counters: nothing has to be restored, so nothing is copied.
fn settle_independent(
    checks: &[CounterCheck<'_>],
    slots: &[usize],
    states: &mut [State],
    gate: Gate,
    now: UnixMicros,
) -> Readings {
    let asked = || checks.iter().zip(slots);
    let admits: SmallVec<[bool; 8]> =
        asked().map(|(check, &slot)| admits(&check.limit, &states[slot], check.cost, now)).collect();
    let is_denied = denied(gate, checks.iter().zip(&admits).map(|(check, &admitted)| (check.role, admitted)));
    let settle = |((check, &slot), &admitted): ((&CounterCheck<'_>, &usize), &bool)| {
        let is_uncharged = is_denied && admitted && !check.cost.charge_denied;
        let stays = charge(check, if is_uncharged { PEEK } else { check.cost }, &mut states[slot], now);
        Reading { admitted, ..stays }
    };
    asked().zip(&admits).map(settle).collect()
}

fn settle_in_order(
    checks: &[CounterCheck<'_>],
    slots: &[usize],
    states: &mut [State],
    gate: Gate,
    now: UnixMicros,
) -> Readings {
    let before: SmallVec<[State; 4]> = states.iter().cloned().collect();
    let mut readings: Readings =
        checks.iter().zip(slots).map(|(check, &slot)| charge(check, check.cost, &mut states[slot], now)).collect();
    if !denied(gate, checks.iter().zip(&readings).map(|(check, reading)| (check.role, reading.admitted))) {
        return readings;
    }
    for (state, before) in states.iter_mut().zip(before) {
        *state = before;
    }
    for ((check, &slot), reading) in checks.iter().zip(slots).zip(&mut readings) {
        // A refused check is repeated too: a state from the future must come back to now, or the counter would refuse
        // until time gets there.
        let cost = if check.cost.charge_denied { check.cost } else { PEEK };
        let stays = charge(check, cost, &mut states[slot], now);
        if reading.admitted {
            *reading = Reading { admitted: true, ..stays };
        }
    }
    readings
}

fn charge(check: &CounterCheck<'_>, cost: Cost, state: &mut State, now: UnixMicros) -> Reading {
    let (after, reading) = step(&check.limit, std::mem::take(state), cost, now);
    *state = after;
    reading
}
