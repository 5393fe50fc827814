//! A list of heavy keys with true bounds, and how lists of cores, slots of time and replicas become one. It knows no clock.
//!
//! Invariants: (1) a listed key's hits are at most its count, and at least its count minus its error; (2) a key that isn't
//! listed has at most `floor` hits; (3) error ≤ floor ≤ count; (4) of a list of up to `k` keys, `k` times the floor and
//! what the counts exceed it by are together at most all hits. Each way to make a list keeps them, so by (4) whoever has
//! more than 1/k of the hits is listed, where `k` is the smallest number of keys that any of the lists was bounded by.

use std::sync::Arc;

use super::key::TopKey;

/// A key of a list.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) hash: u64,
    /// At least its hits.
    pub(super) count: u64,
    /// How much the count may be too high.
    pub(super) error: u64,
    pub(super) key: Arc<TopKey>,
}

/// The memory that one key of a list takes at most besides its [`TopKey`].
pub(super) const LISTED_BYTES: usize = size_of::<Listed>();

/// What a list knows of a key better than by its floor.
struct AboveFloor<'a> {
    hash: u64,
    /// What its count exceeds the floor by.
    count: u64,
    /// What its error is less than the floor by.
    certain: u64,
    key: &'a Arc<TopKey>,
}

impl AboveFloor<'_> {
    fn of(listed: &Listed, floor: u64) -> AboveFloor<'_> {
        let &Listed { hash, count, error, ref key } = listed;
        AboveFloor { hash, count: count - floor, certain: floor - error, key }
    }
}

/// Heavy keys and their bounds.
#[derive(Clone, Debug, Default)]
pub(super) struct TopList {
    /// No two have the same hash.
    pub(super) listed: Vec<Listed>,
    /// The most that a key may have which isn't listed.
    pub(super) floor: u64,
}

impl TopList {
    pub(super) fn new(listed: Vec<Listed>, floor: u64) -> TopList {
        TopList { listed, floor }
    }

    pub(super) fn bytes(&self) -> usize {
        self.listed.iter().map(|listed| LISTED_BYTES + listed.key.bytes()).sum()
    }

    /// One list of all. In a list that doesn't have it a key may have had as much as that list's floor: so much is added to
    /// its count, and to its error.
    pub(super) fn merged<'a>(lists: impl IntoIterator<Item = &'a TopList>) -> TopList {
        let (mut all, mut floor) = (Vec::new(), 0u64);
        for list in lists {
            floor = floor.saturating_add(list.floor);
            all.extend(list.listed.iter().map(|listed| AboveFloor::of(listed, list.floor)));
        }
        all.sort_unstable_by_key(|above| above.hash);
        let one = |same: &[AboveFloor<'_>]| {
            let count = same.iter().map(|above| above.count).fold(floor, u64::saturating_add);
            let error = same.iter().map(|above| above.certain).fold(floor, u64::saturating_sub);
            Listed { hash: same[0].hash, count, error, key: Arc::clone(same[0].key) }
        };
        let listed = all.chunk_by(|one, other| one.hash == other.hash).map(one).collect();
        TopList { listed, floor }
    }

    /// The `keys_max` heaviest; the heaviest of the others is the new floor.
    pub(super) fn cut(mut self, keys_max: usize) -> TopList {
        if self.listed.len() > keys_max {
            let heaviest = |listed: &Listed| (std::cmp::Reverse(listed.count), listed.hash);
            let (_, first_out, _) = self.listed.select_nth_unstable_by_key(keys_max, heaviest);
            self.floor = self.floor.max(first_out.count);
            self.listed.truncate(keys_max);
            self.listed.shrink_to_fit();
        }
        self
    }

    /// Those that are `wanted`. The floor stays true of all that are.
    pub(super) fn filtered(mut self, wanted: impl Fn(&TopKey) -> bool) -> TopList {
        self.listed.retain(|listed| wanted(&listed.key));
        self
    }

    pub(super) fn find(&self, hash: u64) -> Option<&Listed> {
        self.listed.iter().find(|listed| listed.hash == hash)
    }
}
