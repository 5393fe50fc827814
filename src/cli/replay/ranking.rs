//! Who has the most of something, exactly, without keeping everybody's name. Counts only grow, so whoever is below the
//! least of the first `keep` now is let go, and comes back with the count that gets it there.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

/// Names are let go once there are so many times those that are wanted.
const SLACK: usize = 8;

#[derive(Debug)]
pub(super) struct Ranking {
    keep: usize,
    named: HashMap<u64, Ranked>,
    /// At least `keep` others have so much or more.
    floor: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranked {
    pub(super) count: u32,
    pub(super) counter: CounterName,
}

/// A counter, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CounterName {
    pub(super) limit_id: Arc<str>,
    /// `user=alice,path=/up`.
    pub(super) descriptor: Box<str>,
}

impl Ranking {
    pub(super) fn new(keep: usize) -> Ranking {
        Ranking { keep, named: HashMap::new(), floor: 0 }
    }

    /// `count` is what whoever has this `hash` has now; `name` is only called where it may matter.
    pub(super) fn note(&mut self, hash: u64, count: u32, name: impl FnOnce() -> CounterName) {
        if count < self.floor || self.keep == 0 {
            return;
        }
        self.named.entry(hash).or_insert_with(|| Ranked { count, counter: name() }).count = count;
        if self.named.len() >= SLACK * self.keep + SLACK {
            let first = self.sorted();
            self.floor = first.last().map_or(0, |(_, last)| last.count);
            self.named = first.into_iter().collect();
        }
    }

    /// The first `keep`: who has most comes first, and of those with as much the one whose name does.
    pub(super) fn first(mut self) -> Vec<Ranked> {
        self.sorted().into_iter().map(|(_, ranked)| ranked).collect()
    }

    fn sorted(&mut self) -> Vec<(u64, Ranked)> {
        let mut all: Vec<_> = self.named.drain().collect();
        all.sort_by(|(_, one), (_, other)| other.count.cmp(&one.count).then_with(|| one.counter.cmp(&other.counter)));
        all.truncate(self.keep);
        all
    }
}
