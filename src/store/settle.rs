//! All or nothing: what a request charges to its counters, as pure arithmetic over their states. The memory store
//! calls it, Lua mirrors it inside Redis. It knows no keys, no shards and no clock.

use smallvec::SmallVec;

use super::{Ask, Gate, Readings, denied};
use crate::{
    algorithm::{State, step},
    limit::{Cost, Reading, UnixMicros},
};

#[cfg(test)]
mod tests;

/// A cost that changes nothing.
const LOOK: Cost = Cost { hits: 0, charge_denied: false };

/// Puts every ask to its counter, in order, and leaves in `states` what is charged. `slots[i]` is the place in `states`
/// of the counter that ask `i` is about; asks about one counter share a slot and are tried one after the other.
///
/// A request that isn't denied charges each ask that was admitted. A denied one charges only the asks that charge
/// refused hits; the reading of any other ask that was admitted is a look at the counter as it stays. Whether an ask
/// was admitted is always the answer of the trial: the verdict rests on it.
pub fn settle(asks: &[Ask<'_>], slots: &[usize], states: &mut [State], gate: Gate, now: UnixMicros) -> Readings {
    // One refused ask has nothing to take back: its step has left the state as it must stay.
    let before: SmallVec<[State; 4]> = if asks.len() > 1 { states.iter().cloned().collect() } else { SmallVec::new() };
    let mut readings: Readings =
        asks.iter().zip(slots).map(|(ask, &slot)| put(ask, ask.cost, &mut states[slot], now)).collect();
    let is_denied = denied(gate, asks.iter().zip(&readings).map(|(ask, reading)| (ask.role, reading.admitted)));
    if !is_denied || asks.len() == 1 {
        return readings;
    }
    for (state, before) in states.iter_mut().zip(before) {
        *state = before;
    }
    for ((ask, &slot), reading) in asks.iter().zip(slots).zip(&mut readings) {
        if !ask.cost.charge_denied && !reading.admitted {
            continue;
        }
        let cost = if ask.cost.charge_denied { ask.cost } else { LOOK };
        let stays = put(ask, cost, &mut states[slot], now);
        if reading.admitted {
            *reading = Reading { admitted: true, ..stays };
        }
    }
    readings
}

fn put(ask: &Ask<'_>, cost: Cost, state: &mut State, now: UnixMicros) -> Reading {
    let (after, reading) = step(&ask.limit, std::mem::take(state), cost, now);
    *state = after;
    reading
}
