//! Override rows that differ: which match gets a limit of its own, loses it, or gets another one. All are counted, alike
//! ones together; few are named, so that a million of them take little memory.

use std::{collections::HashMap, rc::Rc, sync::LazyLock};

use super::{Rules, domains};
use crate::{
    limit::{UnixMicros, moment},
    rules::{
        Domain,
        changes::{Terms, UNLIMITED, arrow, is_same_counter},
        rows::{
            OverrideLimits, OverrideTable, RowRef, ShapeScope,
            compare::{RowAt, compare},
        },
    },
};

/// The override rows that differ.
#[derive(Default)]
pub struct OverrideChanges<'r> {
    /// Number of matches with a row in force before and after.
    pub in_force: (usize, usize),
    /// All changes, those that say the same of a limit as one, most rows first.
    pub groups: Vec<OverrideGroup>,
    /// The first of each kind.
    pub rows: Vec<OverrideChange<'r>>,
    /// Number of matches that have ended rows in the new rules and none in force: they have no effect.
    pub ended: usize,
    /// How many of each kind and domain are among the rows.
    named: HashMap<(OverrideChangeKind, &'r str), usize>,
}

/// Changes that say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideGroup {
    pub domain: Box<str>,
    pub kind: OverrideChangeKind,
    /// `20 → 30 a minute, counts go on`.
    pub words: Box<str>,
    pub rows: usize,
}

/// In the order of what matters most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverrideChangeKind {
    Removed,
    /// In force before; its row in the new rules has ended.
    Expired,
    Changed,
    Added,
}

/// An override that differs.
pub struct OverrideChange<'r> {
    pub domain: &'r str,
    /// The id of the rule that it is for; `None` is every rule that has its keys.
    pub rule: Option<&'r str>,
    pub kind: OverrideChangeKind,
    /// Either is there.
    pub before: Option<OverrideTerms<'r>>,
    pub after: Option<OverrideTerms<'r>>,
    /// What differs: `20 → 30 a minute, counts go on; reason “trial” → “contract”`.
    pub words: String,
}

/// What a row says.
pub struct OverrideTerms<'r> {
    pub row: RowRef<'r>,
    /// Its limits, in words.
    pub words: Rc<str>,
}

impl OverrideChangeKind {
    pub const ALL: [OverrideChangeKind; 4] = [
        OverrideChangeKind::Removed,
        OverrideChangeKind::Expired,
        OverrideChangeKind::Changed,
        OverrideChangeKind::Added,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            OverrideChangeKind::Removed => "removed",
            OverrideChangeKind::Expired => "expired",
            OverrideChangeKind::Changed => "changed",
            OverrideChangeKind::Added => "added",
        }
    }
}

impl OverrideChange<'_> {
    /// The match: `user=alice,endpoint=/checkout`.
    pub fn matched(&self) -> String {
        self.after.as_ref().or(self.before.as_ref()).map(|terms| terms.row.to_string()).unwrap_or_default()
    }
}

impl OverrideChanges<'_> {
    /// Number of changes of all kinds.
    pub fn differing(&self) -> usize {
        self.groups.iter().map(|group| group.rows).sum()
    }

    /// Number of changes of one kind.
    pub fn count(&self, kind: OverrideChangeKind) -> usize {
        self.groups.iter().filter(|group| group.kind == kind).map(|group| group.rows).sum()
    }
}

