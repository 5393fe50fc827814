//! What a store answers: a reading for each ask, and whether anybody was asked for it.

use std::ops::{Deref, DerefMut};

use smallvec::{SmallVec, smallvec};

use crate::limit::Reading;

/// One reading per ask, in order. Used as the list that it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    list: SmallVec<[Reading; 4]>,
    /// A denial that was remembered: no counter was looked at.
    pub remembered: bool,
}

impl Readings {
    pub fn new() -> Readings {
        Readings::default()
    }

    pub fn from_slice(list: &[Reading]) -> Readings {
        list.iter().copied().collect()
    }
}

impl From<Reading> for Readings {
    fn from(only: Reading) -> Readings {
        Readings { list: smallvec![only], remembered: false }
    }
}

impl FromIterator<Reading> for Readings {
    fn from_iter<T: IntoIterator<Item = Reading>>(list: T) -> Readings {
        Readings { list: list.into_iter().collect(), remembered: false }
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
