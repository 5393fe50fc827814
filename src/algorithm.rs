//! The pure step of every algorithm: `(limit, state, cost, now) → (state, reading)`. No clock, no I/O, cannot fail.

use crate::limit::{Cost, Limit, Reading, UnixMicros};

/// What a counter remembers. `Empty` is the state of a counter that was never hit, and means the same as no key at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum State {
    #[default]
    Empty,
}

/// Puts `cost` to `state` at `now`. The returned state is charged where the cost was admitted (or `charge_denied`), else as before.
pub fn step(_limit: &Limit, state: State, _cost: Cost, _now: UnixMicros) -> (State, Reading) {
    let _ = state;
    todo!()
}
