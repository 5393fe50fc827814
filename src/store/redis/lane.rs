//! Group commit: requests wait while a batch is on its way, and the next batch leaves with all of them as soon as it
//! is back. No timer gathers them, so an idle lane sends at once. It knows connections only as something to send
//! over, and counters only as requests.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::Links;
use super::denials::Denials;
use super::link::Link;
use super::request::Request;
use super::runner::Runner;
use super::script::Script;
use super::settings::{Address, RedisSettings};
use super::tally::Tally;
use crate::store::{Deadline, Readings, StoreError, owed::Debts};
use crate::trace;

pub(super) type Answer = Result<Readings, Failure>;

/// Why a request was not decided.
#[derive(Debug)]
pub(super) enum Failure {
    Store(StoreError),
    /// Its counters lie on two nodes for as long as their slot moves: they must be asked about one by one.
    Split,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

/// A node of a Cluster said that a bucket is at another one.
pub(super) struct Moved {
    pub bucket: u32,
    pub to: Option<Address>,
}

/// How a lane of a Cluster tells of its bucket, and finds other nodes.
pub(super) type ToGuide = (u32, mpsc::UnboundedSender<Moved>, Arc<Links>);

#[cfg(test)]
mod tests;

/// Where requests wait. Any thread may submit; one task, the runner, takes them away.
pub(super) struct Lane {
    queue: Mutex<Queue>,
    arrived: Notify,
    /// Where it sends; in a Cluster, unknown at first.
    link: ArcSwapOption<Link>,
    rerouted: Notify,
    tally: Arc<Tally>,
    waiting_max: usize,
    batch_max: usize,
}

/// A request and whoever waits for its answer. A closed `answer` is a caller who has gone.
pub(super) struct Waiting {
    pub request: Request,
    pub deadline: Deadline,
    pub since: Instant,
    /// Sent in a batch of its own, because Redis refused a batch with it.
    pub alone: bool,
    /// It was in a batch that came to Redis too late, and so leaves without newcomers, who may have less time than it.
    pub is_again: bool,
    /// How often that was by its own deadline.
    pub lates: u8,
    /// In a Cluster: the node that is taking its slot over, to be asked instead.
    pub ask: Option<Arc<Link>>,
    pub answer: Option<oneshot::Sender<Answer>>,
    /// The first asks of the request; their readings are for nobody.
    pub debts: Option<Box<Debts>>,
    /// Where its trace is, if it is followed.
    pub trace: Option<trace::Here>,
}

/// Boxed, because it is handed on several times before it is answered.
pub(super) type Waiter = Box<Waiting>;

/// The answer to a request, known at once or waited for. Dropped before the request has left, the request charges
/// nothing.
pub(super) enum Answering {
    Known(Ready<Answer>),
    Queued(oneshot::Receiver<Answer>),
}

impl Answering {
    pub(super) fn known(readings: Readings) -> Answering {
        Answering::Known(ready(Ok(readings)))
    }

    fn failed(error: StoreError) -> Answering {
        Answering::Known(ready(Err(error.into())))
    }
}

impl Future for Answering {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            Answering::Known(answer) => Pin::new(answer).poll(cx),
            // The runner answers at the deadline at the latest, and closes the queue when it ends.
            Answering::Queued(answered) => {
                Pin::new(answered).poll(cx).map(|answer| answer.unwrap_or_else(|_| Err(closing().into())))
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    /// What they take of Redis, all together.
    weight: usize,
    /// No deadline in `waiting` is sooner.
    soonest: Option<Instant>,
    /// The runner is gone, so nobody would answer.
    is_closed: bool,
}

/// What the queue holds, for the runner to judge whether another batch should leave.
#[derive(Clone, Copy)]
pub(super) struct Backlog {
    pub is_empty: bool,
    pub is_full_batch: bool,
    pub soonest: Option<Instant>,
}

impl Lane {
    /// The lane, and the future that works it off until `stop`.
    pub(super) fn new(
        link: Option<Arc<Link>>,
        guide: Option<ToGuide>,
        settings: &RedisSettings,
        script: Arc<Script>,
        tally: Arc<Tally>,
        denials: Arc<Denials>,
        stop: CancellationToken,
    ) -> (Arc<Lane>, impl Future<Output = ()> + Send + 'static) {
        let lane = Arc::new(Lane {
            queue: Mutex::default(),
            arrived: Notify::new(),
            link: ArcSwapOption::new(link),
            rerouted: Notify::new(),
            tally: tally.clone(),
            waiting_max: settings.waiting_max,
            batch_max: settings.batch_max,
        });
        let runner = Runner::new(lane.clone(), guide, script, tally, denials, settings);
        (lane, runner.run(stop))
    }

