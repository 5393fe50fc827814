//! What was counted in slots of time that are over, for each span in slots of a sixth of it. It knows no cores, and is told
//! the time.

use std::{collections::VecDeque, sync::Arc};

use super::{TopMeasure, TopSpan, list::TopList};
use crate::limit::UnixMicros;

/// Slots of a span that are kept: those that it touches.
pub(super) const SLOTS: u64 = 7;

/// By [`TopMeasure`].
pub(super) type ByMeasure<T> = [T; TopMeasure::ALL.len()];

/// A slot of one span.
struct Slot {
    number: u64,
    lists: ByMeasure<Arc<TopList>>,
}

/// The slots of each span, by [`TopSpan`].
#[derive(Default)]
pub(super) struct History([VecDeque<Slot>; TopSpan::ALL.len()]);

impl History {
    /// Adds what was counted in a slot of the shortest span, of this `number`.
    pub(super) fn add(&mut self, number: u64, lists: &ByMeasure<TopList>, keys_max: usize) {
        for span in TopSpan::ALL {
            let (number, slots) = (number / span.shortest_slots(), &mut self.0[span as usize]);
            let with = |measure: TopMeasure, before: &TopList| {
                Arc::new(TopList::merged([before, &lists[measure as usize]]).cut(keys_max))
            };
            match slots.iter_mut().find(|slot| slot.number == number) {
                Some(slot) => {
                    slot.lists = TopMeasure::ALL.map(|measure| with(measure, &slot.lists[measure as usize]));
                }
                None => {
                    let lists = TopMeasure::ALL.map(|measure| with(measure, &TopList::default()));
                    slots.push_back(Slot { number, lists });
                }
            }
        }
    }

    /// Forgets what no span reaches back to, and what is ahead of a clock that was set back.
    pub(super) fn forget(&mut self, now: UnixMicros) {
        for span in TopSpan::ALL {
            self.0[span as usize].retain(|slot| span.touches(slot.number, now));
        }
    }

    /// Whether there is anything to forget.
    pub(super) fn is_stale(&self, now: UnixMicros) -> bool {
        TopSpan::ALL.iter().any(|span| self.0[*span as usize].iter().any(|slot| !span.touches(slot.number, now)))
    }

    /// The lists of a span that ends `now`, a slot each.
    pub(super) fn lists(&self, span: TopSpan, now: UnixMicros) -> impl Iterator<Item = &ByMeasure<Arc<TopList>>> {
        self.0[span as usize].iter().filter(move |slot| span.touches(slot.number, now)).map(|slot| &slot.lists)
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().flatten().flat_map(|slot| &slot.lists).map(|list| list.bytes()).sum()
    }
}
