//! Reads one override row from its node tree, wherever it is written: in a file of YAML or JSON, inline in the rules, or
//! in a call of the API. All are checked by the same code. Every mistake of a row is reported with its location; a row is only
//! returned if there was none.
//!
//! A row goes through these steps, each of which may report problems:
//!
//! 1. its fields: `match` and `limit`, and optionally `expires`, `reason` and `owner` (the API's also `rule`);
//! 2. its match: keys and values, as a map or as a list of entries;
//! 3. its limits: one or several, or unlimited, with defaults and tiers of the domain;
//! 4. the order of its match (`bind`). For one rule that is the order of the rule's path, and each key gets its position there;
//!    for the domain it is the alphabet;
//! 5. its shape, which is the keys in that order and, for one rule, the rule and the positions. A new shape must fit
//!    some rule, in at most [`FITS_MAX`](super::shape::FITS_MAX) ways.
//!
//! Invariants: (1) a row names at least one key, and each value has 1 to [`VALUE_MAX`](super::bind::VALUE_MAX) bytes; (2) values are in the
//! order of the shape's keys; (3) in a row for one rule, each value can get to its level of the path: `region: eu` is
//! refused where the path says `region: us`.
//!
//! Example: the rule's path is `tenant`, `user`, and the row is `{match: {user: alice, tenant: acme}, limit: 5/s}`.
//! Written entry 1 is `tenant`, at position 0, and entry 0 is `user`, at position 1: the order is [1, 0], the positions
//! are [0, 1], and the row is the shape `tenant`, `user` with the values `acme`, `alice` and a limit of 5 per second.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use smallvec::SmallVec;

use super::{
    OverrideLimits, OverrideRow,
    bind::{MatchPart, RowTarget, with_values},
    builder::TableBuilder,
};
use crate::{
    limit::{UnixMicros, moment},
    rules::{
        Domain, Problems, Rule,
        fields::{ENTRY, Fields, OVERRIDE, OVERRIDE_LIMIT, RUN_TIME_OVERRIDE, nearest},
        json, name,
        node::{Location, Node, NodeValue},
        pen::NodeReader,
        problem::ProblemCollector,
        spelling::TextOf,
        terms::DomainDefaults,
        warning::Warning,
    },
};

/// What rows are checked against, and the time at which they are read.
#[derive(Clone, Copy)]
pub(crate) struct RowContext<'c> {
    pub(crate) domain: &'c str,
    pub(crate) target: RowTarget<'c>,
    pub(crate) defaults: &'c DomainDefaults,
    /// Rows that end before this are reported as having no effect.
    pub(crate) read_at: UnixMicros,
}

/// An entry of `match` and its places.
struct MatchEntry<'n> {
    key: &'n str,
    value: &'n str,
    locations: (Location, Location),
}

