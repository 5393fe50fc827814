//! What every border does with a request once it is in the limiter's words: has it decided, bounds how many wait for the
//! store and for how long, and records how long it took and what became of it. Knows no protocol.

#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{
    clock,
    limit::Request,
    limiter::{DecideError, Decision, Limiter},
    store::{Deadline, StoreError},
};

/// What is left of the caller's time for the answer to be made and to reach it.
const ANSWER_TAKES: Duration = Duration::from_millis(5);

/// Decides requests for a border.
#[derive(Clone, Copy)]
pub(super) struct Decider<'a> {
    pub(super) limiter: &'a Limiter,
    /// For requests that wait for the store.
    pub(super) permits: &'a Permits,
    pub(super) store_timeout: Duration,
}

/// A number of places for requests that wait.
pub(crate) struct Permits {
    in_use: AtomicUsize,
    total: usize,
}

/// Of one request, until it is dropped.
pub(crate) struct Permit<'g>(&'g Permits);

impl Decider<'_> {
    /// Decides a request that `arrived`, if nothing has to be waited for; else `None`.
    pub(super) fn decide_now(self, request: &Request<'_>, arrived: Instant) -> Option<Result<Decision, DecideError>> {
        let decided = self.limiter.decide_now(request, clock::now())?;
        self.record(&decided, arrived);
        Some(decided)
    }

    /// As [`Decider::decide_now`], where the store has to be waited for: `allowed` is how long the caller waits, where it
    /// says so. What can't wait gets its limits' policies at once.
    pub(super) async fn decide_later(
        self,
        request: &Request<'_>,
        arrived: Instant,
        allowed: Option<Duration>,
    ) -> Result<Decision, DecideError> {
        let Some(_place) = self.permits.acquire() else {
            self.limiter.metrics().shed();
            return self.decide_without_store(request, StoreError::Overloaded, arrived);
        };
        let deadline = deadline(arrived, self.store_timeout, allowed);
        let decided = self.limiter.decide(request, clock::now(), deadline).await;
        self.record(&decided, arrived);
        decided
    }

    /// Answers by the limits' policies, as where the store has failed with `why`.
    pub(super) fn decide_without_store(
        self,
        request: &Request<'_>,
        why: StoreError,
        arrived: Instant,
    ) -> Result<Decision, DecideError> {
        let decided = self.limiter.decide_without_store(request, why, clock::now());
        self.record(&decided, arrived);
        decided
    }

    fn record(self, decided: &Result<Decision, DecideError>, arrived: Instant) {
        let metrics = self.limiter.metrics();
        metrics.decision.record(arrived.elapsed());
        match decided {
            Ok(_) => {}
            Err(DecideError::Store(_) | DecideError::NoRules) => metrics.failed(),
            Err(_) => metrics.invalid(),
        }
    }
}

impl Permits {
    pub(super) fn new(total: usize) -> Permits {
        Permits { in_use: AtomicUsize::new(0), total }
    }

    /// A permit, if one is free.
    pub(crate) fn acquire(&self) -> Option<Permit<'_>> {
        let permit = Permit(self);
        (self.in_use.fetch_add(1, Relaxed) < self.total).then_some(permit)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Relaxed);
    }
}

/// Until when a request that `arrived` is waited for, whose caller waits for `allowed`: to be sent for the store's timeout,
/// and once it is on its way for as long as the caller's time lets an answer still reach it, at most twice that timeout. An
/// answer by policy may admit what the counter on its way would refuse; who has the time rather waits.
fn deadline(arrived: Instant, timeout: Duration, allowed: Option<Duration>) -> Deadline {
    let at = allowed.map_or(timeout, |allowed| allowed.min(timeout));
    let sent = allowed.map_or(at, |allowed| allowed.saturating_sub(ANSWER_TAKES).min(2 * timeout).max(at));
    Deadline { at: (arrived + at).into(), sent: (arrived + sent).into() }
}
