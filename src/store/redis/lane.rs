//! Group commit: requests wait while a batch is on its way, and the next batch leaves with all of them as soon as it
//! is back. No timer gathers them, so an idle lane sends at once. It knows connections only as something to send
//! over, and counters only as requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::Request;
use super::link::Link;
use super::runner::Runner;
use super::script::Script;
use super::settings::RedisSettings;
use super::tally::Tally;
use crate::store::{Readings, StoreError};

pub(super) type Answer = Result<Readings, StoreError>;

/// Where requests wait. Any thread may submit; one task, the runner, takes them away.
pub(super) struct Lane {
    queue: Mutex<Queue>,
    arrived: Notify,
    link: Arc<Link>,
    tally: Arc<Tally>,
    waiting_max: usize,
    batch_max: usize,
}

/// A request and whoever waits for its answer. A closed `answer` is a caller who has gone.
pub(super) struct Waiting {
    pub request: Request,
    pub deadline: Instant,
    pub since: Instant,
    /// Sent in a batch of its own, because Redis refused a batch with it.
    pub alone: bool,
    /// Times that it came to Redis too late.
    pub lates: u8,
    pub answer: Option<oneshot::Sender<Answer>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    asks: usize,
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
        link: Arc<Link>,
        settings: &RedisSettings,
        script: Arc<Script>,
        tally: Arc<Tally>,
        stop: CancellationToken,
    ) -> (Arc<Lane>, impl Future<Output = ()> + Send + 'static) {
        let lane = Arc::new(Lane {
            queue: Mutex::default(),
            arrived: Notify::new(),
            link: link.clone(),
            tally: tally.clone(),
            waiting_max: settings.waiting_max,
            batch_max: settings.batch_max,
        });
        let runner = Runner::new(lane.clone(), link, script, tally, settings);
        (lane, runner.run(stop))
    }

    /// Waits for the answer until `deadline`. Dropped before the request has left, it charges nothing.
    pub(super) async fn submit(&self, request: Request, deadline: Instant) -> Answer {
        if !self.link.is_up() {
            self.tally.unreachable.add(1);
            return Err(StoreError::Unreachable("no connection".to_owned()));
        }
        let (answer, answered) = oneshot::channel();
        let waiting =
            Waiting { request, deadline, since: Instant::now(), alone: false, lates: 0, answer: Some(answer) };
        {
            let mut queue = self.queue.lock();
            if queue.is_closed {
                return Err(closing());
            }
            if queue.waiting.len() >= self.waiting_max {
                self.tally.overloaded.add(1);
                return Err(StoreError::Overloaded);
            }
            if queue.push(waiting, self.batch_max) {
                self.arrived.notify_one();
            }
        }
        // The runner answers at the deadline at the latest, and closes the queue when it ends.
        answered.await.unwrap_or_else(|_| Err(closing()))
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(super) fn backlog(&self) -> Backlog {
        let queue = self.queue.lock();
        Backlog {
            is_empty: queue.waiting.is_empty(),
            is_full_batch: queue.asks >= self.batch_max,
            soonest: queue.soonest,
        }
    }

    /// The next batch: as many as fit, of those that somebody still waits for.
    pub(super) fn take_batch(&self, now: Instant) -> Vec<Waiting> {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut asks = 0;
        let mut queue = self.queue.lock();
        while let Some(next) = queue.waiting.front() {
            let fits = match batch.first() {
                None => true,
                Some(first) => {
                    asks + next.request.asks() <= self.batch_max
                        && !(first.alone || next.alone)
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
            if next.deadline <= now {
                self.time_out(next);
                continue;
            }
            asks += next.request.asks();
            batch.push(next);
        }
        batch
    }

    /// Puts back what is known not to have been charged, before everything that came later.
    pub(super) fn put_back(&self, batch: Vec<Waiting>) {
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
            if waiting.deadline <= now {
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
            waiting.reply(Err(StoreError::Unreachable(why.to_owned())));
        }
    }

    pub(super) fn time_out(&self, mut waiting: Waiting) {
        let patience: Duration = waiting.deadline - waiting.since;
        self.tally.timeouts.add(1);
        waiting.reply(Err(StoreError::Timeout(patience)));
    }
}

const CLOSING: &str = "the store is closing";

fn closing() -> StoreError {
    StoreError::Unreachable(CLOSING.to_owned())
}

impl Waiting {
    pub(super) fn is_gone(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
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
    fn push(&mut self, waiting: Waiting, batch_max: usize) -> bool {
        let (was_empty, was_full) = (self.waiting.is_empty(), self.asks >= batch_max);
        let is_sooner = self.note(&waiting);
        self.waiting.push_back(waiting);
        was_empty || is_sooner || (!was_full && self.asks >= batch_max)
    }

    /// Adds to the sums; whether this deadline is sooner than all others.
    fn note(&mut self, waiting: &Waiting) -> bool {
        self.asks += waiting.request.asks();
        let is_sooner = self.soonest.is_none_or(|soonest| waiting.deadline < soonest);
        if is_sooner {
            self.soonest = Some(waiting.deadline);
        }
        is_sooner
    }

    fn take(&mut self) -> VecDeque<Waiting> {
        (self.asks, self.soonest) = (0, None);
        std::mem::take(&mut self.waiting)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.asks -= waiting.request.asks();
        if self.waiting.is_empty() {
            self.soonest = None;
        }
        Some(waiting)
    }
}
