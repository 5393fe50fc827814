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
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::node_connection::NodeConnection;
use super::request::Request;
use super::settings::RedisSettings;
use super::stats::RedisStats;
use crate::store::counter_check::Deadline;
use crate::store::deferred::DeferredBatch;
use crate::store::readings::{Readings, StoreError};
use crate::trace;

pub(super) type Answer = Result<Readings, RequestFailure>;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum RequestFailure {
    Store(StoreError),
    /// Nothing was charged, because not all of its counters are where it was sent: their slot has moved or is moving. A
    /// request with one counter is asked by its slot, one with several in smaller parts.
    Elsewhere,
}

impl From<StoreError> for RequestFailure {
    fn from(error: StoreError) -> RequestFailure {
        RequestFailure::Store(error)
    }
}

#[cfg(test)]
mod tests;

/// The queue and the sender for one connection. Any thread may submit requests; one task, the runner, takes them from
/// the queue.
pub(super) struct Lane {
    queue: Mutex<Queue>,
    arrived: Notify,
    /// The node that it sends to; in a Cluster unknown at first.
    node: ArcSwapOption<NodeConnection>,
    rerouted: Notify,
    stats: Arc<RedisStats>,
    queue_max: usize,
    batch_max: usize,
    /// The weight with which a batch leaves out of turn; `batch_max` where there are no turns.
    enough: usize,
}

/// A queued request. If the receiver of `answer` is closed, its caller has gone.
pub(super) struct QueuedRequest {
    pub request: Request,
    pub deadline: Deadline,
    pub queued_at: Instant,
    /// Sent in a batch of its own, because Redis refused a batch with it.
    pub is_alone: bool,
    /// A retry after a late batch. Never mixed with new requests: they may have less time left and would make it late
    /// again.
    pub is_retry: bool,
    /// How many times Redis rejected the batch because of this request's deadline.
    pub late_count: u8,
    /// In a Cluster: the node that is taking the slot over, if the request must be sent there instead.
    pub redirect: Option<Arc<NodeConnection>>,
    pub answer: Option<oneshot::Sender<Answer>>,
    /// Deferred charges, placed before the request's own checks. Their readings are discarded.
    pub deferred: Option<Box<DeferredBatch>>,
    /// Current trace context, if the request is sampled.
    pub trace: Option<trace::TraceContext>,
}

/// Boxed, because it is moved several times before it is answered.
pub(super) type BoxedRequest = Box<QueuedRequest>;

/// The answer to a request: known at once, or waited for. If it is dropped before the request has left, the request
/// charges nothing. Small, because a request over several nodes holds one for each.
pub(super) enum PendingAnswer {
    Known(Ready<Box<Answer>>),
    Queued(oneshot::Receiver<Answer>),
}

impl PendingAnswer {
    pub(super) fn known(readings: Readings) -> PendingAnswer {
        PendingAnswer::Known(ready(Box::new(Ok(readings))))
    }

    fn failed(failure: RequestFailure) -> PendingAnswer {
        PendingAnswer::Known(ready(Box::new(Err(failure))))
    }
}

impl Future for PendingAnswer {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            PendingAnswer::Known(answer) => Pin::new(answer).poll(cx).map(|answer| *answer),
            // The runner answers at the deadline at the latest, and closes the queue when it ends.
            PendingAnswer::Queued(answered) => {
                Pin::new(answered).poll(cx).map(|answer| answer.unwrap_or_else(|_| Err(closing().into())))
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<BoxedRequest>,
    /// The sum of the requests' weights.
    weight: usize,
    /// A lower bound of the deadlines in `waiting`.
    earliest_deadline: Option<Instant>,
    /// Nothing would be answered any more.
    closed: Option<Closed>,
}

/// Why a queue takes no requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// The runner has ended with the store.
    Stopped,
    /// The lane isn't needed any more, and others take its requests.
    Retired,
}

impl Closed {
    fn failure(self) -> RequestFailure {
        match self {
            Closed::Stopped => closing().into(),
            Closed::Retired => RequestFailure::Elsewhere,
        }
    }
}

/// State of the queue, by which the runner decides whether another batch may leave.
#[derive(Clone, Copy)]
pub(super) struct Backlog {
    pub is_empty: bool,
    pub is_full_batch: bool,
    pub is_enough: bool,
    pub earliest_deadline: Option<Instant>,
}

