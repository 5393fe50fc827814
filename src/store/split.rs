//! Two Redis: one for limits whose window is a second, one for all others (REDIS_PERSECOND). A request that touches both
//! is no single script's affair: its parts are decided one after the other, in an order that is the same for all
//! replicas; the first denial stops it, and what was charged is given back, as it is where a part fails or the caller
//! goes away. Never admits too much; until the refund arrives it counts too much. Knows nothing of how either Redis is
//! reached.

use smallvec::SmallVec;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::parts::{Charge, Part, Phase, REFUND_PATIENCE, parts};
use super::redis::{Mismatch, Redis};
use super::{Ask, Deadline, Gate, Readings, Role, StoreError, denied, refusing};
use crate::limit::{Cost, Limit, Reading, SECOND};

/// A handle on both Redis, cheap to clone.
#[derive(Clone)]
pub struct Split {
    pub main: Redis,
    pub per_second: Redis,
}

impl Split {
    /// As [`super::Store::apply`].
    pub async fn apply(
        &self,
        asks: &[Ask<'_>],
        gate: Gate,
        deadline: impl Into<Deadline>,
    ) -> Result<Readings, StoreError> {
        let deadline: Deadline = deadline.into();
        let per_second = asks.iter().filter(|ask| is_per_second(&ask.limit)).count();
        if per_second == 0 {
            return self.main.apply(asks, gate, deadline).await;
        }
        if per_second == asks.len() {
            return self.per_second.apply(asks, gate, deadline).await;
        }
        Course {
            split: self,
            asks,
            gate,
            // The earlier deadline, so that a later sub-request still has time.
            deadline: deadline.at,
            readings: vec![None; asks.len()],
            charged: Vec::new(),
            denied: false,
            remembered: false,
        }
        .run()
        .await
    }

    /// Whether both Redis are connected.
    pub fn is_up(&self) -> bool {
        self.main.is_up() && self.per_second.is_up()
    }

    /// How another replica makes its keys, if it makes them differently.
    pub(super) fn mismatch(&self) -> Option<Mismatch> {
        self.main.mismatch().or_else(|| self.per_second.mismatch())
    }

    /// Why an address is not used, if it leads to several servers.
    pub(super) fn refused_address(&self) -> Option<&'static str> {
        self.main.refused_address().or_else(|| self.per_second.refused_address())
    }

    /// The Redis that has a check's counter.
    pub(super) fn of(&self, ask: &Ask<'_>) -> &Redis {
        self.side(is_per_second(&ask.limit))
    }

    fn side(&self, is_per_second: bool) -> &Redis {
        if is_per_second { &self.per_second } else { &self.main }
    }
}

pub(crate) fn is_per_second(limit: &Limit) -> bool {
    limit.window == SECOND
}

/// A request that is decided in sub-requests.
struct Course<'a> {
    split: &'a Split,
    asks: &'a [Ask<'a>],
    gate: Gate,
    deadline: Instant,
    readings: Vec<Option<Reading>>,
    charged: Vec<Charge>,
    denied: bool,
    /// Whether the sub-request that denied was answered from the denial cache.
    remembered: bool,
}

impl Course<'_> {
    async fn run(mut self) -> Result<Readings, StoreError> {
        let parts = parts(self.asks, |nth| is_per_second(&self.asks[nth].limit), false);
        for phase in Phase::ALL {
            for part in parts.iter().filter(|part| part.phase == phase) {
                self.take(part).await?;
            }
            if phase == Phase::Quota && self.quotas_deny() {
                self.deny().await;
            }
        }
        self.charged.clear();
        let all =
            std::mem::take(&mut self.readings).into_iter().map(|reading| reading.expect("every ask is in a part"));
        let mut readings: Readings = all.collect();
        readings.remembered = self.remembered;
        Ok(readings)
    }

    async fn take(&mut self, part: &Part<bool>) -> Result<(), StoreError> {
        let mut asks: SmallVec<[Ask<'_>; 4]> = part.asks.iter().map(|&nth| self.asks[nth]).collect();
        if self.denied {
            asks.push(refusing(&asks[0]));
        }
        // Whether the quotas deny is decided over all sub-requests; here each quota is charged if it admits.
        let gate = Gate { quota_open: true, ..self.gate };
        let begun = Instant::now();
        let readings = self.split.side(part.place).apply(&asks, gate, self.deadline).await?;
        let refused = readings.iter().take(part.asks.len()).any(|reading| !reading.admitted);
        let denies = part.phase == Phase::Enforced && refused && !self.gate.never_deny;
        for (place, (&nth, reading)) in part.asks.iter().zip(&readings).enumerate() {
            self.readings[nth] = Some(*reading);
            let when = (begun, readings.time(place));
            self.charged.extend(Charge::of((nth, &self.asks[nth]), reading, when, !denies && !self.denied));
        }
        if denies && !self.denied {
            self.remembered = readings.remembered;
            self.deny().await;
        }
        Ok(())
    }

    fn quotas_deny(&self) -> bool {
        let answers = self.asks.iter().zip(&self.readings).filter(|(ask, _)| ask.role == Role::Quota);
        let answers = answers.map(|(ask, reading)| (ask.role, reading.is_some_and(|reading| reading.admitted)));
        !self.denied && denied(self.gate, answers)
    }

    /// Gives back what a denied request doesn't charge. The readings are then those of the counters after the refunds.
    async fn deny(&mut self) {
        self.denied = true;
        for (nth, refund) in self.give_back(|cost| !cost.charge_denied) {
            if let Ok(Ok(Some(reading))) = timeout_at(self.deadline, refund).await {
                self.readings[nth] = Some(Reading { admitted: true, ..reading });
            }
        }
    }

    /// Starts all refunds, each in a task of its own, because the caller may be gone before they are done.
    fn give_back(&mut self, is_owed: impl Fn(Cost) -> bool) -> Vec<(usize, JoinHandle<Option<Reading>>)> {
        let until = self.deadline.max(Instant::now() + REFUND_PATIENCE);
        let owed = self.charged.extract_if(.., |charge| is_owed(self.asks[charge.nth].cost));
        let begin = |Charge { nth, at, .. }: Charge| {
            let ask = &self.asks[nth];
            (nth, self.split.of(ask).give_back(ask, at, until))
        };
        owed.filter(|charge| charge.counts(&self.asks[charge.nth])).map(begin).collect()
    }
}

impl Drop for Course<'_> {
    /// A sub-request failed, or the caller has gone: the request is not decided, so what it charged is given back.
    fn drop(&mut self) {
        self.give_back(|_| true);
    }
}