    /// Waits for the answer until `deadline`. Dropped before the request has left, it charges nothing.
    pub(super) async fn submit(&self, request: Request, deadline: Instant) -> Answer {
        self.queue(request, None, deadline).await
    }

    /// Puts a request, which begins with `debts`, where it waits for its batch. Apart from the wait, because whoever waits
    /// should not keep the request too.
    pub(super) fn queue(
        &self,
        request: Request,
        debts: Option<Box<Debts>>,
        deadline: impl Into<Deadline>,
    ) -> Answering {
        if !self.is_up() {
            self.tally.unreachable.add(1);
            return Answering::failed(StoreError::Unreachable("no connection".to_owned()));
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Box::new(Waiting {
            request,
            deadline: deadline.into(),
            since: Instant::now(),
            alone: false,
            is_again: false,
            lates: 0,
            ask: None,
            answer: Some(answer),
            debts,
            trace: trace::here(),
        });
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return Answering::failed(closing());
        }
        if queue.waiting.len() >= self.waiting_max {
            self.tally.overloaded.add(1);
            return Answering::failed(StoreError::Overloaded);
        }
        if queue.push(waiting, self.batch_max) {
            self.arrived.notify_one();
        }
        Answering::Queued(answered)
    }

    /// As [`Lane::submit`], for a request that gives back what another charged.
    pub(super) async fn refund(&self, request: Request, until: Instant) -> Answer {
        self.tally.refunds.add(1);
        let answer = self.submit(request, until).await;
        if answer.is_err() {
            self.tally.refunds_failed.add(1);
        }
        answer
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.load().as_ref().is_some_and(|link| link.is_up())
    }

    /// Where it sends now.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// From now on it sends there; to the same place too, for it may have stopped sending until it hears.
    pub(super) fn reroute(&self, link: Arc<Link>) {
        self.link.store(Some(link));
        self.rerouted.notify_one();
    }

