//! Reads one override row from its node tree, wherever it is written: in a file, inline in the rules, or in a call of
//! the API. All are checked by the same code. Every mistake of a row is reported with its location; a row is only
//! returned if there was none.
//!
//! A row goes through these steps, each of which may report problems:
//!
//! 1. its fields: `match` and `limit`, and optionally `expires`, `reason` and `owner` (the API's also `rule`);
//! 2. its match: keys and values, as a map or as a list of entries;
//! 3. its limits: one or several, or unlimited, with defaults and tiers of the domain;
//! 4. the order of its match. For one rule that is the order of the rule's path, and each key gets its position there;
//!    for the domain it is the alphabet;
//! 5. its shape, which is the keys in that order and, for one rule, the rule and the positions. A new shape must fit
//!    some rule, in at most [`FITS_MAX`] ways.
//!
//! Invariants: (1) a row names at least one key, and each value has 1 to [`VALUE_MAX`] bytes; (2) values are in the
//! order of the shape's keys; (3) in a row for one rule, each value can get to its level of the path: `region: eu` is
//! refused where the path says `region: us`.
//!
//! Example: the rule's path is `tenant`, `user`, and the row is `{match: {user: alice, tenant: acme}, limit: 5/s}`.
//! Written entry 1 is `tenant`, at position 0, and entry 0 is `user`, at position 1: the order is [1, 0], the positions
//! are [0, 1], and the row is the shape `tenant`, `user` with the values `acme`, `alice` and a limit of 5 per second.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use smallvec::SmallVec;

use super::{
    Grant, Row, Scope, Shape,
    builder::Builder,
    shape::{FITS_MAX, Positions, fits, meets},
};
use crate::{
    limit::{UnixMicros, moment},
    rules::{
        Domain, Level, Problems, Rule, Source,
        fields::{ENTRY, Fields, GRANT, OVERRIDE, Pen, RUN_TIME_OVERRIDE, nearest},
        json, name,
        problem::Report,
        terms::Around,
        yaml::{Node, Place, Value},
    },
};

/// Longest value of a match in bytes: rows stay in memory.
pub(super) const VALUE_MAX: usize = 128 << 10;

/// The rule or rules that a row is for.
#[derive(Clone, Copy)]
pub(crate) enum Target<'r> {
    Rule {
        id: &'r Arc<str>,
        path: &'r [Arc<Level>],
    },
    /// Every rule that has its keys.
    Domain {
        rules: &'r [Rule],
        keys: &'r BTreeSet<&'r str>,
    },
}

/// What rows are checked against, and the time at which they are read.
#[derive(Clone, Copy)]
pub(crate) struct Context<'c> {
    pub(crate) domain: &'c str,
    pub(crate) target: Target<'c>,
    pub(crate) around: &'c Around,
    /// Rows that end before this are reported as having no effect.
    pub(crate) read_at: UnixMicros,
}

/// A part of a row's match, for the location of a problem.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Row,
    Key(usize),
    Value(usize),
}

/// The order of a match: `order[n]` is the position, as written, of the entry that comes at `n` in the shape.
pub(crate) struct Bound {
    pub(crate) order: SmallVec<[u8; 8]>,
    /// Positions in a rule's path; none if the row is for the domain.
    pub(crate) positions: Option<Positions>,
}

/// An entry of `match`, and the locations of its key and value.
struct Named<'n> {
    key: &'n str,
    value: &'n str,
    places: (Place, Place),
}

