//! A batch in flight: sent to Redis and not answered, with the requests that wait for it. `runner` decides what the
//! reply means.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use redis::{RedisResult, Value};
use tokio::time::Instant;

use super::batch::Batch;
use super::lane::BoxedRequest;
use super::node_connection::NodeConnection;

/// Redis' reply, and whether Redis had to be sent the script's text.
pub(super) type PendingReply = Pin<Box<dyn Future<Output = (RedisResult<Value>, bool)> + Send>>;

/// A batch in flight: sent and not answered.
pub(super) struct InFlightBatch {
    pub batch: Batch,
    pub requests: Vec<BoxedRequest>,
    pub sent: Instant,
    /// The node and the number of the connection that it was sent over (0 for a node that takes a slot over: the
    /// connection is known only once the batch has left). The lane may be pointed at another node meanwhile.
    pub node: Arc<NodeConnection>,
    pub epoch: u64,
    /// Generation of the denial cache when the batch was sent.
    pub generation: u64,
    pub reply: PendingReply,
    /// All its requests have timed out; it doesn't hold up the next batch.
    pub is_given_up: bool,
}

impl InFlightBatch {
    /// Whether it was sent to the node that is taking the slot over. Its failures say nothing about the lane's own
    /// node, and that node's supervisor sees them itself.
    pub(super) fn is_redirected(&self) -> bool {
        self.requests.first().is_some_and(|alone| alone.redirect.is_some())
    }

    /// Whether it was sent over this connection of this node.
    pub(super) fn was_sent_over(&self, node: &Arc<NodeConnection>, epoch: u64) -> bool {
        !self.is_redirected() && Arc::ptr_eq(&self.node, node) && self.epoch == epoch
    }

    /// Opens the circuit breaker of the node that it was sent to, if the connection is still the same.
    pub(super) fn report_failure(&self, cause: &str) {
        if !self.is_redirected() {
            self.node.report_failure(self.epoch, cause);
        }
    }

    /// Adds the batch to the trace of each sampled request in it.
    pub(super) fn trace(&self, error: Option<&str>) {
        for trace in self.requests.iter().filter_map(|queued| queued.trace.as_ref()) {
            let mut span = trace.store_child_span("Redis Batch", self.sent.into());
            span.set_int("tollgate.batch.requests", self.requests.len() as i64);
            span.set_int("tollgate.batch.counters", self.batch.counters as i64);
            if let Some(error) = error {
                span.fail(error);
            }
        }
    }
}

/// The earliest deadline of a batch's requests, by which Redis must begin with it.
pub(super) fn earliest_deadline(queued: &[BoxedRequest]) -> Instant {
    queued.iter().map(|queued| queued.deadline.sent).min().expect("no batch is empty")
}

/// Waits for the first reply to any batch in flight, of at most a handful.
pub(super) async fn next_reply(flights: &mut [InFlightBatch]) -> (usize, (RedisResult<Value>, bool)) {
    std::future::poll_fn(|cx| {
        for (nth, in_flight) in flights.iter_mut().enumerate() {
            if let Poll::Ready(outcome) = in_flight.reply.as_mut().poll(cx) {
                return Poll::Ready((nth, outcome));
            }
        }
        Poll::Pending
    })
    .await
}