impl Lane {
    /// A lane that a runner is yet to work off.
    pub(super) fn new(
        node: Option<Arc<NodeConnection>>,
        settings: &RedisSettings,
        stats: Arc<RedisStats>,
    ) -> Arc<Lane> {
        Lane::with_turns(node, settings, stats, settings.batch_max)
    }

    /// As [`Lane::new`], for a lane that takes turns with others: its runner is also woken by a weight of `enough`.
    pub(super) fn with_turns(
        node: Option<Arc<NodeConnection>>,
        settings: &RedisSettings,
        stats: Arc<RedisStats>,
        enough: usize,
    ) -> Arc<Lane> {
        Arc::new(Lane {
            queue: Mutex::default(),
            arrived: Notify::new(),
            node: ArcSwapOption::new(node),
            rerouted: Notify::new(),
            stats,
            queue_max: settings.queue_max,
            batch_max: settings.batch_max,
            enough: enough.min(settings.batch_max),
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
        deferred_batch: Option<Box<DeferredBatch>>,
        deadline: impl Into<Deadline>,
    ) -> PendingAnswer {
        if !self.node.load().as_ref().is_some_and(|node| node.takes_requests()) {
            if self.is_retired() {
                return PendingAnswer::failed(RequestFailure::Elsewhere);
            }
            self.stats.unreachable.add(1);
            return PendingAnswer::failed(StoreError::Unreachable(NO_CONNECTION.to_owned()).into());
        }
        let (answer, answered) = oneshot::channel();
        let queued = Box::new(QueuedRequest {
            request,
            deadline: deadline.into(),
            queued_at: Instant::now(),
            is_alone: false,
            is_retry: false,
            late_count: 0,
            redirect: None,
            answer: Some(answer),
            deferred: deferred_batch,
            trace: trace::current(),
        });
        let mut queue = self.queue.lock();
        if let Some(closed) = queue.closed {
            return PendingAnswer::failed(closed.failure());
        }
        if queue.requests.len() >= self.queue_max {
            self.stats.overloaded.add(1);
            return PendingAnswer::failed(StoreError::Overloaded.into());
        }
        if queue.push(queued, [self.enough, self.batch_max]) {
            self.arrived.notify_one();
        }
        PendingAnswer::Queued(answered)
    }

    pub(super) fn is_up(&self) -> bool {
        self.node.load().as_ref().is_some_and(|node| node.is_up())
    }

    /// The node that it sends to now.
    pub(super) fn node(&self) -> Option<Arc<NodeConnection>> {
        self.node.load_full()
    }

    /// Points the lane at a node. Also if it is the same one, for the runner may have stopped sending until it hears
    /// where the bucket is.
    pub(super) fn reroute(&self, node: Arc<NodeConnection>) {
        self.node.store(Some(node));
        self.rerouted.notify_one();
    }

    /// Takes no requests any more, and sends those that wait elsewhere. Batches in flight are answered, and then the
    /// runner ends.
    pub(super) fn retire(&self) {
        let waiting = {
            let mut queue = self.queue.lock();
            if queue.closed.is_some() {
                return;
            }
            queue.closed = Some(Closed::Retired);
            queue.take()
        };
        for mut queued in waiting {
            queued.reply(Err(RequestFailure::Elsewhere));
        }
        self.node.store(None);
        self.rerouted.notify_one();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.queue.lock().closed == Some(Closed::Retired)
    }

    pub(super) async fn rerouted(&self) {
        self.rerouted.notified().await;
    }

    /// Wakes its runner.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(super) fn backlog(&self) -> Backlog {
        let queue = self.queue.lock();
        Backlog {
            is_empty: queue.requests.is_empty(),
            is_full_batch: queue.weight >= self.batch_max,
            is_enough: queue.weight >= self.enough,
            earliest_deadline: queue.earliest_deadline,
        }
    }

    /// Takes the next batch from the queue: as many requests as fit, without those whose callers have gone. A batch is
    /// bounded by the time that it keeps Redis busy, not by the number of its counters.
    pub(super) fn take_batch(&self, now: Instant) -> Vec<BoxedRequest> {
        let mut weight = 0;
        let mut queue = self.queue.lock();
        let mut batch: Vec<BoxedRequest> = Vec::with_capacity(queue.requests.len().min(self.batch_max));
        while let Some(next) = queue.requests.front() {
            let fits = match batch.first() {
                None => true,
                Some(first) => {
                    weight + next.request.weight() <= self.batch_max
                        && !(first.is_alone || next.is_alone)
                        && first.is_retry == next.is_retry
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
            if next.send_deadline() <= now {
                self.time_out(next);
                continue;
            }
            weight += next.request.weight();
            batch.push(next);
        }
        batch
    }

    /// Puts requests back that are known not to have been charged, before all that came later.
    pub(super) fn put_back(&self, mut batch: Vec<BoxedRequest>) {
        let mut queue = self.queue.lock();
        if queue.closed == Some(Closed::Retired) {
            batch.iter_mut().for_each(|queued| queued.reply(Err(RequestFailure::Elsewhere)));
            return;
        }
        for queued in batch.into_iter().rev().filter(|queued| !queued.is_gone()) {
            queue.note(&queued);
            queue.requests.push_front(queued);
        }
    }

    /// Answers the requests whose deadlines have passed with a timeout.
    pub(super) fn expire(&self, now: Instant) {
        let mut queue = self.queue.lock();
        for queued in queue.take() {
            if queued.send_deadline() <= now {
                self.time_out(queued);
            } else {
                queue.note(&queued);
                queue.requests.push_back(queued);
            }
        }
    }

    /// Closes the queue: answers all requests with an error, now and from now on.
    pub(super) fn close(&self) {
        self.queue.lock().closed.get_or_insert(Closed::Stopped);
        self.fail_all(CLOSING);
    }

    /// Answers all queued requests with an error, because there is no connection.
    pub(super) fn fail_all(&self, why: &str) {
        for mut queued in self.queue.lock().take() {
            self.stats.unreachable.add(1);
            queued.reply(Err(StoreError::Unreachable(why.to_owned()).into()));
        }
    }

    pub(super) fn time_out(&self, mut queued: BoxedRequest) {
        let patience: Duration = queued.send_deadline() - queued.queued_at;
        self.stats.timeouts.add(1);
        queued.reply(Err(StoreError::Timeout(patience).into()));
    }
}

const CLOSING: &str = "the store is closing";

/// Why a request fails whose node isn't connected, and isn't being connected to for the first time.
pub(super) const NO_CONNECTION: &str = "no connection";

fn closing() -> StoreError {
    StoreError::Unreachable(CLOSING.to_owned())
}

impl QueuedRequest {
    /// Until when it may be sent. A request whose batch was late may be sent again for as long as its answer would have
    /// been waited for.
    pub(super) fn send_deadline(&self) -> Instant {
        if self.is_retry { self.deadline.sent } else { self.deadline.at }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Notes that its batch leaves: from now on Redis may charge it.
    pub(super) fn sent(&mut self) {
        if let Some(deferred_batch) = &mut self.deferred {
            deferred_batch.sent();
        }
    }

    /// Notes that Redis replied that it charged nothing of its batch.
    pub(super) fn unsent(&mut self) {
        if let Some(deferred_batch) = &mut self.deferred {
            deferred_batch.unsent();
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
    /// Adds a request. Returns whether the runner must be woken, also because the queue has reached one of these weights;
    /// when a batch is answered, it looks at the queue by itself.
    fn push(&mut self, queued: BoxedRequest, wakes_at: [usize; 2]) -> bool {
        let (was_empty, before) = (self.requests.is_empty(), self.weight);
        let is_sooner = self.note(&queued);
        self.requests.push_back(queued);
        was_empty || is_sooner || wakes_at.iter().any(|weight| (before + 1..=self.weight).contains(weight))
    }

    /// Adds a request to the sums. Returns whether its deadline is sooner than all others.
    fn note(&mut self, queued: &QueuedRequest) -> bool {
        self.weight += queued.request.weight();
        let patience = queued.send_deadline();
        let is_sooner = self.earliest_deadline.is_none_or(|soonest| patience < soonest);
        if is_sooner {
            self.earliest_deadline = Some(patience);
        }
        is_sooner
    }

    fn take(&mut self) -> VecDeque<BoxedRequest> {
        (self.weight, self.earliest_deadline) = (0, None);
        std::mem::take(&mut self.requests)
    }

    fn pop(&mut self) -> Option<BoxedRequest> {
        let queued = self.requests.pop_front()?;
        self.weight -= queued.request.weight();
        if self.requests.is_empty() {
            self.earliest_deadline = None;
        }
        Some(queued)
    }
}