impl Pen<'_> {
    /// Reads a list of rows into `builder`.
    pub(crate) fn rows(&mut self, node: &Node<'_>, context: &Context<'_>, (origin, builder): (u32, &mut Builder)) {
        let Value::List(items) = &node.value else {
            self.error(node.at, format!("overrides must be a list, not {}", node.kind()))
                .hint("begin each of them with `- match:`");
            return;
        };
        for item in items.iter() {
            if let Some(row) = self.row(item, context, builder) {
                builder.add_row((origin, item.at), &row);
            }
        }
    }

    pub(crate) fn row(&mut self, node: &Node<'_>, context: &Context<'_>, builder: &Builder) -> Option<Row> {
        let fields = self.fields(node, &OVERRIDE)?;
        self.row_of(&fields, context, builder)
    }

    fn row_of(&mut self, fields: &Fields<'_, '_>, context: &Context<'_>, known: &Builder) -> Option<Row> {
        let errors = self.report.errors();
        let named = self.named(fields);
        let grant = self.grant_of(fields, context);
        let expires = fields.get("expires").and_then(|node| self.expires(node, context.read_at));
        let mut text = |key| fields.get(key).and_then(|node| self.text(node)).unwrap_or_default().into();
        let (reason, owner) = (text("reason"), text("owner"));
        let (named, grant) = (named?, grant?);
        let entries: SmallVec<[(&str, &str); 4]> = named.iter().map(|named| (named.key, named.value)).collect();
        let place = |part| match part {
            Part::Row => fields.place("match"),
            Part::Key(index) => named[index].places.0,
            Part::Value(index) => named[index].places.1,
        };
        let bound = self.bind(&entries, context.target, &place)?;
        let shape = context.target.shape(&entries, &bound);
        if known.known_shape(&shape).is_none() {
            self.check_shape(&shape, context.target, place(Part::Row));
        }
        let values = bound.order.iter().map(|index| entries[usize::from(*index)].1.into()).collect();
        let row = Row { shape, values, grant: Arc::new(grant), expires, reason, owner };
        (self.report.errors() == errors).then_some(row)
    }

    /// Reads the match: `{user: alice}`, or `[{key: user, value: alice}]`.
    fn named<'n>(&mut self, fields: &Fields<'n, '_>) -> Option<Vec<Named<'n>>> {
        let Some(node) = fields.get("match") else {
            if fields.all_known {
                self.error(fields.at, "an override must have a `match`").hint("write it as `match: {user: alice}`");
            }
            return None;
        };
        let errors = self.report.errors();
        let mut named: Vec<Named<'n>> = Vec::new();
        match &node.value {
            Value::Map(entries) => {
                for (key, value) in entries.iter() {
                    let Some(text) = self.key(key) else { continue };
                    if named.iter().any(|earlier| earlier.key == text) {
                        self.error(key.at, format!("`{text}` is named twice")).hint(
                            "a key that stands twice in a descriptor is written as `match: [{key: …, value: …}, …]`",
                        );
                    }
                    named.extend(self.named_value(value).map(|value_text| Named {
                        key: text,
                        value: value_text,
                        places: (key.at, value.at),
                    }));
                }
            }
            Value::List(items) => {
                for item in items.iter() {
                    let Some(entry) = self.fields(item, &ENTRY) else { continue };
                    let (Some(key), Some(value)) = (entry.get("key"), entry.get("value")) else {
                        self.error(item.at, "an entry of `match` must have a `key` and a `value`");
                        continue;
                    };
                    let (Some(text), Some(value_text)) = (self.text(key), self.named_value(value)) else { continue };
                    named.push(Named { key: text, value: value_text, places: (key.at, value.at) });
                }
            }
            Value::Scalar { .. } => {
                self.error(node.at, format!("`match` must be a map, not {}", node.kind()))
                    .hint("write it as `match: {user: alice}`");
            }
        }
        (self.report.errors() == errors).then_some(named)
    }

    fn named_value<'n>(&mut self, node: &'n Node<'_>) -> Option<&'n str> {
        if node.is_null() {
            self.error(node.at, "a value is missing here").hint("leave the key out to match any value");
            return None;
        }
        self.text(node)
    }

    fn grant_of(&mut self, fields: &Fields<'_, '_>, context: &Context<'_>) -> Option<Grant> {
        match fields.get("limit") {
            Some(node) => self.grant(node, context),
            None => {
                if fields.all_known {
                    self.error(fields.at, "an override must have a `limit`")
                        .hint("write it as `limit: 5/s`, `limit: {tier: gold}` or `limit: unlimited`");
                }
                None
            }
        }
    }

    pub(crate) fn grant(&mut self, node: &Node<'_>, context: &Context<'_>) -> Option<Grant> {
        let errors = self.report.errors();
        let forms = self.forms(node, &GRANT, &context.around.tiers)?;
        if forms.iter().all(|form| form.quota.is_none()) {
            return Some(Grant::Unlimited);
        }
        let id: Arc<str> = name::override_id(context.domain).into();
        let limits = self.limits(&forms, context.around, |_| Arc::clone(&id), None);
        (self.report.errors() == errors).then_some(Grant::Limits(limits))
    }

    pub(crate) fn expires(&mut self, node: &Node<'_>, read_at: UnixMicros) -> Option<UnixMicros> {
        let text = self.text(node)?;
        self.expires_text(text, node.at, read_at)
    }

    pub(crate) fn expires_text(&mut self, text: &str, at: Place, read_at: UnixMicros) -> Option<UnixMicros> {
        match moment::parse(text) {
            Ok(expires) => {
                if expires <= read_at {
                    self.warn(at, format!("this override ended at {}: it has no effect", moment::text(expires)))
                        .hint("remove it, or give it a later `expires`");
                }
                Some(expires)
            }
            Err(why) => {
                self.error(at, format!("`{text}` is no moment")).hint(why);
                None
            }
        }
    }

    /// Finds the order of a match for its rule or for the domain.
    pub(crate) fn bind(
        &mut self,
        named: &[(&str, &str)],
        target: Target<'_>,
        place: &dyn Fn(Part) -> Place,
    ) -> Option<Bound> {
        if named.is_empty() {
            self.error(place(Part::Row), "this override names no key: it would be for everybody")
                .hint("change the rule's own limit instead");
            return None;
        }
        let mut is_sound = true;
        for (index, (key, value)) in named.iter().enumerate() {
            let what = match value.len() {
                0 => format!("the value of `{key}` is empty"),
                length if length > VALUE_MAX => format!("a value of {length} bytes is longer than {VALUE_MAX}"),
                _ => continue,
            };
            self.error(place(Part::Value(index)), what).hint("leave the key out to match any value");
            is_sound = false;
        }
        let bound = match target {
            Target::Rule { path, .. } => self.bind_to_path(named, target, path, place)?,
            Target::Domain { keys, .. } => self.bind_to_domain(named, target, keys, place)?,
        };
        is_sound.then_some(bound)
    }

    fn bind_to_domain(
        &mut self,
        named: &[(&str, &str)],
        target: Target<'_>,
        keys: &BTreeSet<&str>,
        place: &dyn Fn(Part) -> Place,
    ) -> Option<Bound> {
        let mut is_sound = true;
        for (index, (key, _)) in named.iter().enumerate().filter(|(_, (key, _))| !keys.contains(key)) {
            is_sound &= self.check_key(key, target, place(Part::Key(index)));
        }
        let mut order: SmallVec<[u8; 8]> = (0..named.len() as u8).collect();
        order.sort_by_key(|index| named[usize::from(*index)].0);
        is_sound.then_some(Bound { order, positions: None })
    }

    fn bind_to_path(
        &mut self,
        named: &[(&str, &str)],
        target: Target<'_>,
        path: &[Arc<Level>],
        place: &dyn Fn(Part) -> Place,
    ) -> Option<Bound> {
        let mut found: SmallVec<[(u8, u8); 8]> = SmallVec::new();
        for (index, (key, _)) in named.iter().enumerate() {
            if !path.iter().any(|level| *level.key == **key) {
                self.check_key(key, target, place(Part::Key(index)));
                return None;
            }
            let alike = named.iter().take(index).filter(|(other, _)| other == key).count();
            let position = self.position(named, index, alike, path, place)?;
            found.push((position, index as u8));
        }
        found.sort_unstable();
        let (positions, order) = found.into_iter().unzip();
        Some(Bound { order, positions: Some(positions) })
    }

    /// The position in the rule's path of the entry `index`, which is number `alike` of the entries with its key.
    fn position(
        &mut self,
        named: &[(&str, &str)],
        index: usize,
        alike: usize,
        path: &[Arc<Level>],
        place: &dyn Fn(Part) -> Place,
    ) -> Option<u8> {
        let (key, value) = named[index];
        let at: SmallVec<[usize; 4]> = (0..path.len()).filter(|position| *path[*position].key == *key).collect();
        let of_key = named.iter().filter(|(other, _)| *other == key).count();
        if of_key > at.len() {
            let what = format!("`{key}` is named {of_key} times, and stands {} in the rule's path", times(at.len()));
            self.error(place(Part::Key(index)), what);
            return None;
        }
        let fitting: SmallVec<[usize; 4]> =
            at.iter().copied().filter(|position| meets(&path[*position], value)).collect();
        let chosen = match fitting.as_slice() {
            _ if of_key == at.len() => Some(at[alike]).filter(|position| meets(&path[*position], value)),
            [] => None,
            [only] => Some(*only),
            _ => {
                let what = format!("`{key}` stands {} in the rule's path: which one is meant?", times(at.len()));
                self.error(place(Part::Key(index)), what).hint("name them all, in their order");
                return None;
            }
        };
        if chosen.is_none() {
            let own = path[at[alike.min(at.len() - 1)]].value.text().unwrap_or_default();
            let what = format!("`{key}` is `{own}` in this rule: `{value}` never gets here");
            self.error(place(Part::Value(index)), what);
        }
        chosen.map(|position| position as u8)
    }

    /// Whether a row may name a key; reports it if not.
    pub(crate) fn check_key(&mut self, key: &str, target: Target<'_>, at: Place) -> bool {
        let (names, what): (Vec<&str>, _) = match target {
            Target::Rule { path, .. } => (path.iter().map(|level| &*level.key).collect(), "this rule's path has no"),
            Target::Domain { keys, .. } => (keys.iter().copied().collect(), "no rule of this domain has the"),
        };
        if names.contains(&key) {
            return true;
        }
        let problem = self.error(at, format!("{what} key `{key}`"));
        match nearest(key, &names) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None if names.len() <= 20 => problem.hint(format!("it may name {}", names.join(", "))),
            None => {}
        }
        false
    }

    /// Reports a shape that fits no rule, or fits one in too many ways.
    pub(crate) fn check_shape(&mut self, shape: &Shape, target: Target<'_>, at: Place) {
        let Target::Domain { rules, .. } = target else { return };
        let ways = |rule: &Rule| fits(&shape.keys, &rule.path).len();
        let most = rules.iter().map(ways).max().unwrap_or(0);
        let keys = shape.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ");
        if most == 0 {
            self.error(at, format!("no rule has {keys} in one descriptor: this override would never apply"));
        } else if most > FITS_MAX {
            self.error(at, format!("{keys} can be found in a rule's path in more than {FITS_MAX} ways"));
        }
    }
}

