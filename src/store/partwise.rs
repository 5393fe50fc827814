//! A request that no single script can decide, decided part by part. Parts in several places are asked at the same time
//! where the decider allows it, phase by phase; otherwise one after the other, in an order that is the same for all
//! replicas. After a denial the rest is asked as part of a denied request, and what was charged is given back, as it is
//! where a part fails or the caller goes away. It never admits too much; until a refund arrives it counts too much, so two
//! requests that ask at the same time for the last hits of two places may both be denied. It knows neither Redis nor
//! connections: whoever has the counters says where each is, and sends.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::counter_check::{CounterCheck, Gate, Role, denied};
use super::readings::Readings;
use super::sub_requests::{Charge, DecisionPhase, REFUND_PATIENCE, SubRequest, sub_requests};
use crate::limit::{Cost, Reading, UnixMicros};

#[cfg(test)]
mod tests;

/// Who decides the parts of a request: the two Redis of a split store, or the lanes of one Redis.
pub(super) trait PartDecider: Sync {
    type Place: Copy + Ord + Send + Sync;
    type Failure: Send;

    /// Whether parts in several places are asked at the same time.
    const IS_CONCURRENT: bool;

    /// Where the counter of the `nth` ask is.
    fn place(&self, nth: usize) -> Self::Place;

    /// Where a smaller part asks about the counter of the `nth` check, after `place` answered that it doesn't have all
    /// counters of a part; `None` if nobody else can be asked.
    fn finer(&self, place: Self::Place, nth: usize) -> Option<Self::Place>;

    /// Decides the checks `part`, by their numbers, in one step: a reading for each of them. `is_denied` says that another
    /// part has denied the request already, so that only those checks are charged that count denied hits. Where parts are
    /// asked at the same time, the question is on its way when this returns.
    fn decide(
        &self,
        place: Self::Place,
        part: &[usize],
        gate: Gate,
        is_denied: bool,
    ) -> impl Future<Output = Result<Readings, Self::Failure>> + Send + Unpin;

    /// Whether some denial is known, so that it is worth while to look for one.
    fn knows_denials(&self) -> bool;

    /// The readings of a part that is known to be denied, without asking; `None` if it must be asked.
    fn known_denial(&self, place: Self::Place, part: &[usize], gate: Gate) -> Option<Readings>;

    /// Whether the part charged nothing because some of its counters are elsewhere.
    fn is_elsewhere(failure: &Self::Failure) -> bool;

    /// Puts the refund of what the `nth` ask charged as of `at` on its way, in a task of its own, since nobody may be there
    /// to wait for it. What the counter reads then, and when.
    fn refund(&self, nth: usize, at: UnixMicros, until: Instant) -> Refund;
}

/// A refund on its way: `None` where it failed.
pub(super) type Refund = JoinHandle<Option<(Reading, UnixMicros)>>;

/// A request on its way through its parts. Dropped before its end it charges nothing.
pub(super) struct PartwiseDecision<'a, P: PartDecider> {
    decider: &'a P,
    checks: &'a [CounterCheck<'a>],
    gate: Gate,
    /// Each part must be answered until then.
    deadline: Instant,
    /// By ask: its reading, and when that was read, by the clock of the counter's Redis.
    readings: SmallVec<[Option<(Reading, UnixMicros)>; 4]>,
    charged: SmallVec<[Charge; 4]>,
    is_denied: bool,
    /// The part that denied was answered from the denial cache.
    is_from_cache: bool,
}

