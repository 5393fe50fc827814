//! What a store answers: a reading for each ask, and whether anybody was asked for it; or why there is no answer.

use std::ops::{Deref, DerefMut};

use smallvec::{SmallVec, smallvec};

use crate::limit::{Reading, UnixMicros, moment};

/// The readings of a request's checks, in order. It is used as a list; equality ignores the times.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    list: SmallVec<[Reading; 4]>,
    /// Whether this is a denial from the cache: no counter was read.
    pub is_from_cache: bool,
    /// When Redis decided, by its clock; 0 if Redis was not asked.
    pub at: UnixMicros,
    /// The time of each check, if they were not decided together.
    times: Option<Box<[UnixMicros]>>,
}

impl Readings {
    pub fn new() -> Readings {
        Readings::default()
    }

    pub fn from_slice(list: &[Reading]) -> Readings {
        list.iter().copied().collect()
    }

    /// The readings of a request that was decided in sub-requests, each with its time.
    pub(super) fn with_times(list: impl Iterator<Item = (Reading, UnixMicros)>) -> Readings {
        let (list, times): (SmallVec<_>, Vec<_>) = list.unzip();
        Readings { list, times: Some(times.into()), ..Readings::default() }
    }

    /// When Redis decided check `nth`, by its clock.
    pub(super) fn time(&self, nth: usize) -> UnixMicros {
        self.times.as_ref().map_or(self.at, |times| times[nth])
    }
}

impl PartialEq for Readings {
    fn eq(&self, other: &Readings) -> bool {
        (&self.list, self.is_from_cache) == (&other.list, other.is_from_cache)
    }
}

impl From<Reading> for Readings {
    fn from(only: Reading) -> Readings {
        Readings { list: smallvec![only], ..Readings::default() }
    }
}

impl FromIterator<Reading> for Readings {
    fn from_iter<T: IntoIterator<Item = Reading>>(list: T) -> Readings {
        Readings { list: list.into_iter().collect(), ..Readings::default() }
    }
}

impl Deref for Readings {
    type Target = SmallVec<[Reading; 4]>;

    fn deref(&self) -> &SmallVec<[Reading; 4]> {
        &self.list
    }
}

impl DerefMut for Readings {
    fn deref_mut(&mut self) -> &mut SmallVec<[Reading; 4]> {
        &mut self.list
    }
}

impl<'a> IntoIterator for &'a Readings {
    type Item = &'a Reading;
    type IntoIter = std::slice::Iter<'a, Reading>;

    fn into_iter(self) -> std::slice::Iter<'a, Reading> {
        self.list.iter()
    }
}

impl<'a> IntoIterator for &'a mut Readings {
    type Item = &'a mut Reading;
    type IntoIter = std::slice::IterMut<'a, Reading>;

    fn into_iter(self) -> std::slice::IterMut<'a, Reading> {
        self.list.iter_mut()
    }
}

impl IntoIterator for Readings {
    type Item = Reading;
    type IntoIter = smallvec::IntoIter<[Reading; 4]>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

/// Why the store gave no readings, split by what the operator does next. The limiter then answers by the limits'
/// failure policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Look at the network and at Redis' own state.
    #[error("the store can't be reached: {0}")]
    Unreachable(String),
    /// Look at Redis' load, or allow more time.
    #[error("the store gave no answer within {}", moment::length_in_words(.0.as_micros() as u64))]
    Timeout(std::time::Duration),
    /// Look at the error that Redis replied: permissions, memory, persistence.
    #[error("the store refused: {0}")]
    Refused(String),
    /// Add capacity: requests come faster than they can be counted.
    #[error("too many requests wait for the store")]
    Overloaded,
    /// Report it: the log has the panic that was caught.
    #[error("the decision failed; the service's log says where")]
    Defect,
}