impl Target<'_> {
    pub(crate) fn shape(&self, named: &[(&str, &str)], bound: &Bound) -> Shape {
        let keys = bound.order.iter().map(|index| named[usize::from(*index)].0.into()).collect();
        let scope = match (self, &bound.positions) {
            (Target::Rule { id, .. }, Some(positions)) => {
                Scope::Rule { id: Arc::clone(id), positions: positions.clone() }
            }
            _ => Scope::Domain,
        };
        Shape { scope, keys }
    }
}

fn times(number: usize) -> String {
    match number {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        number => format!("{number} times"),
    }
}

/// The file name in problems of the API.
const WRITTEN: &str = "override";

impl Domain {
    /// Reads one override as the API and the command line write it: a JSON object with `match`, `limit` and, if need be,
    /// `rule`, `expires`, `reason` and `owner`, checked as a row of a file is. With a `rule` (an id, with or without the
    /// domain) it is for that rule alone, else for every rule that has its keys. An `expires` in the past is no error
    /// here: who asks knows what time it is.
    pub fn read_override(&self, written: &str) -> Result<Row, Problems> {
        let mut report = Report::default();
        let path = Path::new(WRITTEN);
        let document = json::parse_from(written, 1);
        let mut pen = Pen { report: &mut report, path };
        for fault in &document.faults {
            pen.error(fault.at, fault.what.clone());
        }
        let row = document.root.filter(|_| document.faults.is_empty()).and_then(|root| self.row(&mut pen, &root));
        let source = Source { path: path.to_owned(), bytes: written.as_bytes().to_vec() };
        match row.filter(|_| report.errors() == 0) {
            Some(row) => Ok(row),
            None => Err(report.finish(&[source])),
        }
    }

