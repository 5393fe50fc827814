//! Maps of nodes that nobody connects to.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::store::redis::denial_cache::DenialCache;
use crate::store::redis::dial::Target;
use crate::store::redis::script::Scripts;
use crate::store::redis::settings::{RedisSettings, Topology};

const ALL: [bool; SLOTS as usize] = [true; SLOTS as usize];

fn node(port: u16) -> Address {
    Address::Tcp { host: "10.0.0.1".into(), port }
}

fn connect(address: &Address) -> Arc<NodeConnection> {
    let settings = Arc::new(RedisSettings::new(Topology::Cluster { seeds: Vec::new() }));
    let target = Target::Node(address.clone());
    let stop = CancellationToken::new();
    NodeConnection::new(target, settings, Scripts::new(), Arc::default(), Arc::new(DenialCache::new(0)), stop).0
}

fn ranges(all: &[(u16, u16, u16)]) -> Vec<Range> {
    all.iter().map(|&(first, last, port)| Range { first, last, primary: node(port) }).collect()
}

/// The port of the node of a slot.
fn port(map: &SlotMap, slot: u16) -> Option<u16> {
    match &map.node_of(slot)?.1.address {
        Address::Tcp { port, .. } => Some(*port),
        Address::Unix(_) => None,
    }
}

#[test]
fn nodes_are_numbered_by_their_addresses_however_the_map_names_them() {
    let orders = [[(0, 99, 7), (100, 199, 5), (200, 16_383, 6)], [(200, 16_383, 6), (0, 99, 7), (100, 199, 5)]];
    for order in orders {
        let map = SlotMap::empty().with_ranges(&ranges(&order), &ALL, connect);
        assert_eq!([0, 100, 200].map(|slot| map.node_of(slot).map(|(number, _)| number)), [Some(2), Some(0), Some(1)]);
        assert!(map.is_whole(&ALL));
    }
}

#[test]
fn a_node_of_the_old_map_stays_and_one_without_slots_in_use_is_none() {
    let old = SlotMap::empty().with_ranges(&ranges(&[(0, 9_999, 5), (10_000, 16_383, 6)]), &ALL, connect);
    let mut is_used = [false; SLOTS as usize];
    is_used[..100].fill(true);
    let new = old.with_ranges(&ranges(&[(0, 49, 5), (50, 9_999, 7), (10_000, 16_383, 6)]), &is_used, connect);
    assert_eq!([0, 50, 10_000].map(|slot| port(&new, slot)), [Some(5), Some(7), None]);
    assert_eq!(new.nodes().len(), 2, "the node at port 6 has no slot in use");
    let first = |map: &SlotMap| map.node_of(0).map(|(_, node)| node.clone()).expect("it has one");
    assert!(Arc::ptr_eq(&first(&old), &first(&new)));
    assert!(new.is_whole(&is_used) && !new.is_whole(&ALL));
}

#[test]
fn one_slot_moves_to_a_node_before_between_or_behind_all_others() {
    for to in [4, 6, 8, 5] {
        let mut map = SlotMap::empty().with_ranges(&ranges(&[(0, 9_999, 5), (10_000, 16_383, 7)]), &ALL, connect);
        let before = map.clone();
        map.move_slot(3, &node(to), connect);
        assert_eq!([2, 3, 4, 9_999, 10_000].map(|slot| port(&map, slot)), [5, to, 5, 5, 7].map(Some), "{to}");
        assert_eq!(map.is_like(&before), to == 5);
    }
}