impl<'a, P: PartDecider> PartwiseDecision<'a, P> {
    pub(super) fn new(
        decider: &'a P,
        (checks, gate): (&'a [CounterCheck<'a>], Gate),
        deadline: Instant,
    ) -> PartwiseDecision<'a, P> {
        PartwiseDecision {
            decider,
            checks,
            gate,
            deadline,
            readings: SmallVec::from_elem(None, checks.len()),
            charged: SmallVec::new(),
            is_denied: false,
            is_from_cache: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<Readings, P::Failure> {
        let mut parts = sub_requests(self.checks, 0..self.checks.len(), |nth| self.decider.place(nth));
        self.take_known_denial(&mut parts);
        for phase in DecisionPhase::ALL {
            let of_phase = parts.iter().filter(|part| part.phase == phase);
            let places = of_phase.clone().map(|part| part.place);
            // Parts in one place are so large that it decides one at a time.
            if P::IS_CONCURRENT && places.clone().is_sorted_by(|one, next| one < next) && places.count() > 1 {
                self.take_all(&of_phase.collect::<SmallVec<[_; 4]>>()).await?;
            } else {
                for part in of_phase {
                    self.take(part).await?;
                }
            }
            if phase == DecisionPhase::Quota && self.quotas_deny() {
                self.deny().await;
            }
        }
        self.charged.clear();
        let all = std::mem::take(&mut self.readings).into_iter();
        let mut readings = Readings::with_times(all.map(|reading| reading.expect("every ask is in a part")));
        readings.is_from_cache = self.is_from_cache;
        Ok(readings)
    }

    /// Takes the first part that is known to be denied out of all, so that the others are only read.
    fn take_known_denial(&mut self, parts: &mut Vec<SubRequest<P::Place>>) {
        if self.gate.never_deny || !self.decider.knows_denials() {
            return;
        }
        let enforced = parts.iter().take_while(|part| part.phase == DecisionPhase::Enforced).enumerate();
        let known = enforced.filter_map(|(nth, part)| {
            Some((nth, self.decider.known_denial(part.place, &part.checks, self.gate_of_parts())?))
        });
        let Some((nth, readings)) = { known }.next() else { return };
        let part = parts.remove(nth);
        self.is_denied = self.note(&part, Instant::now(), &readings);
    }

    /// Asks several parts at once. All are waited for, because what they charge is to be given back if one fails.
    async fn take_all(&mut self, parts: &[&SubRequest<P::Place>]) -> Result<(), P::Failure> {
        let begun = Instant::now();
        let (decider, gate, is_denied) = (self.decider, self.gate_of_parts(), self.is_denied);
        let answers = parts.iter().map(|part| Some(decider.decide(part.place, &part.checks, gate, is_denied)));
        let answers = answers.collect::<SmallVec<[_; 4]>>();
        let mut asked = PartsAsked { decision: self, parts, answers, begun, denies: false };
        let mut failed = Vec::new();
        for (nth, part) in parts.iter().enumerate() {
            if let Err(failure) = asked.answer(nth).await {
                failed.push((*part, failure));
            }
        }
        let denies = asked.denies;
        drop(asked);
        if denies && !self.is_denied {
            self.deny().await;
        }
        for (part, failure) in failed {
            self.take_finer(part, failure).await?;
        }
        Ok(())
    }

    async fn take(&mut self, part: &SubRequest<P::Place>) -> Result<(), P::Failure> {
        let Err(failure) = self.take_at_once(part).await else { return Ok(()) };
        self.take_finer(part, failure).await
    }

    /// Asks a part that failed in smaller ones, one after the other.
    async fn take_finer(&mut self, part: &SubRequest<P::Place>, failure: P::Failure) -> Result<(), P::Failure> {
        // Last the part that is asked next.
        let mut left = self.finer(part, failure)?;
        while let Some(part) = left.pop() {
            if let Err(failure) = self.take_at_once(&part).await {
                left.extend(self.finer(&part, failure)?);
            }
        }
        Ok(())
    }

    /// The smaller parts of one that failed, last the one to begin with; the failure itself if it is none that smaller
    /// parts would help.
    fn finer(&self, part: &SubRequest<P::Place>, failure: P::Failure) -> Result<Vec<SubRequest<P::Place>>, P::Failure> {
        let checks = part.checks.iter().copied();
        let is_last = part.checks.iter().any(|&nth| self.decider.finer(part.place, nth).is_none());
        if is_last || !P::is_elsewhere(&failure) {
            return Err(failure);
        }
        let finer = |nth| self.decider.finer(part.place, nth).unwrap_or(part.place);
        let mut parts = sub_requests(self.checks, checks, finer);
        parts.reverse();
        Ok(parts)
    }

    async fn take_at_once(&mut self, part: &SubRequest<P::Place>) -> Result<(), P::Failure> {
        let begun = Instant::now();
        let readings = self.decider.decide(part.place, &part.checks, self.gate_of_parts(), self.is_denied).await?;
        if self.note(part, begun, &readings) && !self.is_denied {
            self.deny().await;
        }
        Ok(())
    }

    /// The gate that parts are asked with: whether the quotas deny is decided over all of them, and each quota is charged
    /// if it admits.
    fn gate_of_parts(&self) -> Gate {
        Gate { quota_open: true, ..self.gate }
    }

    /// Notes the readings of a part that was asked at `begun`, and what it charged. Returns whether it denies.
    fn note(&mut self, part: &SubRequest<P::Place>, begun: Instant, readings: &Readings) -> bool {
        let refused = readings.iter().any(|reading| !reading.admitted);
        let denies = part.phase == DecisionPhase::Enforced && refused && !self.gate.never_deny;
        for (place, (&nth, reading)) in part.checks.iter().zip(readings).enumerate() {
            let at = readings.time(place);
            self.readings[nth] = Some((*reading, at));
            let check = (nth, &self.checks[nth]);
            self.charged.extend(Charge::of(check, reading, (begun, at), !denies && !self.is_denied));
        }
        if denies && !self.is_denied {
            self.is_from_cache = readings.is_from_cache;
        }
        denies
    }

    fn quotas_deny(&self) -> bool {
        let answers = self.checks.iter().zip(&self.readings).filter(|(check, _)| check.role == Role::Quota);
        let answers =
            answers.map(|(check, reading)| (check.role, reading.is_some_and(|(reading, _)| reading.admitted)));
        !self.is_denied && denied(self.gate, answers)
    }

    /// Gives back what a denied request doesn't charge. The readings are then those of the counters after the refunds.
    async fn deny(&mut self) {
        self.is_denied = true;
        for (nth, refund) in self.give_back(|cost| !cost.charge_denied) {
            if let Ok(Ok(Some((reading, at)))) = timeout_at(self.deadline, refund).await {
                self.readings[nth] = Some((Reading { admitted: true, ..reading }, at));
            }
        }
    }

    /// Puts the refunds of all charges on their way whose cost `is_given_back`.
    fn give_back(&mut self, is_given_back: impl Fn(Cost) -> bool) -> Vec<(usize, Refund)> {
        let until = self.deadline.max(Instant::now() + REFUND_PATIENCE);
        let (checks, decider) = (self.checks, self.decider);
        let (back, kept) = std::mem::take(&mut self.charged)
            .into_iter()
            .partition::<SmallVec<[Charge; 4]>, _>(|charge| is_given_back(checks[charge.nth].cost));
        self.charged = kept;
        let back = back.into_iter().filter(|charge| charge.counts(&checks[charge.nth]));
        back.map(|Charge { nth, at, .. }| (nth, decider.refund(nth, at, until))).collect()
    }
}

