//! What the lanes of a Cluster learn about slots from their nodes, and to whom they report it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::node_connections::NodeConnections;
use super::settings::Address;

/// What a node replied about its slots.
pub(super) enum SlotNews {
    /// A bucket is on another node, which it may have named.
    Moved { bucket: u32, to: Option<Address> },
    /// It hasn't every slot that the map says. A script's error doesn't say which.
    Elsewhere,
}

/// For the lane of a Cluster: what it sends, and whom it tells about slots. The receiver ends only with the store.
pub(super) enum Guide {
    /// The counters of one bucket, whose slot is followed to other nodes.
    Bucket { bucket: u32, news: mpsc::UnboundedSender<SlotNews>, nodes: Arc<NodeConnections> },
    /// The counters of all slots of its node.
    Node { news: mpsc::UnboundedSender<SlotNews> },
}

impl Guide {
    pub(super) fn is_of_node(&self) -> bool {
        matches!(self, Guide::Node { .. })
    }
}
