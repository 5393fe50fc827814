//! Lets the lanes of one core take turns, so that their batches are larger. A batch costs a Redis as much as some twenty
//! counters, and over several nodes each lane by itself would send batches that are as many times smaller. It knows no
//! requests.
//!
//! One lane has the turn: its batch is in flight, and the others gather. When the reply is there, the turn goes to the
//! lane that has waited longest. It is only about batches of a busy core, and nobody waits for long:
//!
//! * a lane whose last batch had fewer than [`BUSY`] requests sends at once, without a turn;
//! * so does a lane that has gathered [`ENOUGH`] counters: a larger batch isn't much cheaper;
//! * a lane waits for [`PATIENCE`] of its own round trips at most, and for no more than half the time that its requests
//!   have left. Then it takes the turn from whoever has it;
//! * a lane whose last batch wasn't answered takes no turns until one is, so that a silent node delays no other again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::lane::{Backlog, Lane};

#[cfg(test)]
mod tests;

/// Number of requests of the last batch from which a lane takes turns: it is busy, and the next batch won't be small.
const BUSY: usize = 4;

/// Weight with which a batch leaves out of turn.
pub(super) const ENOUGH: usize = 48;

/// Number of its round trips for which a lane waits at most.
const PATIENCE: u32 = 4;

/// How much a new round trip counts for in the lane's mean.
const SMOOTHING: u32 = 8;

/// Whose turn it is, and who waits for it, in the order in which they came.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    holder: Option<Arc<Lane>>,
    waiting: VecDeque<Arc<Lane>>,
}

impl State {
    fn is_held_by(&self, lane: &Arc<Lane>) -> bool {
        self.holder.as_ref().is_some_and(|holder| Arc::ptr_eq(holder, lane))
    }

    fn forget(&mut self, lane: &Arc<Lane>) {
        self.waiting.retain(|waiting| !Arc::ptr_eq(waiting, lane));
    }
}

/// One lane's part in the turns of its core.
pub(super) struct TurnTaker {
    turns: Arc<Turns>,
    lane: Arc<Lane>,
    /// Number of requests in its last batch.
    last_size: usize,
    /// The mean of its round trips; zero until there was one.
    round_trip: Duration,
    is_silent: bool,
    /// When it stops waiting for its turn, if it waits.
    until: Option<Instant>,
}

impl TurnTaker {
    pub(super) fn new(turns: Arc<Turns>, lane: Arc<Lane>) -> TurnTaker {
        TurnTaker { turns, lane, last_size: 0, round_trip: Duration::ZERO, is_silent: false, until: None }
    }

    /// Whether a batch may leave now, if none of the lane is in flight. Otherwise the lane is woken when it is its turn,
    /// and must ask again at [`TurnTaker::until`].
    pub(super) fn may_leave(&mut self, backlog: &Backlog, now: Instant) -> bool {
        let mut state = self.turns.state.lock();
        let is_free = self.is_silent || self.last_size < BUSY || backlog.is_enough;
        let is_due = self.until.is_some_and(|until| until <= now);
        let is_next = state.holder.is_none() && state.waiting.is_empty();
        if is_free || is_due || is_next || state.is_held_by(&self.lane) {
            if self.until.take().is_some() {
                state.forget(&self.lane);
            }
            if !is_free {
                state.holder = Some(self.lane.clone());
            }
            return true;
        }
        if self.until.is_none() {
            state.waiting.push_back(self.lane.clone());
            let left = backlog.earliest_deadline.map(|deadline| deadline.saturating_duration_since(now) / 2);
            let patience = self.round_trip * PATIENCE;
            self.until = Some(now + left.map_or(patience, |left| left.min(patience)));
        }
        false
    }

    /// Until when it waits for its turn, if it does.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Notes that a batch of so many requests has left.
    pub(super) fn sent(&mut self, requests: usize) {
        self.last_size = requests;
    }

    /// Notes a reply, and how long it took.
    pub(super) fn answered(&mut self, took: Duration) {
        self.is_silent = false;
        self.round_trip = match self.round_trip {
            Duration::ZERO => took,
            mean => (mean * (SMOOTHING - 1) + took) / SMOOTHING,
        };
    }

    /// Notes that nobody waits any more for a batch without a reply.
    pub(super) fn was_given_up(&mut self) {
        self.is_silent = true;
    }

    /// Waits for its turn no more, because it has nothing that it could send.
    pub(super) fn withdraw(&mut self) {
        if self.until.take().is_some() {
            self.turns.state.lock().forget(&self.lane);
        }
    }

    /// Passes the turn on, if it has it: nothing of the lane is in flight.
    pub(super) fn pass_on(&self) {
        let mut state = self.turns.state.lock();
        if !state.is_held_by(&self.lane) {
            return;
        }
        state.holder = state.waiting.pop_front();
        if let Some(next) = &state.holder {
            next.wake();
        }
    }
}

impl Drop for TurnTaker {
    fn drop(&mut self) {
        self.turns.state.lock().forget(&self.lane);
        self.pass_on();
    }
}