pub(super) fn changes<'r>(
    before: &'r Rules,
    after: &'r Rules,
    now: UnixMicros,
    rows_max: usize,
) -> OverrideChanges<'r> {
    let mut all = OverrideChanges::default();
    for (old, new) in domains(before, after) {
        let [old_table, new_table] = [old, new].map(|domain| domain.map_or(&*NO_ROWS, Domain::overrides));
        let domain = new.or(old).map(Domain::name).unwrap_or_default();
        let mut words = Words::of(old_table, new_table);
        let mut groups: HashMap<Group, usize> = HashMap::new();
        compare(old_table, new_table, now, |was, is| all.note(domain, (was, is), &mut words, &mut groups, rows_max));
        all.groups.extend(groups.into_iter().map(|((kind, was, is), rows)| OverrideGroup {
            domain: domain.into(),
            kind,
            words: words.of_group(was, is).into(),
            rows,
        }));
    }
    all.groups.sort_by(|one, other| (one.kind, other.rows, &one.words).cmp(&(other.kind, one.rows, &other.words)));
    all.rows.sort_by_key(|change| change.kind);
    all
}

static NO_ROWS: LazyLock<OverrideTable> = LazyLock::new(OverrideTable::default);

/// Changes of one kind between two numbers of limits; a side without a row in force has none.
type Group = (OverrideChangeKind, Option<u32>, Option<u32>);

impl<'r> OverrideChanges<'r> {
    /// Takes in one match.
    fn note(
        &mut self,
        domain: &'r str,
        (was, is): (RowAt<'r>, RowAt<'r>),
        words: &mut Words<'r>,
        groups: &mut HashMap<Group, usize>,
        rows_max: usize,
    ) {
        let (old, new) = (was.in_force(), is.in_force());
        self.in_force.0 += usize::from(old.is_some());
        self.in_force.1 += usize::from(new.is_some());
        self.ended += usize::from(matches!(is, RowAt::Ended(_)));
        let kind = match (old, new, is) {
            (Some(_), None, RowAt::Ended(_)) => OverrideChangeKind::Expired,
            (Some(_), None, _) => OverrideChangeKind::Removed,
            (None, Some(_), _) => OverrideChangeKind::Added,
            (Some(old), Some(new), _) if words.differ(old, new) => OverrideChangeKind::Changed,
            _ => return,
        };
        let rows = groups.entry((kind, old.map(RowRef::limits_number), new.map(RowRef::limits_number))).or_default();
        *rows += 1;
        // What is named of a kind are its first rows, whatever their groups.
        let named = self.named.entry((kind, domain)).or_default();
        if *named < rows_max {
            *named += 1;
            let is_of = |row: RowRef<'r>| match &row.shape().scope {
                ShapeScope::Rule { id, .. } => Some(&**id),
                ShapeScope::Domain => None,
            };
            let ended = if let RowAt::Ended(row) = is { Some(row) } else { None };
            let (before, after) = (words.before(old), words.after(new.or(ended)));
            self.rows.push(OverrideChange {
                domain,
                rule: new.or(old).and_then(is_of),
                kind,
                words: words.of_rows(kind, before.as_ref(), after.as_ref()),
                before,
                after,
            });
        }
    }
}

impl<'t> RowAt<'t> {
    fn in_force(self) -> Option<RowRef<'t>> {
        match self {
            RowAt::InForce(row) => Some(row),
            RowAt::Absent | RowAt::Ended(_) => None,
        }
    }
}

