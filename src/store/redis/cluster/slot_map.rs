//! Which node has which slot, as one value that is swapped whole. It knows no way to find out.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::slots::Range;
use crate::store::hash_slot::SLOTS;
use crate::store::redis::lane::Lane;
use crate::store::redis::node_connection::NodeConnection;
use crate::store::redis::settings::Address;

/// A slot that no node has.
const NOBODY: u16 = u16::MAX;

/// A primary of the Cluster.
pub(in crate::store::redis) struct ClusterNode {
    pub address: Address,
    pub connection: Arc<NodeConnection>,
    /// The lane of its batches, made when it is first needed.
    lane: OnceLock<Arc<Lane>>,
    is_retired: AtomicBool,
}

impl ClusterNode {
    pub(super) fn new(address: Address, connection: Arc<NodeConnection>) -> Arc<ClusterNode> {
        Arc::new(ClusterNode { address, connection, lane: OnceLock::new(), is_retired: AtomicBool::new(false) })
    }

    pub(super) fn lane(&self, make: impl FnOnce() -> Arc<Lane>) -> &Arc<Lane> {
        let lane = self.lane.get_or_init(make);
        // By somebody with an older map.
        if self.is_retired.load(SeqCst) {
            lane.retire();
        }
        lane
    }

    /// Notes that it has no slots any more: what waits for it is sent elsewhere.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, SeqCst);
        if let Some(lane) = self.lane.get() {
            lane.retire();
        }
    }
}

/// The nodes in the order of their addresses, and for each slot the number of its node.
#[derive(Clone)]
pub(in crate::store::redis) struct SlotMap {
    nodes: Vec<Arc<ClusterNode>>,
    of_slot: Box<[u16]>,
}

impl SlotMap {
    pub(super) fn empty() -> SlotMap {
        SlotMap { nodes: Vec::new(), of_slot: vec![NOBODY; usize::from(SLOTS)].into() }
    }

    /// The map that `ranges` make of the slots in use. Nodes that are in `self` stay, with their lanes.
    pub(super) fn with_ranges(
        &self,
        ranges: &[Range],
        is_used: &[bool],
        connect: impl Fn(&Address) -> Arc<NodeConnection>,
    ) -> SlotMap {
        let is_used = |slot: u16| is_used[usize::from(slot)];
        let mut used: Vec<&Address> =
            ranges.iter().filter(|range| range.slots().any(is_used)).map(|range| &range.primary).collect();
        used.sort_unstable();
        used.dedup();
        let mut map = SlotMap { nodes: Vec::with_capacity(used.len()), ..SlotMap::empty() };
        for address in used {
            let known = self.nodes.iter().find(|node| node.address == *address).cloned();
            map.nodes.push(known.unwrap_or_else(|| ClusterNode::new(address.clone(), connect(address))));
        }
        for range in ranges {
            let Some(number) = map.number_of(&range.primary) else { continue };
            for slot in range.slots().filter(|slot| is_used(*slot)) {
                map.of_slot[usize::from(slot)] = number;
            }
        }
        map
    }

    /// Notes that a slot is on another node.
    pub(super) fn move_slot(
        &mut self,
        slot: u16,
        address: &Address,
        connect: impl Fn(&Address) -> Arc<NodeConnection>,
    ) {
        let number = self.number_of(address).unwrap_or_else(|| {
            let at = self.nodes.partition_point(|node| node.address < *address);
            self.nodes.insert(at, ClusterNode::new(address.clone(), connect(address)));
            let at = at as u16;
            self.of_slot.iter_mut().filter(|of| **of != NOBODY && **of >= at).for_each(|of| *of += 1);
            at
        });
        self.of_slot[usize::from(slot)] = number;
    }

    fn number_of(&self, address: &Address) -> Option<u16> {
        self.nodes.binary_search_by(|node| node.address.cmp(address)).ok().map(|number| number as u16)
    }

    pub(super) fn nodes(&self) -> &[Arc<ClusterNode>] {
        &self.nodes
    }

    /// Whether it has no nodes, because it has yet to be read.
    pub(in crate::store::redis) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node of a slot, and its number.
    pub(super) fn node_of(&self, slot: u16) -> Option<(u16, &Arc<ClusterNode>)> {
        let number = self.of_slot[usize::from(slot)];
        Some((number, self.nodes.get(usize::from(number))?))
    }

    /// Whether every node is connected.
    pub(super) fn is_up(&self) -> bool {
        self.nodes.iter().all(|node| node.connection.is_up())
    }

    /// Whether every slot in use has a node.
    pub(super) fn is_whole(&self, is_used: &[bool]) -> bool {
        self.of_slot.iter().zip(is_used).all(|(node, is_used)| !is_used || *node != NOBODY)
    }

    /// Whether the same nodes have the same slots.
    pub(super) fn is_like(&self, other: &SlotMap) -> bool {
        let addresses = |map: &SlotMap| map.nodes.iter().map(|node| node.address.clone()).collect::<Vec<_>>();
        self.of_slot == other.of_slot && addresses(self) == addresses(other)
    }
}

#[cfg(test)]
mod tests;
