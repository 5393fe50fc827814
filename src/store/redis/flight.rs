//! A batch in flight: sent to Redis and not answered, with the requests that wait for it. `runner` decides what the
//! reply means.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use redis::{RedisResult, Value};
use tokio::time::Instant;

use super::batch::Batch;
use super::lane::Waiter;
use super::link::Link;

/// Redis' reply, and whether Redis had to be sent the script's text.
pub(super) type Reply = Pin<Box<dyn Future<Output = (RedisResult<Value>, bool)> + Send>>;

/// A batch in flight: sent and not answered.
pub(super) struct Flight {
    pub batch: Batch,
    pub waiting: Vec<Waiter>,
    pub sent: Instant,
    /// The node and the number of the connection that it was sent over (0 for a node that takes a slot over: the
    /// connection is known only once the batch has left). The lane may be pointed at another node meanwhile.
    pub link: Arc<Link>,
    pub epoch: u64,
    /// Generation of the denial cache when the batch was sent.
    pub generation: u64,
    pub reply: Reply,
    /// All its requests have timed out; it doesn't hold up the next batch.
    pub is_given_up: bool,
}

impl Flight {
    /// Whether it was sent to the node that is taking the slot over. Its failures say nothing about the lane's own
    /// node, and that node's supervisor sees them itself.
    pub(super) fn is_asking(&self) -> bool {
        self.waiting.first().is_some_and(|alone| alone.ask.is_some())
    }

    /// Whether it was sent over this connection of this node.
    pub(super) fn is_over(&self, link: &Arc<Link>, epoch: u64) -> bool {
        !self.is_asking() && Arc::ptr_eq(&self.link, link) && self.epoch == epoch
    }

    /// Opens the circuit breaker of the node that it was sent to, if the connection is still the same.
    pub(super) fn complain(&self, cause: &str) {
        if !self.is_asking() {
            self.link.complain(self.epoch, cause);
        }
    }

    /// Adds the batch to the trace of each sampled request in it.
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

/// The earliest deadline of a batch's requests, by which Redis must begin with it.
pub(super) fn soonest(waiting: &[Waiter]) -> Instant {
    waiting.iter().map(|waiting| waiting.deadline.sent).min().expect("no batch is empty")
}

/// Waits for the first reply to any batch in flight, of at most a handful.
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