/// The words of the limits of two tables, and of what differs between two of them, each made once.
struct Words<'r> {
    limits: [Vec<(&'r OverrideLimits, Rc<str>)>; 2],
    pairs: HashMap<(u32, u32), Option<Rc<str>>>,
}

impl<'r> Words<'r> {
    fn of(before: &'r OverrideTable, after: &'r OverrideTable) -> Words<'r> {
        let limits =
            [before, after].map(|table| table.each_limits().map(|limits| (limits, in_words(limits))).collect());
        Words { limits, pairs: HashMap::new() }
    }

    /// What differs between two limits; `None` if nothing does.
    fn pair(&mut self, was: u32, is: u32) -> Option<Rc<str>> {
        let [before, after] = &self.limits;
        let made = || difference(before[was as usize].0, after[is as usize].0).map(Rc::from);
        self.pairs.entry((was, is)).or_insert_with(made).clone()
    }

    fn differ(&mut self, old: RowRef<'_>, new: RowRef<'_>) -> bool {
        self.pair(old.limits_number(), new.limits_number()).is_some()
            || old.expires() != new.expires()
            || old.reason() != new.reason()
            || old.owner() != new.owner()
    }

    fn before(&self, row: Option<RowRef<'r>>) -> Option<OverrideTerms<'r>> {
        self.terms(0, row)
    }

    fn after(&self, row: Option<RowRef<'r>>) -> Option<OverrideTerms<'r>> {
        self.terms(1, row)
    }

    fn terms(&self, side: usize, row: Option<RowRef<'r>>) -> Option<OverrideTerms<'r>> {
        let row = row?;
        Some(OverrideTerms { row, words: Rc::clone(&self.limits[side][row.limits_number() as usize].1) })
    }

    fn of_group(&mut self, was: Option<u32>, is: Option<u32>) -> String {
        match (was, is) {
            (Some(was), Some(is)) => match self.pair(was, is) {
                Some(words) => words.to_string(),
                None => format!("{}, with another end, reason or owner", self.limits[1][is as usize].1),
            },
            (Some(was), None) => format!("was {}", self.limits[0][was as usize].1),
            (None, is) => is.map(|is| self.limits[1][is as usize].1.to_string()).unwrap_or_default(),
        }
    }

    fn of_rows(
        &mut self,
        kind: OverrideChangeKind,
        before: Option<&OverrideTerms<'_>>,
        after: Option<&OverrideTerms<'_>>,
    ) -> String {
        let end = |row: RowRef<'_>| row.expires().map_or("never".to_owned(), moment::write);
        match (kind, before, after) {
            (OverrideChangeKind::Expired, Some(before), Some(after)) => {
                format!("was {}, ended {}", before.words, end(after.row))
            }
            (_, Some(before), Some(after)) => {
                let (old, new) = (before.row, after.row);
                let mut parts: Vec<String> = Vec::new();
                parts.extend(self.pair(old.limits_number(), new.limits_number()).map(|words| words.to_string()));
                let quoted = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("`{text}`") };
                for (what, was, is) in [
                    ("ends", end(old), end(new)),
                    ("reason", quoted(old.reason()), quoted(new.reason())),
                    ("owner", quoted(old.owner()), quoted(new.owner())),
                ] {
                    if was != is {
                        parts.push(format!("{what} {was} → {is}"));
                    }
                }
                parts.join("; ")
            }
            (_, Some(before), None) => format!("was {}", before.words),
            (_, None, after) => after.map_or_else(String::new, |after| {
                let ends = after.row.expires().map(|_| format!(", ends {}", end(after.row))).unwrap_or_default();
                format!("{}{ends}", after.words)
            }),
        }
    }
}

fn in_words(limits: &OverrideLimits) -> Rc<str> {
    match limits.limits() {
        [] => UNLIMITED.into(),
        limits => {
            let words: Vec<String> = limits.iter().map(|limit| Terms::alone(limit).in_words()).collect();
            words.join(" and ").into()
        }
    }
}

fn difference(old: &OverrideLimits, new: &OverrideLimits) -> Option<String> {
    let (was, is) = (old.limits(), new.limits());
    let is_paired = was.len() == is.len() && was.iter().zip(is).all(|(was, is)| was.name == is.name);
    if !is_paired {
        let counts = if was.is_empty() || is.is_empty() { "" } else { ", counts begin afresh" };
        return Some(format!("{}{counts}", arrow(&in_words(old), &in_words(new))));
    }
    let mut parts = Vec::new();
    for (was, is) in was.iter().zip(is) {
        let (before, after) = Terms::alone(was).difference(&Terms::alone(is));
        if before != after {
            let counts = if is_same_counter(was, is) { "counts go on" } else { "counts begin afresh" };
            let name = is.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            parts.push(format!("{name}{}, {counts}", arrow(&before, &after)));
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
