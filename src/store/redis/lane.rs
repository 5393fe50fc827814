//! The queue of requests to one connection (group commit): requests wait while a batch is in flight, and all of them
//! leave in the next batch as soon as its reply is there. No timer collects them, so an idle lane sends at once. It
//! knows connections only as something to send over, and counters only as requests.

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

use super::link::Link;
use super::links::Links;
use super::request::Request;
use super::settings::{Address, RedisSettings};
use super::tally::Tally;
use crate::store::counter_check::Deadline;
use crate::store::owed::Debts;
use crate::store::readings::{Readings, StoreError};
use crate::trace;

pub(super) type Answer = Result<Readings, Failure>;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    Store(StoreError),
    /// Its counters are on two nodes while their slot moves, so each must be checked in a request of its own.
    Split,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

/// A node of a Cluster replied that a bucket is on another one.
pub(super) struct Moved {
    pub bucket: u32,
    pub to: Option<Address>,
}

/// In a Cluster: the lane's bucket, the sender that reports where it has moved, and the connections to other nodes.
pub(super) type ToGuide = (u32, mpsc::UnboundedSender<Moved>, Arc<Links>);

#[cfg(test)]
mod tests;

/// The queue and the sender for one connection. Any thread may submit requests; one task, the runner, takes them from
/// the queue.
pub(super) struct Lane {
    queue: Mutex<Queue>,
    arrived: Notify,
    /// The node that it sends to; in a Cluster unknown at first.
    link: ArcSwapOption<Link>,
    rerouted: Notify,
    tally: Arc<Tally>,
    waiting_max: usize,
    batch_max: usize,
}

/// A queued request. If the receiver of `answer` is closed, its caller has gone.
pub(super) struct Waiting {
    pub request: Request,
    pub deadline: Deadline,
    pub since: Instant,
    /// Sent in a batch of its own, because Redis refused a batch with it.
    pub alone: bool,
    /// A retry after a late batch. Never mixed with new requests: they may have less time left and would make it late
    /// again.
    pub is_again: bool,
    /// How many times Redis rejected the batch because of this request's deadline.
    pub lates: u8,
    /// In a Cluster: the node that is taking the slot over, if the request must be sent there instead.
    pub ask: Option<Arc<Link>>,
    pub answer: Option<oneshot::Sender<Answer>>,
    /// Deferred charges, placed before the request's own checks. Their readings are discarded.
    pub debts: Option<Box<Debts>>,
    /// Current trace context, if the request is sampled.
    pub trace: Option<trace::Here>,
}

/// Boxed, because it is moved several times before it is answered.
pub(super) type Waiter = Box<Waiting>;

/// The answer to a request: known at once, or waited for. If it is dropped before the request has left, the request
/// charges nothing.
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
    /// The sum of the requests' weights.
    weight: usize,
    /// A lower bound of the deadlines in `waiting`.
    soonest: Option<Instant>,
    /// The runner has ended, so that nothing would be answered.
    is_closed: bool,
}

/// State of the queue, by which the runner decides whether another batch may leave.
#[derive(Clone, Copy)]
pub(super) struct Backlog {
    pub is_empty: bool,
    pub is_full_batch: bool,
    pub soonest: Option<Instant>,
}

impl Lane {
    /// A lane that a runner is yet to work off.
    pub(super) fn new(link: Option<Arc<Link>>, settings: &RedisSettings, tally: Arc<Tally>) -> Arc<Lane> {
        Arc::new(Lane {
            queue: Mutex::default(),
            arrived: Notify::new(),
            link: ArcSwapOption::new(link),
            rerouted: Notify::new(),
            tally,
            waiting_max: settings.waiting_max,
            batch_max: settings.batch_max,
        })
    }

    /// Queues a request and waits for its answer until `deadline`. If it is dropped before the request has left, it
    /// charges nothing.
    pub(super) async fn submit(&self, request: Request, deadline: Instant) -> Answer {
        self.queue(request, None, deadline).await
    }

    /// Queues a request that begins with the deferred charges `debts`, and returns its answer as a future. It isn't
    /// `async`, so that the caller's future doesn't hold the request while it waits.
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

    /// As [`Lane::submit`], for a refund.
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

    /// The node that it sends to now.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// Points the lane at a node. Also if it is the same one, for the runner may have stopped sending until it hears
    /// where the bucket is.
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

    /// Takes the next batch from the queue: as many requests as fit, without those whose callers have gone. A batch is
    /// bounded by the time that it keeps Redis busy, not by the number of its counters.
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

    /// Puts requests back that are known not to have been charged, before all that came later.
    pub(super) fn put_back(&self, batch: Vec<Waiter>) {
        let mut queue = self.queue.lock();
        for waiting in batch.into_iter().rev().filter(|waiting| !waiting.is_gone()) {
            queue.note(&waiting);
            queue.waiting.push_front(waiting);
        }
    }

    /// Answers the requests whose deadlines have passed with a timeout.
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

    /// Closes the queue: answers all requests with an error, now and from now on.
    pub(super) fn close(&self) {
        self.queue.lock().is_closed = true;
        self.fail_all(CLOSING);
    }

    /// Answers all queued requests with an error, because there is no connection.
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
    /// Until when it may be sent. A request whose batch was late may be sent again for as long as its answer would have
    /// been waited for.
    pub(super) fn patience(&self) -> Instant {
        if self.is_again { self.deadline.sent } else { self.deadline.at }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Notes that its batch leaves: from now on Redis may charge it.
    pub(super) fn sent(&mut self) {
        if let Some(debts) = &mut self.debts {
            debts.sent();
        }
    }

    /// Notes that Redis replied that it charged nothing of its batch.
    pub(super) fn unsent(&mut self) {
        if let Some(debts) = &mut self.debts {
            debts.unsent();
        }
    }

    pub(super) fn reply(&mut self, answer: Answer) {
        if let Some(to) = self.answer.take() {
            // A caller that has gone needs no answer.
            let _ = to.send(answer);
        }
    }
}

impl Queue {
    /// Adds a request. Returns whether the runner must be woken; while a batch is in flight, it looks at the queue by
    /// itself.
    fn push(&mut self, waiting: Waiter, batch_max: usize) -> bool {
        let (was_empty, was_full) = (self.waiting.is_empty(), self.weight >= batch_max);
        let is_sooner = self.note(&waiting);
        self.waiting.push_back(waiting);
        was_empty || is_sooner || (!was_full && self.weight >= batch_max)
    }

    /// Adds a request to the sums. Returns whether its deadline is sooner than all others.
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