impl NodeReader<'_> {
    /// Reads a list of rows into `builder`.
    pub(crate) fn rows(
        &mut self,
        node: &Node<'_>,
        context: &RowContext<'_>,
        (origin, builder): (u32, &mut TableBuilder),
    ) {
        let NodeValue::List(items) = &node.value else {
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

    pub(crate) fn row(
        &mut self,
        node: &Node<'_>,
        context: &RowContext<'_>,
        builder: &TableBuilder,
    ) -> Option<OverrideRow> {
        let fields = self.fields(node, &OVERRIDE)?;
        self.row_of(&fields, context, builder)
    }

    fn row_of(
        &mut self,
        fields: &Fields<'_, '_>,
        context: &RowContext<'_>,
        known: &TableBuilder,
    ) -> Option<OverrideRow> {
        let errors = self.report.errors();
        let named = self.match_entries(fields);
        let limits = self.limits_of(fields, context);
        let expires = fields.get("expires").and_then(|node| self.expires(node, context.read_at));
        let mut text = |key| fields.get(key).and_then(|node| self.text(node)).unwrap_or_default().into();
        let (reason, owner) = (text("reason"), text("owner"));
        let (named, limits) = (named?, limits?);
        let entries: SmallVec<[(&str, &str); 4]> = named.iter().map(|named| (named.key, named.value)).collect();
        let location = |part| match part {
            MatchPart::Row => fields.location("match"),
            MatchPart::Key(index) => named[index].locations.0,
            MatchPart::Value(index) => named[index].locations.1,
        };
        let with_stars = self.values_with_stars(&entries, &location)?;
        let meant = with_values(&entries, &with_stars);
        let entries = if meant.is_empty() { &entries[..] } else { &meant[..] };
        let bound = self.order_match(entries, context.target, &location)?;
        let shape = context.target.shape(entries, &bound);
        if known.known_shape(&shape).is_none() {
            self.check_shape(&shape, context.target, location(MatchPart::Row));
        }
        let values: SmallVec<[&str; 4]> = bound.order.iter().map(|index| entries[usize::from(*index)].1).collect();
        let at = fields.location("limit");
        self.check_row_shares(&limits, context.target, (&shape.keys, &values), bound.positions.as_ref(), at);
        let values = values.into_iter().map(Box::from).collect();
        let row = OverrideRow { shape, values, limits: Arc::new(limits), expires, reason, owner };
        (self.report.errors() == errors).then_some(row)
    }

    /// Reads the match: `{user: alice}`, or `[{key: user, value: alice}]`.
    fn match_entries<'n>(&mut self, fields: &Fields<'n, '_>) -> Option<Vec<MatchEntry<'n>>> {
        let Some(node) = fields.get("match") else {
            if fields.all_known {
                self.error(fields.at, "an override must have a `match`").hint("write it as `match: {user: alice}`");
            }
            return None;
        };
        let errors = self.report.errors();
        let mut named: Vec<MatchEntry<'n>> = Vec::new();
        match &node.value {
            NodeValue::Map(entries) => {
                for (key, value) in entries.iter() {
                    let Some(text) = self.key(key) else { continue };
                    if named.iter().any(|earlier| earlier.key == text) {
                        self.error(key.at, format!("`{text}` is named twice")).hint(
                            "a key that stands twice in a descriptor is written as `match: [{key: …, value: …}, …]`",
                        );
                    }
                    named.extend(self.match_value(value).map(|value_text| MatchEntry {
                        key: text,
                        value: value_text,
                        locations: (key.at, value.at),
                    }));
                }
            }
            NodeValue::List(items) => {
                for item in items.iter() {
                    let Some(entry) = self.fields(item, &ENTRY) else { continue };
                    let (Some(key), Some(value)) = (entry.get("key"), entry.get("value")) else {
                        self.error(item.at, "an entry of `match` must have a `key` and a `value`");
                        continue;
                    };
                    let (Some(text), Some(value_text)) = (self.text(key), self.match_value(value)) else { continue };
                    named.push(MatchEntry { key: text, value: value_text, locations: (key.at, value.at) });
                }
            }
            NodeValue::Scalar { .. } => {
                self.error(node.at, format!("`match` must be a map, not {}", node.kind()))
                    .hint("write it as `match: {user: alice}`");
            }
        }
        for MatchEntry { key, value, locations } in &named {
            self.check_spelling(key, TextOf::OverrideKey, || locations.0);
            self.check_spelling(value, TextOf::OverrideValue, || locations.1);
        }
        (self.report.errors() == errors).then_some(named)
    }

    fn match_value<'n>(&mut self, node: &'n Node<'_>) -> Option<&'n str> {
        if node.is_null() {
            self.error(node.at, "a value is missing here").hint("leave the key out to match any value");
            return None;
        }
        if let NodeValue::List(_) = &node.value {
            self.error(node.at, "a value of `match` must be text, not a list").hint("write an override for each value");
            return None;
        }
        self.text(node)
    }

    fn limits_of(&mut self, fields: &Fields<'_, '_>, context: &RowContext<'_>) -> Option<OverrideLimits> {
        match fields.get("limit") {
            Some(node) => self.override_limits(node, context),
            None => {
                if fields.all_known {
                    self.error(fields.at, "an override must have a `limit`")
                        .hint("write it as `limit: 5/s`, `limit: {tier: gold}` or `limit: unlimited`");
                }
                None
            }
        }
    }

    pub(crate) fn override_limits(&mut self, node: &Node<'_>, context: &RowContext<'_>) -> Option<OverrideLimits> {
        let errors = self.report.errors();
        let forms = self.written_limits(node, &OVERRIDE_LIMIT, &context.defaults.tiers)?;
        if forms.iter().all(|written| written.rate.is_none()) {
            return Some(OverrideLimits::Unlimited);
        }
        let id: Arc<str> = name::override_limit_id(context.domain).into();
        let limits = self.limits(&forms, context.defaults, |_| Arc::clone(&id), None);
        (self.report.errors() == errors).then_some(OverrideLimits::Limits(limits))
    }

    pub(crate) fn expires(&mut self, node: &Node<'_>, read_at: UnixMicros) -> Option<UnixMicros> {
        let text = self.text(node)?;
        self.expires_text(text, node.at, read_at)
    }

    pub(crate) fn expires_text(&mut self, text: &str, at: Location, read_at: UnixMicros) -> Option<UnixMicros> {
        match moment::parse(text) {
            Ok(expires) => {
                if expires <= read_at {
                    let what = format!("this override ended at {}: it has no effect", moment::write(expires));
                    self.warn(at, Warning::ExpiredOverride, what).hint("remove it, or give it a later `expires`");
                }
                Some(expires)
            }
            Err(why) => {
                self.error(at, format!("`{text}` is no moment")).hint(why);
                None
            }
        }
    }
}

/// What problems call an override that the API is given.
const WRITTEN: &str = "override";

impl Domain {
    /// Reads one override as the API and the command line write it: a JSON object with `match`, `limit` and, if need be,
    /// `rule`, `expires`, `reason` and `owner`, checked as a row of a file is. With a `rule` (an id, with or without the
    /// domain) it is for that rule alone, else for every rule that has its keys. An `expires` in the past is no error
    /// here: who asks knows what time it is. Problems have the path of their field, such as `limit.unit`.
    pub fn read_override(&self, written: &serde_json::Value) -> Result<OverrideRow, Problems> {
        read_value(written, |reader, root| self.override_at(reader, root))
    }

    /// Reads what an override grants, its `limit`: for rows that were checked when they were written, but whose tier or
    /// defaults may have changed since.
    pub fn read_override_limits(&self, limit: &serde_json::Value) -> Result<OverrideLimits, Problems> {
        let target = RowTarget::Domain { rules: &[], keys: &BTreeSet::new() };
        let context = RowContext { domain: &self.name, target, defaults: &self.defaults, read_at: UnixMicros(0) };
        read_value(limit, |reader, root| reader.override_limits(root, &context))
    }

    pub(super) fn override_at(&self, reader: &mut NodeReader<'_>, root: &Node<'_>) -> Option<OverrideRow> {
        let fields = reader.fields(root, &RUN_TIME_OVERRIDE)?;
        let keys: BTreeSet<&str> =
            self.rules.iter().flat_map(|rule| rule.path.iter().map(|level| &*level.key)).collect();
        let target = match fields.get("rule") {
            None => RowTarget::Domain { rules: &self.rules, keys: &keys },
            Some(node) => {
                let id = reader.text(node)?;
                let Some(rule) = self.rule(id) else {
                    let problem = reader.error(node.at, format!("domain `{}` has no rule `{id}`", self.name));
                    let ids = self.first_ids();
                    match nearest(id, &ids) {
                        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                        None if self.rules.len() <= 20 => problem.hint(format!("it has {}", ids.join(", "))),
                        None => {}
                    }
                    return None;
                };
                RowTarget::Rule { id: &rule.id, path: &rule.path }
            }
        };
        let context = RowContext { domain: &self.name, target, defaults: &self.defaults, read_at: UnixMicros(0) };
        reader.row_of(&fields, &context, &TableBuilder::default())
    }

    /// The rule with an id, with or without the domain before it.
    pub(crate) fn rule(&self, id: &str) -> Option<&Rule> {
        let whole = format!("{}/{id}", name::rule_id(&self.name, &[]));
        self.rules.iter().find(|rule| *rule.id == *id || *rule.id == *whole)
    }

    /// The ids of the first thousand rules, without the domain: as many as are compared with one that isn't there.
    fn first_ids(&self) -> Vec<&str> {
        let domain = format!("{}/", name::rule_id(&self.name, &[]));
        self.rules.iter().take(1000).map(|rule| rule.id.strip_prefix(&*domain).unwrap_or(&rule.id)).collect()
    }
}

/// What `read` makes of a value, unless it finds an error.
fn read_value<T>(
    value: &serde_json::Value,
    read: impl FnOnce(&mut NodeReader<'_>, &Node<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let (mut report, path) = (ProblemCollector::default(), Path::new(WRITTEN));
    let (root, fields) = json::tree(value);
    report.has_fields(path, fields);
    let mut reader = NodeReader { report: &mut report, path };
    let found = reader.document(root).and_then(|root| read(&mut reader, &root));
    let is_sound = report.errors() == 0;
    found.filter(|_| is_sound).ok_or_else(|| report.finish(std::iter::empty()))
}
