//! Orders the requests of a batch: finds those that are identical, which the script is sent once, and those whose
//! counters no other request has, which it may decide in any order. It numbers keys, terms and groups; `batch` packs the
//! numbers.
//!
//! - A *check* is one counter of a request, as the number of its key and the number of its term (a limit and a cost).
//! - A *group* are the identical requests: the same checks in the same order, and the same gate. It is sent once, with
//!   the number of its members.
//! - A group is *independent* if it has one member or one check, isn't denied elsewhere, checks no log, and each of its
//!   counters is in no other check of any group.
//! - A *run* is what the script reads at once: independent groups that differ in nothing but their keys, or one other
//!   group.
//!
//! Invariants: (1) independent groups come first, sorted so that those of one run are neighbours; (2) all others keep
//! the order in which their first member came, because they may see each other's hits; (3) the members of a group are
//! decided one right after the other; (4) every request is in exactly one group, and its readings are found by its group
//! and by how many members came before it.
//!
//! Example: the requests a, b, a, b+c and d, each with the same term; the letters are their counters. The keys are a=0,
//! b=1, c=2, d=3, and the groups 0: a twice, 1: b, 2: b+c, 3: d. Groups 0 and 3 are independent; 1 and 2 share b. The
//! order is 3 (one member), 0 (two members), 1, 2, which makes four runs, and the readings are those of d, a, a, b, b,
//! c. The third request is the second member of group 0, so its reading is number 2, counted from 0.

use std::cmp::Ordering;
use std::hash::BuildHasher as _;
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::store::redis::request::{CheckTerms, DENIED, INDEPENDENT, Request};

/// Builds a batch. Keys, terms and groups are numbered in the order in which they first came.
#[derive(Default)]
pub(super) struct BatchBuilder<'a> {
    pub keys: Vec<&'a [u8]>,
    pub layout: BatchLayout,
    /// Number of keys of logs, which stand behind all others.
    pub logs: usize,
    /// For each key the number of checks that have it, over all groups.
    uses: Vec<u16>,
    known_keys: HashTable<u16>,
    known_groups: HashTable<u16>,
    hasher: FixedState,
}

/// The order of a batch, by which its call is packed and its reply is read.
#[derive(Default)]
pub(super) struct BatchLayout {
    pub terms: Vec<CheckTerms>,
    checks: Vec<NumberedCheck>,
    groups: Vec<RequestGroup>,
    /// For each request its group, and the number of members that came before it there.
    members: Vec<(u16, u16)>,
    /// The order in which groups are sent and answered.
    order: Vec<u16>,
}

/// A check, as the numbers of its key and its term.
#[derive(Clone, Copy, PartialEq, Hash)]
pub(super) struct NumberedCheck {
    pub key: u16,
    pub term: u16,
}

/// Identical requests.
pub(super) struct RequestGroup {
    /// Its checks, among all checks of the batch.
    checks: Range<u32>,
    pub gate: u8,
    pub members: u16,
    /// Position of its first member's first reading, among all readings.
    first_reading: u32,
}

