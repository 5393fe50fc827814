//! What a runner in a Cluster does with requests whose counters are not where it sent them.

use redis::RedisError;

use super::Runner;
use crate::store::redis::batch::BatchResult;
use crate::store::redis::faults;
use crate::store::redis::guide::{Guide, SlotNews};
use crate::store::redis::lane::{BoxedRequest, RequestFailure};
use crate::store::redis::node_connection::NodeConnection;
use crate::store::redis::node_connections::redirected;

/// Number of batches in a row after which a node that decides nothing of them is sent no more over several slots. A slot
/// that has moved is known by then.
const BARREN_MAX: u32 = 64;

impl Runner {
    /// The bucket is on another node: the requests are sent there once the lane is pointed at it.
    pub(super) fn handle_moved(&mut self, mut queued: Vec<BoxedRequest>, error: &RedisError) {
        queued.iter_mut().for_each(|queued| queued.redirect = None);
        self.lane.put_back(queued);
        self.is_moved = true;
        if let Some(Guide::Bucket { bucket, news, .. }) = &self.guide {
            // The receiver ends only with the store.
            let _ = news.send(SlotNews::Moved { bucket: *bucket, to: redirected(error) });
        }
    }

    /// Notes that the node has not answered every request of a batch over all its slots. If it forbids such batches, or
    /// never decides anything of them, its requests go by slots from now on.
    pub(super) fn note_elsewhere(&mut self, node: &NodeConnection, verdict: &BatchResult) {
        self.barren = if verdict.elsewhere().1 { self.barren + 1 } else { 0 };
        if verdict.is_forbidden {
            node.batch_by_slot("it forbids scripts over keys of several slots, or that are not declared");
        } else if self.barren >= BARREN_MAX {
            node.batch_by_slot("it decides nothing of scripts over several slots, and sends every request elsewhere");
        }
        if let Some(Guide::Node { news }) = &self.guide {
            let _ = news.send(SlotNews::Elsewhere);
        }
    }

    /// Whether an error to a batch of `requests` over all slots of a node is no error to a batch over one slot.
    pub(super) fn is_for_slots(&self, node: &NodeConnection, error: &RedisError, requests: usize) -> bool {
        let text = error.to_string();
        if faults::forbids_undeclared(&text) {
            node.batch_by_slot(&text);
            return true;
        }
        // Some services have words of their own.
        matches!(error.code(), Some("MOVED" | "ASK" | "TRYAGAIN")) || (requests == 1 && faults::is_unknown(error))
    }

    /// Sends a request back to its caller, who asks by slots. Nothing was charged.
    pub(super) fn send_elsewhere(&self, mut queued: BoxedRequest) {
        queued.unsent();
        self.stats.elsewhere.add(1);
        queued.reply(Err(RequestFailure::Elsewhere));
    }

    /// The bucket is moving and this counter has moved already, so the request is sent to the new node. If it has
    /// several counters, they may be on both nodes.
    pub(super) fn handle_ask(&mut self, mut queued: Vec<BoxedRequest>, error: &RedisError) {
        let is_one = queued.iter().all(|queued| queued.request.check_count() == 1);
        match (&self.guide, redirected(error)) {
            (Some(Guide::Bucket { nodes, .. }), Some(address)) if is_one => {
                let node = nodes.to_importing(&address);
                queued.iter_mut().for_each(|queued| {
                    queued.is_alone = true;
                    queued.redirect = Some(node.clone());
                });
                self.lane.put_back(queued);
            }
            _ if is_one => self.refuse(queued, &error.to_string()),
            _ => queued.iter_mut().for_each(|queued| queued.reply(Err(RequestFailure::Elsewhere))),
        }
    }
}
