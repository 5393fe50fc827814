//! One request over several buckets of a Cluster, or with more counters than one script takes, which no single script can
//! decide. Its parts are decided one after the other, in an order that is the same for all replicas; the first denial
//! stops it and what was charged is given back, as it is where a part fails or the caller goes away. Never admits too
//! much; until the refund arrives it counts too much. It knows lanes, not nodes.

use smallvec::SmallVec;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Inner;
use super::lane::{Answer, Failure};
use super::request::Request;
use crate::limit::{Cost, Reading, UnixMicros};
use crate::store::parts::{Charge, Part, Phase, REFUND_PATIENCE, parts};
use crate::store::{Ask, Gate, Readings, Role, denied, key};

/// A request that no single script can decide.
pub(super) struct Question<'a> {
    pub redis: &'a Inner,
    pub asks: &'a [Ask<'a>],
    /// The bucket of each check.
    pub buckets: &'a [u32],
    pub gate: Gate,
    /// As [`Request`]'s: a time that the caller passed in, in µs; 0 for Redis' own.
    pub now: u64,
    pub deadline: Instant,
}

/// A request that is decided in sub-requests.
struct Course<'a> {
    question: &'a Question<'a>,
    /// For each check its reading and when it was decided, by the clock of the counter's node.
    readings: Vec<Option<(Reading, UnixMicros)>>,
    charged: Vec<Charge>,
    denied: bool,
    /// Whether each check is sent alone, because a slot is moving.
    one_by_one: bool,
}

/// Decides a request whose checks no single script can decide. With `one_by_one` even the checks of one bucket are sent
/// alone: while its slot moves, no script may touch two counters.
pub(super) async fn decide(question: &Question<'_>, one_by_one: bool) -> Result<Readings, Failure> {
    let mut course =
        Course { question, readings: vec![None; question.asks.len()], charged: Vec::new(), denied: false, one_by_one };
    // Outside a Cluster every bucket leads to the one node.
    let place = |nth: usize| if question.redis.is_cluster() { question.buckets[nth] } else { 0 };
    let parts = parts(question.asks, place, one_by_one);
    for phase in Phase::ALL {
        for part in &parts {
            if part.phase == phase {
                course.take(part).await?;
            }
        }
        if phase == Phase::Quota && course.quotas_deny() {
            course.deny().await;
        }
    }
    course.charged.clear();
    let readings = std::mem::take(&mut course.readings);
    Ok(Readings::with_times(readings.into_iter().map(|reading| reading.expect("every ask is in a part"))))
}

impl Course<'_> {
    async fn take(&mut self, part: &Part<u32>) -> Result<(), Failure> {
        let asks: SmallVec<[Ask<'_>; 4]> = part.asks.iter().map(|&nth| self.question.asks[nth]).collect();
        // Whether the quotas deny is decided over all sub-requests; here each quota is charged if it admits.
        let gate = Gate { quota_open: true, ..self.question.gate };
        let begun = Instant::now();
        let lane = self.question.redis.lane(part.place);
        // While a slot moves, a request may have one check only, so deferred charges wait until that is over.
        let owing = if self.one_by_one { None } else { self.question.redis.owed.before(&asks) };
        let (asks, debts) = owing.map_or((asks, None), |(asks, debts)| (asks, Some(debts)));
        let request = self.request(&asks, gate, self.denied, part.place);
        let readings = match lane.queue(request, debts, self.question.deadline).await {
            Err(Failure::Split) if !self.one_by_one => return self.take_one_by_one(part).await,
            submitted => submitted?,
        };
        let refused = readings.iter().any(|reading| !reading.admitted);
        let denies = part.phase == Phase::Enforced && refused && !self.question.gate.never_deny;
        for (&nth, reading) in part.asks.iter().zip(&readings) {
            self.readings[nth] = Some((*reading, readings.at));
            let ask = (nth, &self.question.asks[nth]);
            self.charged.extend(Charge::of(ask, reading, (begun, readings.at), !denies && !self.denied));
        }
        if denies && !self.denied {
            self.deny().await;
        }
        Ok(())
    }

    /// Decides the checks one by one. Nothing was charged yet: the slot is moving, and the counters are on both nodes.
    async fn take_one_by_one(&mut self, part: &Part<u32>) -> Result<(), Failure> {
        self.one_by_one = true;
        for &nth in &part.asks {
            let part = Part { asks: SmallVec::from_slice(&[nth]), ..*part };
            Box::pin(self.take(&part)).await?;
        }
        Ok(())
    }

    fn quotas_deny(&self) -> bool {
        let answers = self.question.asks.iter().zip(&self.readings).filter(|(ask, _)| ask.role == Role::Quota);
        let answers = answers.map(|(ask, reading)| (ask.role, reading.is_some_and(|(reading, _)| reading.admitted)));
        !self.denied && denied(self.question.gate, answers)
    }

    /// Gives back what a denied request doesn't charge. The readings are then those of the counters after the refunds.
    async fn deny(&mut self) {
        self.denied = true;
        for (nth, refund) in self.give_back(|cost| !cost.charge_denied) {
            if let Ok(Ok(Ok(readings))) = tokio::time::timeout_at(self.question.deadline, refund).await {
                self.readings[nth] = Some((readings[0], readings.at));
            }
        }
    }

    /// Starts all refunds, each in a task of its own, because the caller may be gone before they are done.
    fn give_back(&mut self, is_owed: impl Fn(Cost) -> bool) -> Vec<(usize, JoinHandle<Answer>)> {
        let until = self.question.deadline.max(Instant::now() + REFUND_PATIENCE);
        let mut refunds = Vec::new();
        let owed = self.charged.extract_if(.., |charge| is_owed(self.question.asks[charge.nth].cost));
        for Charge { nth, at, .. } in owed.filter(|charge| charge.counts(&self.question.asks[charge.nth])) {
            let (ask, bucket) = (self.question.asks[nth], self.question.buckets[nth]);
            let redis = self.question.redis;
            let request = Request::undo(&ask, at, self.question.now, &redis.settings.key_prefix, bucket);
            let lane = redis.lane(bucket).clone();
            // On the store's runtime, because a request may be dropped outside of any.
            let refund = redis.tasks.spawn_on(async move { lane.refund(request, until).await }, &redis.runtime);
            refunds.push((nth, refund));
        }
        refunds
    }

    fn request(&self, asks: &[Ask<'_>], gate: Gate, is_denied: bool, place: u32) -> Request {
        let redis = self.question.redis;
        let bucket_of = |ask: &Ask<'_>| match redis.is_cluster() {
            true => place,
            false => key::bucket(&ask.key, redis.settings.buckets),
        };
        Request::new(asks, gate, is_denied, self.question.now, &redis.settings.key_prefix, bucket_of)
    }
}

impl Drop for Course<'_> {
    /// A sub-request failed, or the caller has gone: the request is not decided, so what it charged is given back.
    fn drop(&mut self) {
        self.give_back(|_| true);
    }
}
