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

use crate::store::redis::request::{APART, DENIED, Request, Term};

/// Builds a batch. Keys, terms and groups are numbered in the order in which they first came.
#[derive(Default)]
pub(super) struct Gathering<'a> {
    pub keys: Vec<&'a [u8]>,
    pub told: Told,
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
pub(super) struct Told {
    pub terms: Vec<Term>,
    asks: Vec<Numbered>,
    groups: Vec<Group>,
    /// For each request its group, and the number of members that came before it there.
    members: Vec<(u16, u16)>,
    /// The order in which groups are sent and answered.
    order: Vec<u16>,
}

/// A check, as the numbers of its key and its term.
#[derive(Clone, Copy, PartialEq, Hash)]
pub(super) struct Numbered {
    pub key: u16,
    pub term: u16,
}

/// Identical requests.
pub(super) struct Group {
    /// Its checks, among all checks of the batch.
    asks: Range<u32>,
    pub gate: u8,
    pub members: u16,
    /// Position of its first member's first reading, among all readings.
    first_reading: u32,
}

impl<'a> Gathering<'a> {
    pub(super) fn of(requests: impl Iterator<Item = &'a Request>) -> Gathering<'a> {
        let mut gathering = Gathering {
            keys: Vec::with_capacity(128),
            uses: Vec::with_capacity(128),
            known_keys: HashTable::with_capacity(128),
            known_groups: HashTable::with_capacity(128),
            told: Told {
                asks: Vec::with_capacity(128),
                groups: Vec::with_capacity(128),
                members: Vec::with_capacity(128),
                ..Told::default()
            },
            ..Gathering::default()
        };
        requests.for_each(|request| gathering.add(request));
        gathering.mark_apart();
        gathering.told.set_order();
        gathering
    }

    fn add(&mut self, request: &'a Request) {
        let begin = self.told.asks.len();
        for (key, term) in request.keys().zip(&request.terms) {
            let known = self.keys.len();
            let ask = Numbered { key: self.number_of(key), term: self.told.number_of(term) };
            self.logs += usize::from(self.keys.len() > known && term.is_of_log());
            self.told.asks.push(ask);
        }
        let number = self.group_of(begin, request.gate);
        let members = &mut self.told.groups[usize::from(number)].members;
        self.told.members.push((number, *members));
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
        let (told, hasher) = (&mut self.told, &self.hasher);
        let hash = hasher.hash_one((gate, &told.asks[begin..]));
        let is_same = |number: &u16| {
            let group = told.group(*number);
            group.gate == gate && told.asks(group) == &told.asks[begin..]
        };
        if let Some(&known) = self.known_groups.find(hash, is_same) {
            told.asks.truncate(begin);
            return known;
        }
        let number = told.groups.len() as u16;
        let rehash = |number: &u16| {
            let group = told.group(*number);
            hasher.hash_one((group.gate, told.asks(group)))
        };
        self.known_groups.insert_unique(hash, number, rehash);
        told.asks[begin..].iter().for_each(|ask| self.uses[usize::from(ask.key)] += 1);
        let asks = begin as u32..told.asks.len() as u32;
        told.groups.push(Group { asks, gate, members: 0, first_reading: 0 });
        number
    }

    fn mark_apart(&mut self) {
        let told = &mut self.told;
        for group in &mut told.groups {
            let asks = &told.asks[group.asks.start as usize..group.asks.end as usize];
            let is_simple = (group.members == 1 || asks.len() == 1)
                && group.gate & DENIED == 0
                && (self.logs == 0 || asks.iter().all(|ask| !told.terms[usize::from(ask.term)].is_of_log()));
            if is_simple && asks.iter().all(|ask| self.uses[usize::from(ask.key)] == 1) {
                group.gate |= APART;
            }
        }
    }
}

impl Told {
    /// The number of a term. A batch has few terms, one for each limit, cost and role, so a search beats a hash.
    fn number_of(&mut self, term: &Term) -> u16 {
        let known = self.terms.iter().position(|known| known == term);
        known.unwrap_or_else(|| {
            self.terms.push(*term);
            self.terms.len() - 1
        }) as u16
    }

    fn group(&self, number: u16) -> &Group {
        &self.groups[usize::from(number)]
    }

    pub(super) fn asks(&self, group: &Group) -> &[Numbered] {
        &self.asks[group.asks.start as usize..group.asks.end as usize]
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
            next += (group.asks.end - group.asks.start) * u32::from(group.members);
        }
        self.order = order;
    }

    fn compare(&self, a: &Group, b: &Group) -> Ordering {
        let terms = |group| self.asks(group).iter().map(|ask| ask.term);
        match (a.is_apart(), b.is_apart()) {
            (true, true) => (a.gate, a.members).cmp(&(b.gate, b.members)).then_with(|| terms(a).cmp(terms(b))),
            (false, false) => Ordering::Equal,
            (a, b) => b.cmp(&a),
        }
    }

    /// In the order of the script.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.order.iter().map(|&number| self.group(number))
    }

    /// As [`Told::groups`], in runs: independent groups that differ in their keys only, or one other group.
    pub(super) fn runs(&self) -> impl Iterator<Item = &[u16]> {
        self.order.chunk_by(|&a, &b| {
            let (a, b) = (self.group(a), self.group(b));
            a.is_apart() && b.is_apart() && self.compare(a, b).is_eq()
        })
    }

    pub(super) fn groups_of<'s>(&'s self, run: &'s [u16]) -> impl Iterator<Item = &'s Group> {
        run.iter().map(|&number| self.group(number))
    }

    /// The positions of the readings of request `nth`, among all readings.
    pub(super) fn readings_of(&self, nth: usize) -> Range<usize> {
        let (number, earlier) = self.members[nth];
        let group = self.group(number);
        let asks = group.asks.len();
        let begin = group.first_reading as usize + usize::from(earlier) * asks;
        begin..begin + asks
    }

    /// Number of requests that are merged with an identical one.
    pub(super) fn merged(&self) -> usize {
        self.members.len() - self.groups.len()
    }
}

impl Group {
    pub(super) fn is_apart(&self) -> bool {
        self.gate & APART != 0
    }
}