impl<'a> BatchBuilder<'a> {
    pub(super) fn of(requests: impl Iterator<Item = &'a Request>) -> BatchBuilder<'a> {
        let mut gathering = BatchBuilder {
            keys: Vec::with_capacity(128),
            uses: Vec::with_capacity(128),
            known_keys: HashTable::with_capacity(128),
            known_groups: HashTable::with_capacity(128),
            layout: BatchLayout {
                checks: Vec::with_capacity(128),
                groups: Vec::with_capacity(128),
                members: Vec::with_capacity(128),
                ..BatchLayout::default()
            },
            ..BatchBuilder::default()
        };
        requests.for_each(|request| gathering.add(request));
        gathering.mark_independent();
        gathering.layout.set_order();
        gathering
    }

    fn add(&mut self, request: &'a Request) {
        let begin = self.layout.checks.len();
        for (key, term) in request.keys().zip(&request.terms) {
            let known = self.keys.len();
            let check = NumberedCheck { key: self.number_of(key), term: self.layout.number_of(term) };
            self.logs += usize::from(self.keys.len() > known && term.is_of_log());
            self.layout.checks.push(check);
        }
        let number = self.group_of(begin, request.gate);
        let members = &mut self.layout.groups[usize::from(number)].members;
        self.layout.members.push((number, *members));
        *members += 1;
    }

    fn number_of(&mut self, key: &'a [u8]) -> u16 {
        let (keys, hasher) = (&mut self.keys, &self.hasher);
        let hash = hasher.hash_one(key);
        if let Some(known) = self.known_keys.find(hash, |number| keys[usize::from(*number)] == key) {
            return *known;
        }
        let number = keys.len() as u16;
        self.known_keys.insert_unique(hash, number, |number| hasher.hash_one(keys[usize::from(*number)]));
        keys.push(key);
        self.uses.push(0);
        number
    }

    /// The group of a request whose checks are the last ones. They are kept only if the group is new.
    fn group_of(&mut self, begin: usize, gate: u8) -> u16 {
        let (layout, hasher) = (&mut self.layout, &self.hasher);
        let hash = hasher.hash_one((gate, &layout.checks[begin..]));
        let is_same = |number: &u16| {
            let group = layout.group(*number);
            group.gate == gate && layout.checks_of(group) == &layout.checks[begin..]
        };
        if let Some(&known) = self.known_groups.find(hash, is_same) {
            layout.checks.truncate(begin);
            return known;
        }
        let number = layout.groups.len() as u16;
        let rehash = |number: &u16| {
            let group = layout.group(*number);
            hasher.hash_one((group.gate, layout.checks_of(group)))
        };
        self.known_groups.insert_unique(hash, number, rehash);
        layout.checks[begin..].iter().for_each(|check| self.uses[usize::from(check.key)] += 1);
        let checks = begin as u32..layout.checks.len() as u32;
        layout.groups.push(RequestGroup { checks, gate, members: 0, first_reading: 0 });
        number
    }

    fn mark_independent(&mut self) {
        let layout = &mut self.layout;
        for group in &mut layout.groups {
            let checks = &layout.checks[group.checks.start as usize..group.checks.end as usize];
            let is_simple = (group.members == 1 || checks.len() == 1)
                && group.gate & DENIED == 0
                && (self.logs == 0 || checks.iter().all(|check| !layout.terms[usize::from(check.term)].is_of_log()));
            if is_simple && checks.iter().all(|check| self.uses[usize::from(check.key)] == 1) {
                group.gate |= INDEPENDENT;
            }
        }
    }
}

impl BatchLayout {
    /// The number of a term. A batch has few terms, one for each limit, cost and role, so a search beats a hash.
    fn number_of(&mut self, term: &CheckTerms) -> u16 {
        let known = self.terms.iter().position(|known| known == term);
        known.unwrap_or_else(|| {
            self.terms.push(*term);
            self.terms.len() - 1
        }) as u16
    }

    fn group(&self, number: u16) -> &RequestGroup {
        &self.groups[usize::from(number)]
    }

    pub(super) fn checks_of(&self, group: &RequestGroup) -> &[NumberedCheck] {
        &self.checks[group.checks.start as usize..group.checks.end as usize]
    }

    /// Puts independent groups first, because they may be decided in any order, with those of one run together; the
    /// others keep their order.
    fn set_order(&mut self) {
        let mut order: Vec<u16> = (0..self.groups.len() as u16).collect();
        // The sort is stable, and quick if all groups are alike.
        order.sort_by(|&a, &b| self.compare(self.group(a), self.group(b)));
        let mut next = 0;
        for &number in &order {
            let group = &mut self.groups[usize::from(number)];
            group.first_reading = next;
            next += (group.checks.end - group.checks.start) * u32::from(group.members);
        }
        self.order = order;
    }

    fn compare(&self, a: &RequestGroup, b: &RequestGroup) -> Ordering {
        let terms = |group| self.checks_of(group).iter().map(|check| check.term);
        match (a.is_independent(), b.is_independent()) {
            (true, true) => (a.gate, a.members).cmp(&(b.gate, b.members)).then_with(|| terms(a).cmp(terms(b))),
            (false, false) => Ordering::Equal,
            (a, b) => b.cmp(&a),
        }
    }

    /// In the order of the script.
    pub(super) fn groups(&self) -> impl Iterator<Item = &RequestGroup> {
        self.order.iter().map(|&number| self.group(number))
    }

    /// As [`BatchLayout::groups`], in runs: independent groups that differ in their keys only, or one other group.
    pub(super) fn runs(&self) -> impl Iterator<Item = &[u16]> {
        self.order.chunk_by(|&a, &b| {
            let (a, b) = (self.group(a), self.group(b));
            a.is_independent() && b.is_independent() && self.compare(a, b).is_eq()
        })
    }

    pub(super) fn groups_of<'s>(&'s self, run: &'s [u16]) -> impl Iterator<Item = &'s RequestGroup> {
        run.iter().map(|&number| self.group(number))
    }

    /// The positions of the readings of request `nth`, among all readings.
    pub(super) fn readings_of(&self, nth: usize) -> Range<usize> {
        let (number, earlier) = self.members[nth];
        let group = self.group(number);
        let checks = group.checks.len();
        let begin = group.first_reading as usize + usize::from(earlier) * checks;
        begin..begin + checks
    }

    /// Number of requests that are merged with an identical one.
    pub(super) fn merged(&self) -> usize {
        self.members.len() - self.groups.len()
    }
}

impl RequestGroup {
    pub(super) fn is_independent(&self) -> bool {
        self.gate & INDEPENDENT != 0
    }
}
