//! Two Redis: one for limits whose window is a second, one for all others (REDIS_PERSECOND). A request that touches both
//! is no single script's affair: its parts are decided one after the other, in an order that is the same for all
//! replicas; the first denial stops it, and what was charged is given back, as it is where a part fails or the caller
//! goes away. Never admits too much; until the refund arrives it counts too much. Knows nothing of how either Redis is
//! reached.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::redis::{Mismatch, Redis};
use super::{Ask, Gate, Readings, Role, StoreError, denied, look::refusing};
use crate::algorithm::charged_at;
use crate::limit::{Cost, Limit, Reading, SECOND, UnixMicros};

/// A refund may arrive after the answer's deadline; without it the counters would stay too high for a window.
const REFUND_PATIENCE: Duration = Duration::from_millis(250);

/// A handle on both, cheap to clone.
#[derive(Clone)]
pub struct Split {
    pub main: Redis,
    pub per_second: Redis,
}

/// Those whose refusal denies come first, so that there is little to give back; then the quotas, which deny only
/// together; last what never denies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Enforced,
    Quota,
    Rest,
}

/// What one script decides: the asks of one phase to one Redis.
struct Part {
    phase: Phase,
    is_per_second: bool,
    asks: SmallVec<[usize; 4]>,
}

impl Split {
    /// As [`super::Store::apply`].
    pub async fn apply(&self, asks: &[Ask<'_>], gate: Gate, deadline: Instant) -> Result<Readings, StoreError> {
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
            deadline,
            readings: vec![None; asks.len()],
            charged: Vec::new(),
            denied: false,
            remembered: false,
        }
        .run()
        .await
    }

    /// Whether both have a connection.
    pub fn is_up(&self) -> bool {
        self.main.is_up() && self.per_second.is_up()
    }

    /// How another replica makes its keys, if not as this one does.
    pub(super) fn mismatch(&self) -> Option<Mismatch> {
        self.main.mismatch().or_else(|| self.per_second.mismatch())
    }

    /// Where an ask's counter is.
    pub(super) fn of(&self, ask: &Ask<'_>) -> &Redis {
        self.side(is_per_second(&ask.limit))
    }

    fn side(&self, is_per_second: bool) -> &Redis {
        if is_per_second { &self.per_second } else { &self.main }
    }
}

pub(super) fn is_per_second(limit: &Limit) -> bool {
    limit.window == SECOND
}

/// What an ask charged, since when by the clock here and as of when by that of its Redis.
struct Charge {
    nth: usize,
    begun: Instant,
    at: UnixMicros,
}

/// A request on its way through its parts.
struct Course<'a> {
    split: &'a Split,
    asks: &'a [Ask<'a>],
    gate: Gate,
    deadline: Instant,
    readings: Vec<Option<Reading>>,
    charged: Vec<Charge>,
    denied: bool,
    /// The part that denied was remembered.
    remembered: bool,
}

impl Course<'_> {
    async fn run(mut self) -> Result<Readings, StoreError> {
        let parts = parts(self.asks);
        for phase in [Phase::Enforced, Phase::Quota, Phase::Rest] {
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

    async fn take(&mut self, part: &Part) -> Result<(), StoreError> {
        let mut asks: SmallVec<[Ask<'_>; 4]> = part.asks.iter().map(|&nth| self.asks[nth]).collect();
        if self.denied {
            asks.push(refusing(&asks[0]));
        }
        // Whether quotas deny is judged over all parts; here each is charged where it admits.
        let gate = Gate { quota_open: true, ..self.gate };
        let begun = Instant::now();
        let readings = self.split.side(part.is_per_second).apply(&asks, gate, self.deadline).await?;
        let refused = readings.iter().take(part.asks.len()).any(|reading| !reading.admitted);
        let denies = part.phase == Phase::Enforced && refused && !self.gate.never_deny;
        for (place, (&nth, reading)) in part.asks.iter().zip(&readings).enumerate() {
            self.readings[nth] = Some(*reading);
            let Ask { cost, limit, .. } = self.asks[nth];
            let is_charged = cost.charge_denied || (reading.admitted && !denies && !self.denied);
            if cost.hits > 0 && is_charged {
                let time = readings.time(place);
                let at = if reading.admitted { charged_at(&limit, reading, time) } else { time };
                self.charged.push(Charge { nth, begun, at });
            }
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

    /// Gives back what a denied request doesn't charge; the readings are those of the counters as they stay.
    async fn deny(&mut self) {
        self.denied = true;
        for (nth, refund) in self.give_back(|cost| !cost.charge_denied) {
            if let Ok(Ok(Some(reading))) = timeout_at(self.deadline, refund).await {
                self.readings[nth] = Some(Reading { admitted: true, ..reading });
            }
        }
    }

    /// Puts all refunds on their way, each in a task of its own, since nobody may be there to wait for them.
    fn give_back(&mut self, is_owed: impl Fn(Cost) -> bool) -> Vec<(usize, JoinHandle<Option<Reading>>)> {
        let until = self.deadline.max(Instant::now() + REFUND_PATIENCE);
        let owed = self.charged.extract_if(.., |charge| is_owed(self.asks[charge.nth].cost));
        let begin = |Charge { nth, begun, at }: Charge| {
            let ask = &self.asks[nth];
            // What was charged a window ago counts no more, and of a bucket a refund would take others' hits.
            let is_due = begun.elapsed() < ask.limit.window.as_duration();
            is_due.then(|| (nth, self.split.of(ask).give_back(ask, at, until)))
        };
        owed.filter_map(begin).collect()
    }
}

impl Drop for Course<'_> {
    /// A part failed, or the caller has gone: the request is not decided, so it charges nothing.
    fn drop(&mut self) {
        self.give_back(|_| true);
    }
}

fn parts(asks: &[Ask<'_>]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (nth, ask) in asks.iter().enumerate() {
        let is_per_second = is_per_second(&ask.limit);
        let phase = match ask.role {
            Role::Quota => Phase::Quota,
            // A refund of a denied request doesn't happen, so it waits for the verdict.
            Role::Enforced if ask.cost.hits >= 0 => Phase::Enforced,
            Role::Enforced | Role::Shadow => Phase::Rest,
        };
        match parts.iter_mut().find(|part| part.phase == phase && part.is_per_second == is_per_second) {
            Some(part) => part.asks.push(nth),
            None => parts.push(Part { phase, is_per_second, asks: SmallVec::from_slice(&[nth]) }),
        }
    }
    parts.sort_by_key(|part| (part.phase, part.is_per_second));
    parts
}
