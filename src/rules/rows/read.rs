//! Rows as they are written: one map of YAML or of JSON each. Files, inline rows and the API come through
//! here, so that all are checked alike.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use smallvec::SmallVec;

use super::{
    Grant, Row,
    bind::{Part, Target},
    builder::Builder,
};
use crate::{
    limit::{UnixMicros, moment},
    rules::{
        Domain, Problems, Rule,
        fields::{ENTRY, Fields, GRANT, OVERRIDE, RUN_TIME_OVERRIDE},
        json, name,
        node::{Node, Place, Value},
        pen::Pen,
        problem::Report,
        terms::Around,
    },
};

/// What rows are checked against, and the time they are read at.
#[derive(Clone, Copy)]
pub(crate) struct Context<'c> {
    pub(crate) domain: &'c str,
    pub(crate) target: Target<'c>,
    pub(crate) around: &'c Around,
    /// Rows that end before this are reported as having no effect.
    pub(crate) read_at: UnixMicros,
}

/// An entry of `match` and its places.
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
}

/// What problems call an override that the API is given.
const WRITTEN: &str = "override";

impl Domain {
    /// Reads one override as the API and the command line write it: a JSON object with `match`, `limit` and, if need be,
    /// `rule`, `expires`, `reason` and `owner`, checked as a row of a file is. With a `rule` (an id, with or without the
    /// domain) it is for that rule alone, else for every rule that has its keys. An `expires` in the past is no error
    /// here: who asks knows what time it is. Problems have the path of their field, such as `limit.unit`.
    pub fn read_override(&self, written: &serde_json::Value) -> Result<Row, Problems> {
        read_value(written, |pen, root| self.override_at(pen, root))
    }

    /// Reads what an override grants, its `limit`: for rows that were checked when they were written, but whose tier or
    /// defaults may have changed since.
    pub fn read_grant(&self, limit: &serde_json::Value) -> Result<Grant, Problems> {
        let target = Target::Domain { rules: &[], keys: &BTreeSet::new() };
        let context = Context { domain: &self.name, target, around: &self.around, read_at: UnixMicros(0) };
        read_value(limit, |pen, root| pen.grant(root, &context))
    }

    pub(super) fn override_at(&self, pen: &mut Pen<'_>, root: &Node<'_>) -> Option<Row> {
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

/// What `read` makes of a value, unless it finds an error.
fn read_value<T>(
    value: &serde_json::Value,
    read: impl FnOnce(&mut Pen<'_>, &Node<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let (mut report, path) = (Report::default(), Path::new(WRITTEN));
    let (root, fields) = json::tree(value);
    report.has_fields(path, fields);
    let mut pen = Pen { report: &mut report, path };
    let found = pen.document(root).and_then(|root| read(&mut pen, &root));
    let is_sound = report.errors() == 0;
    found.filter(|_| is_sound).ok_or_else(|| report.finish(std::iter::empty()))
}