impl<P: PartDecider> Drop for PartwiseDecision<'_, P> {
    /// A sub-request failed, or the caller has gone: the request is not decided, so what it charged is given back.
    fn drop(&mut self) {
        self.give_back(|_| true);
    }
}

/// Parts that were asked at the same time. They are answered in their order, so that the request is woken once for each at
/// most; whatever is answered by the time this is dropped is noted then, because the caller may go away meanwhile.
struct PartsAsked<'d, 'a, P: PartDecider, A: Future<Output = Result<Readings, P::Failure>> + Unpin> {
    decision: &'d mut PartwiseDecision<'a, P>,
    parts: &'d [&'d SubRequest<P::Place>],
    /// `None` where the answer was taken.
    answers: SmallVec<[Option<A>; 4]>,
    begun: Instant,
    denies: bool,
}

impl<P: PartDecider, A: Future<Output = Result<Readings, P::Failure>> + Unpin> PartsAsked<'_, '_, P, A> {
    /// Waits for the answer to the `nth` part, and notes it.
    async fn answer(&mut self, nth: usize) -> Result<(), P::Failure> {
        std::future::poll_fn(|cx| self.poll(nth, cx)).await
    }

    fn poll(&mut self, nth: usize, cx: &mut Context<'_>) -> Poll<Result<(), P::Failure>> {
        let Some(answer) = &mut self.answers[nth] else { return Poll::Ready(Ok(())) };
        let Poll::Ready(answer) = Pin::new(answer).poll(cx) else { return Poll::Pending };
        self.answers[nth] = None;
        Poll::Ready(answer.map(|readings| {
            self.denies |= self.decision.note(self.parts[nth], self.begun, &readings);
        }))
    }
}

impl<P: PartDecider, A: Future<Output = Result<Readings, P::Failure>> + Unpin> Drop for PartsAsked<'_, '_, P, A> {
    fn drop(&mut self) {
        for nth in 0..self.parts.len() {
            // What failed, or has no answer yet, can't be given back.
            let _ = self.poll(nth, &mut Context::from_waker(Waker::noop()));
        }
    }
}