    pub(super) async fn rerouted(&self) {
        self.rerouted.notified().await;
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(super) fn backlog(&self) -> Backlog {
        let queue = self.queue.lock();
        Backlog {
            is_empty: queue.waiting.is_empty(),
            is_full_batch: queue.weight >= self.batch_max,
            soonest: queue.soonest,
        }
    }

    /// The next batch: as many as fit, of those that somebody still waits for. Redis does nothing else while a script runs,
    /// so what it takes is bounded, and not how many counters there are.
    pub(super) fn take_batch(&self, now: Instant) -> Vec<Waiter> {
        let mut weight = 0;
        let mut queue = self.queue.lock();
        let mut batch: Vec<Waiter> = Vec::with_capacity(queue.waiting.len().min(self.batch_max));
        while let Some(next) = queue.waiting.front() {
            let fits = match batch.first() {
                None => true,
                Some(first) => {
                    weight + next.request.weight() <= self.batch_max
                        && !(first.alone || next.alone)
                        && first.is_again == next.is_again
                        && first.request.now == next.request.now
                }
            };
            if !fits {
                break;
            }
            let Some(next) = queue.pop() else { break };
            if next.is_gone() {
                continue;
            }
            if next.patience() <= now {
                self.time_out(next);
                continue;
            }
            weight += next.request.weight();
            batch.push(next);
        }
        batch
    }

    /// Puts back what is known not to have been charged, before everything that came later.
    pub(super) fn put_back(&self, batch: Vec<Waiter>) {
        let mut queue = self.queue.lock();
        for waiting in batch.into_iter().rev().filter(|waiting| !waiting.is_gone()) {
            queue.note(&waiting);
            queue.waiting.push_front(waiting);
        }
    }

    /// Answers those whose time is up; returns nothing about the others.
    pub(super) fn expire(&self, now: Instant) {
        let mut queue = self.queue.lock();
        for waiting in queue.take() {
            if waiting.patience() <= now {
                self.time_out(waiting);
            } else {
                queue.note(&waiting);
                queue.waiting.push_back(waiting);
            }
        }
    }

    /// Answers everybody, now and from now on.
    pub(super) fn close(&self) {
        self.queue.lock().is_closed = true;
        self.fail_all(CLOSING);
    }

    /// Answers everybody, because there is nothing to send over.
    pub(super) fn fail_all(&self, why: &str) {
        for mut waiting in self.queue.lock().take() {
            self.tally.unreachable.add(1);
            waiting.reply(Err(StoreError::Unreachable(why.to_owned()).into()));
        }
    }

    pub(super) fn time_out(&self, mut waiting: Waiter) {
        let patience: Duration = waiting.patience() - waiting.since;
        self.tally.timeouts.add(1);
        waiting.reply(Err(StoreError::Timeout(patience).into()));
    }
}

const CLOSING: &str = "the store is closing";

fn closing() -> StoreError {
    StoreError::Unreachable(CLOSING.to_owned())
}

impl Waiting {
    /// Until when it waits to be sent. What was sent and came too late may be sent again for as long as its answer would
    /// have been waited for.
    pub(super) fn patience(&self) -> Instant {
        if self.is_again { self.deadline.sent } else { self.deadline.at }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Its batch leaves: from now on Redis may charge it.
    pub(super) fn sent(&mut self) {
        if let Some(debts) = &mut self.debts {
            debts.sent();
        }
    }

    /// Redis said that it charged nothing of its batch.
    pub(super) fn unsent(&mut self) {
        if let Some(debts) = &mut self.debts {
            debts.unsent();
        }
    }

    pub(super) fn reply(&mut self, answer: Answer) {
        if let Some(to) = self.answer.take() {
            // Whoever has gone wants no answer.
            let _ = to.send(answer);
        }
    }
}

impl Queue {
    /// Whether the runner must look: it does so by itself while a batch is on its way.
    fn push(&mut self, waiting: Waiter, batch_max: usize) -> bool {
        let (was_empty, was_full) = (self.waiting.is_empty(), self.weight >= batch_max);
        let is_sooner = self.note(&waiting);
        self.waiting.push_back(waiting);
        was_empty || is_sooner || (!was_full && self.weight >= batch_max)
    }

    /// Adds to the sums; whether this deadline is sooner than all others.
    fn note(&mut self, waiting: &Waiting) -> bool {
        self.weight += waiting.request.weight();
        let patience = waiting.patience();
        let is_sooner = self.soonest.is_none_or(|soonest| patience < soonest);
        if is_sooner {
            self.soonest = Some(patience);
        }
        is_sooner
    }

    fn take(&mut self) -> VecDeque<Waiter> {
        (self.weight, self.soonest) = (0, None);
        std::mem::take(&mut self.waiting)
    }

    fn pop(&mut self) -> Option<Waiter> {
        let waiting = self.waiting.pop_front()?;
        self.weight -= waiting.request.weight();
        if self.waiting.is_empty() {
            self.soonest = None;
        }
        Some(waiting)
    }
}