    /// Reads the limits of an override, its `limit` as JSON: for rows that were checked when they were written, but
    /// whose tier or defaults may have changed since.
    pub fn read_grant(&self, written: &str) -> Result<Grant, Problems> {
        let mut report = Report::default();
        let path = Path::new(WRITTEN);
        let document = json::parse_from(written, 1);
        let mut pen = Pen { report: &mut report, path };
        let target = Target::Domain { rules: &[], keys: &BTreeSet::new() };
        let context = Context { domain: &self.name, target, around: &self.around, read_at: UnixMicros(0) };
        let grant = document.root.filter(|_| document.faults.is_empty()).and_then(|root| pen.grant(&root, &context));
        let source = Source { path: path.to_owned(), bytes: written.as_bytes().to_vec() };
        grant.ok_or_else(|| report.finish(&[source]))
    }

    fn row(&self, pen: &mut Pen<'_>, root: &Node<'_>) -> Option<Row> {
        let fields = pen.fields(root, &RUN_TIME_OVERRIDE)?;
        let keys: BTreeSet<&str> =
            self.rules.iter().flat_map(|rule| rule.path.iter().map(|level| &*level.key)).collect();
        let target = match fields.get("rule") {
            None => Target::Domain { rules: &self.rules, keys: &keys },
            Some(node) => {
                let id = pen.text(node)?;
                let Some(rule) = self.rule(id) else {
                    pen.error(node.at, format!("domain `{}` has no rule `{id}`", self.name));
                    return None;
                };
                Target::Rule { id: &rule.id, path: &rule.path }
            }
        };
        let context = Context { domain: &self.name, target, around: &self.around, read_at: UnixMicros(0) };
        pen.row_of(&fields, &context, &Builder::default())
    }

    /// The rule with an id, with or without the domain before it.
    pub(crate) fn rule(&self, id: &str) -> Option<&Rule> {
        let whole = format!("{}/{id}", name::rule_id(&self.name, &[]));
        self.rules.iter().find(|rule| *rule.id == *id || *rule.id == *whole)
    }
}
