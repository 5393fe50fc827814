//! A batch on its way to Redis, and those who wait for it. What its answer means is the runner's matter.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use redis::{RedisResult, Value};
use tokio::time::Instant;

use super::batch::Batch;
use super::lane::Waiter;
use super::link::Link;

/// The answer, and whether Redis had to be given the script.
pub(super) type Reply = Pin<Box<dyn Future<Output = (RedisResult<Value>, bool)> + Send>>;

/// A batch on its way.
pub(super) struct Flight {
    pub batch: Batch,
    pub waiting: Vec<Waiter>,
    pub sent: Instant,
    /// What it flies over: a link and which of its connections (of a node that takes a slot over, 0: which one is known only
    /// once it has left). The lane may be pointed at another node meanwhile, about which this flight says nothing.
    pub link: Arc<Link>,
    pub epoch: u64,
    /// Of the denials, when it was sent.
    pub generation: u64,
    pub reply: Reply,
    /// Nobody waits for it any more; it doesn't hold up the next.
    pub is_given_up: bool,
}

impl Flight {
    /// Over another link than the lane's, to the node that takes the slot over. What fails there says nothing about ours,
    /// and that link sees by itself.
    pub(super) fn is_asking(&self) -> bool {
        self.waiting.first().is_some_and(|alone| alone.ask.is_some())
    }

    /// Whether it flies over this connection of this link.
    pub(super) fn is_over(&self, link: &Arc<Link>, epoch: u64) -> bool {
        !self.is_asking() && Arc::ptr_eq(&self.link, link) && self.epoch == epoch
    }

    /// Opens the circuit breaker of the node that it flew to, if that is still connected as it was.
    pub(super) fn complain(&self, cause: &str) {
        if !self.is_asking() {
            self.link.complain(self.epoch, cause);
        }
    }

    /// Tells of the flight in each trace that it is a part of.
    pub(super) fn trace(&self, error: Option<&str>) {
        for here in self.waiting.iter().filter_map(|waiting| waiting.trace.as_ref()) {
            let mut span = here.store_part("Redis Batch", self.sent.into());
            span.set_int("tollgate.batch.requests", self.waiting.len() as i64);
            span.set_int("tollgate.batch.counters", self.batch.counters as i64);
            if let Some(error) = error {
                span.fail(error);
            }
        }
    }
}

/// By which Redis must have begun with a batch.
pub(super) fn soonest(waiting: &[Waiter]) -> Instant {
    waiting.iter().map(|waiting| waiting.deadline.sent).min().expect("no batch is empty")
}

/// The first answer that is there, of at most a handful of flights.
pub(super) async fn next_reply(flights: &mut [Flight]) -> (usize, (RedisResult<Value>, bool)) {
    std::future::poll_fn(|cx| {
        for (nth, flight) in flights.iter_mut().enumerate() {
            if let Poll::Ready(outcome) = flight.reply.as_mut().poll(cx) {
                return Poll::Ready((nth, outcome));
            }
        }
        Poll::Pending
    })
    .await
}
