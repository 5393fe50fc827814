//! A request that no single script can decide, decided part by part. Parts in several places are asked at the same time
//! where the decider allows it, phase by phase; otherwise one after the other, in an order that is the same for all
//! replicas. After a denial the rest is asked as part of a denied request, and what was charged is given back, as it is
//! where a part fails or the caller goes away. It never admits too much; until a refund arrives it counts too much, so two
//! requests that ask at the same time for the last hits of two places may both be denied. It knows neither Redis nor
//! connections: whoever has the counters says where each is, and sends.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use smallvec::SmallVec;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::counter_check::{CounterCheck, Gate, Role, denied};
use super::readings::Readings;
use super::sub_requests::{Charge, DecisionPhase, REFUND_PATIENCE, SubRequest, sub_requests};
use crate::limit::{Cost, Reading, UnixMicros};

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

    /// Decides a part in one step: a reading for each ask. `is_denied` says that another part has denied the request
    /// already, so that only those asks are charged that count denied hits.
    fn decide(
        &self,
        place: Self::Place,
        checks: SmallVec<[CounterCheck<'_>; 4]>,
        gate: Gate,
        is_denied: bool,
    ) -> impl Future<Output = Result<Readings, Self::Failure>> + Send;

    /// The readings of a part that is known to be denied, without asking; `None` if it must be asked.
    fn known_denial(
        &self,
        place: Self::Place,
        checks: &SmallVec<[CounterCheck<'_>; 4]>,
        gate: Gate,
    ) -> Option<Readings>;

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
    readings: Vec<Option<(Reading, UnixMicros)>>,
    charged: Vec<Charge>,
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
            readings: vec![None; checks.len()],
            charged: Vec::new(),
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
        if self.gate.never_deny {
            return;
        }
        let enforced = parts.iter().take_while(|part| part.phase == DecisionPhase::Enforced).enumerate();
        let known = enforced.filter_map(|(nth, part)| {
            let (checks, gate) = self.asked(part);
            Some((nth, self.decider.known_denial(part.place, &checks, gate)?))
        });
        let Some((nth, readings)) = { known }.next() else { return };
        let part = parts.remove(nth);
        self.is_denied = self.note(&part, Instant::now(), &readings);
    }

    /// Asks several parts at once. All are waited for, because what they charge is to be given back if one fails; each is
    /// noted when it is answered, because the caller may go away before the last one is.
    async fn take_all(&mut self, parts: &[&SubRequest<P::Place>]) -> Result<(), P::Failure> {
        let begun = Instant::now();
        let (mut denies, mut failed) = (false, Vec::new());
        let mut asked: FuturesUnordered<_> = parts
            .iter()
            .map(|part| {
                let answer = self.ask(part);
                async move { (*part, answer.await) }
            })
            .collect();
        while let Some((part, answer)) = asked.next().await {
            match answer {
                Ok(readings) => denies |= self.note(part, begun, &readings),
                Err(failure) => failed.push((part, failure)),
            }
        }
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
        let readings = self.ask(part).await?;
        if self.note(part, begun, &readings) && !self.is_denied {
            self.deny().await;
        }
        Ok(())
    }

    /// The checks of a part, and the gate that it is asked with.
    fn asked(&self, part: &SubRequest<P::Place>) -> (SmallVec<[CounterCheck<'a>; 4]>, Gate) {
        // Whether the quotas deny is decided over all sub-requests; here each quota is charged if it admits.
        (part.checks.iter().map(|&nth| self.checks[nth]).collect(), Gate { quota_open: true, ..self.gate })
    }

    fn ask(
        &self,
        part: &SubRequest<P::Place>,
    ) -> impl Future<Output = Result<Readings, P::Failure>> + Send + use<'a, P> {
        let (checks, gate) = self.asked(part);
        let (decider, place, is_denied) = (self.decider, part.place, self.is_denied);
        async move { decider.decide(place, checks, gate, is_denied).await }
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
        let charges = self.charged.extract_if(.., |charge| is_given_back(checks[charge.nth].cost));
        let charges = charges.filter(|charge| charge.counts(&checks[charge.nth]));
        charges.map(|Charge { nth, at, .. }| (nth, decider.refund(nth, at, until))).collect()
    }
}

impl<P: PartDecider> Drop for PartwiseDecision<'_, P> {
    /// A sub-request failed, or the caller has gone: the request is not decided, so what it charged is given back.
    fn drop(&mut self) {
        self.give_back(|_| true);
    }
}
