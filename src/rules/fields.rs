//! Reads maps of a rule file: which keys a map may have, the problems of others, and the values of fields as text,
//! numbers, booleans and words. It doesn't know what fields mean together.

use smallvec::SmallVec;

use super::{
    node::{Location, Node, NodeValue},
    pen::NodeReader,
    scalar::{Plain, Unusable},
    warning::Warning,
};

/// A value with its location in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Located<V> {
    pub(super) value: V,
    pub(super) at: Location,
}

/// The keys that a map may have, and what it is called.
pub(super) struct MapSchema {
    pub(super) what: &'static str,
    pub(super) keys: &'static [&'static str],
}

pub(super) const FILE: MapSchema = MapSchema {
    what: "a rule file",
    keys: &["domain", "defaults", "tiers", "shortcuts", "descriptors", "overrides", "overrides_from"],
};

pub(super) const DEFAULTS: MapSchema =
    MapSchema { what: "`defaults`", keys: &["algorithm", "sub_windows", "count_denied", "on_store_failure"] };

pub(super) const DESCRIPTOR: MapSchema = MapSchema {
    what: "a descriptor",
    keys: &[
        "key",
        "value",
        "rate_limit",
        "descriptors",
        "shadow_mode",
        "quota_mode",
        "detailed_metric",
        "value_to_metric",
        "share_threshold",
        "metadata",
        "on_store_failure",
        "switchable",
        "overrides",
        "overrides_from",
    ],
};

/// The keys of a limit: first its numbers, then its use, then what only a rule has.
const OF_LIMITS: [&str; 16] = [
    "requests_per_unit",
    "unit",
    "unit_multiplier",
    "requests",
    "window",
    "unlimited",
    "algorithm",
    "burst",
    "capacity",
    "sub_windows",
    "count_denied",
    "enforce",
    "on_store_failure",
    "tier",
    "name",
    "replaces",
];

pub(super) const LIMIT: MapSchema = MapSchema { what: "`rate_limit`", keys: &OF_LIMITS };

/// A tier is a limit without a place of its own: whoever uses it gives it a name, and says what it replaces.
pub(super) const TIER: MapSchema = MapSchema { what: "a tier", keys: OF_LIMITS.split_at(13).0 };

/// The limit of an override; the rule's `replaces` stays.
pub(super) const OVERRIDE_LIMIT: MapSchema = MapSchema { what: "`limit`", keys: OF_LIMITS.split_at(15).0 };

/// The keys that are allowed together with `unlimited`.
pub(super) const BESIDE_UNLIMITED: [&str; 5] =
    ["unlimited", "requests_per_unit", "on_store_failure", "name", "replaces"];

pub(super) const OVERRIDE: MapSchema =
    MapSchema { what: "an override", keys: &["match", "limit", "expires", "reason", "owner"] };

/// An override as the API gets it, where it isn't below a rule.
pub(super) const RUN_TIME_OVERRIDE: MapSchema =
    MapSchema { what: "an override", keys: &["match", "rule", "limit", "expires", "reason", "owner"] };

pub(super) const ENTRY: MapSchema = MapSchema { what: "an entry of `match`", keys: &["key", "value"] };

pub(super) const REPLACED: MapSchema = MapSchema { what: "an entry of `replaces`", keys: &["name"] };

/// Not in [`SCHEMAS`]: `user` is a word that any rule may have, so elsewhere it isn't a misplaced shortcut.
pub(super) const SHORTCUTS: MapSchema = MapSchema { what: "`shortcuts`", keys: &["user", "endpoint", "action"] };

const SCHEMAS: [&MapSchema; 6] = [&FILE, &DEFAULTS, &DESCRIPTOR, &LIMIT, &REPLACED, &OVERRIDE];

/// Keys that envoyproxy/ratelimit allows anywhere, and ignores where they mean nothing.
pub(super) const REFERENCE_KEYS: [&str; 16] = [
    "domain",
    "key",
    "value",
    "descriptors",
    "rate_limit",
    "unit",
    "requests_per_unit",
    "unlimited",
    "shadow_mode",
    "quota_mode",
    "name",
    "replaces",
    "detailed_metric",
    "value_to_metric",
    "share_threshold",
    "metadata",
];

/// A map's known keys and their values.
pub(super) struct Fields<'n, 't> {
    pub(super) at: Location,
    /// What the map is called in messages.
    pub(super) what: &'static str,
    /// Whether all keys are known. If one isn't, it may be the misspelled key that seems to be missing.
    pub(super) all_known: bool,
    found: SmallVec<[(&'static str, Location, &'n Node<'t>); 8]>,
}

impl<'n, 't> Fields<'n, 't> {
    /// The value of a key; none if the value is null (`~`).
    pub(super) fn get(&self, key: &str) -> Option<&'n Node<'t>> {
        self.found.iter().find(|(known, ..)| *known == key).map(|(_, _, node)| *node).filter(|node| !node.is_null())
    }

    /// Whether the map has no other keys than these.
    pub(super) fn has_only(&self, keys: &[&str]) -> bool {
        self.found.iter().all(|(known, _, node)| node.is_null() || keys.contains(known))
    }

    /// Location of a key, else of the map.
    pub(super) fn location(&self, key: &str) -> Location {
        self.found.iter().find(|(known, ..)| *known == key).map_or(self.at, |(_, at, _)| *at)
    }

    /// Location of a key's value, else of the map.
    pub(super) fn location_of_value(&self, key: &str) -> Location {
        self.get(key).map_or(self.at, |node| node.at)
    }

    /// The first of some keys that is there.
    pub(super) fn first_of(&self, keys: &[&'static str]) -> Option<&'static str> {
        keys.iter().copied().find(|key| self.get(key).is_some())
    }
}

impl NodeReader<'_> {
    /// Takes a map apart and reports every key that doesn't belong in it.
    pub(super) fn fields<'n, 't>(&mut self, node: &'n Node<'t>, shape: &MapSchema) -> Option<Fields<'n, 't>> {
        self.fields_or(node, shape, Self::report_misplaced)
    }

    /// As [`NodeReader::fields`], for maps that aren't in a rule file: a key that belongs elsewhere in a rule file is just
    /// unknown.
    pub(super) fn own_fields<'n, 't>(&mut self, node: &'n Node<'t>, shape: &MapSchema) -> Option<Fields<'n, 't>> {
        self.fields_or(node, shape, |reader, key, at, _, shape| reader.unknown(key, at, shape))
    }

    fn fields_or<'n, 't>(
        &mut self,
        node: &'n Node<'t>,
        shape: &MapSchema,
        misfit: impl Fn(&mut Self, &str, Location, &Node<'t>, &MapSchema),
    ) -> Option<Fields<'n, 't>> {
        let NodeValue::Map(entries) = &node.value else {
            self.error(node.at, format!("{} must be a map, not {}", shape.what, node.kind()));
            return None;
        };
        let errors = self.report.errors();
        let mut fields = Fields { at: node.at, what: shape.what, all_known: true, found: SmallVec::new() };
        for (key, value) in entries.iter() {
            let Some(text) = self.key(key) else { continue };
            match shape.keys.iter().find(|known| **known == text) {
                Some(known) => self.add_field(&mut fields, known, key.at, value),
                None => misfit(self, text, key.at, value, shape),
            }
        }
        fields.all_known = self.report.errors() == errors;
        Some(fields)
    }

    fn add_field<'n, 't>(
        &mut self,
        fields: &mut Fields<'n, 't>,
        known: &'static str,
        at: Location,
        value: &'n Node<'t>,
    ) {
        match fields.found.iter_mut().find(|(earlier, ..)| *earlier == known) {
            Some(earlier) => {
                let lost = self.beside(earlier.1);
                *earlier = (known, at, value);
                let what = format!("`{known}` is written twice; what {lost} says is lost");
                self.warn(at, Warning::RepeatedKey, what).hint("take one of them out");
            }
            None => fields.found.push((known, at, value)),
        }
    }

    pub(super) fn key<'n>(&mut self, key: &'n Node<'_>) -> Option<&'n str> {
        let NodeValue::Scalar { text, plain } = &key.value else {
            self.error(key.at, format!("a key must be text, not {}", key.kind()));
            return None;
        };
        if *plain && Plain::of(text) != Plain::Text {
            self.error(key.at, format!("key `{text}` isn't text")).hint("put it in quotes");
            return None;
        }
        Some(text)
    }

    /// Reports a key that its map doesn't have: misspelled, or misplaced.
    fn report_misplaced(&mut self, key: &str, at: Location, value: &Node<'_>, shape: &MapSchema) {
        if let Some(meant) = meant(key, shape) {
            self.error(at, format!("unknown key `{key}` in {}", shape.what)).hint(format!("did you mean `{meant}`?"));
            return;
        }
        let home = SCHEMAS.into_iter().find(|shape| shape.keys.contains(&key));
        let whose = shape.what;
        match home {
            Some(home) if REFERENCE_KEYS.contains(&key) => {
                let what = format!("`{key}` in {whose} is ignored");
                match (key, whose) {
                    ("shadow_mode", "`rate_limit`") => {
                        self.warn(at, Warning::IgnoredKey, format!("{what}: this limit is enforced"))
                            .hint("put it beside `key`, or write `enforce: false`");
                    }
                    _ => self.warn(at, Warning::IgnoredKey, what).hint(format!("it belongs in {}", home.what)),
                }
                self.ignored(value);
            }
            Some(home) => {
                let what = format!("`{key}` doesn't belong in {whose}");
                self.error(at, what).hint(format!("it belongs in {}", home.what));
            }
            None => self.unknown(key, at, shape),
        }
    }

    fn unknown(&mut self, key: &str, at: Location, shape: &MapSchema) {
        let problem = self.error(at, format!("unknown key `{key}` in {}", shape.what));
        match nearest(key, shape.keys) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None if key == "cases" && shape.what == FILE.what => {
                problem.hint("test cases stand in a file of their own, whose name ends in `.test.yaml`")
            }
            None => problem.hint(format!("it may have {}", shape.keys.join(", "))),
        }
    }

    /// Below an ignored key there must still be keys of envoyproxy/ratelimit only, as there.
    fn ignored(&mut self, node: &Node<'_>) {
        match &node.value {
            NodeValue::Scalar { .. } => {
                self.text(node);
            }
            NodeValue::List(items) => {
                for item in items.iter() {
                    match &item.value {
                        NodeValue::Map(_) => self.ignored(item),
                        _ => drop(self.error(item.at, format!("this list must hold maps, not {}", item.kind()))),
                    }
                }
            }
            NodeValue::Map(entries) => {
                for (key, value) in entries.iter() {
                    let Some(text) = self.key(key) else { continue };
                    match text {
                        "metadata" => {}
                        _ if REFERENCE_KEYS.contains(&text) => self.ignored(value),
                        _ => drop(self.error(key.at, format!("unknown key `{text}`"))),
                    }
                }
            }
        }
    }

    /// A scalar as it is written. Numbers with a point are refused, as the reference does: whether `1.50` means the
    /// text or the number can't be told.
    pub(super) fn text<'n>(&mut self, node: &'n Node<'_>) -> Option<&'n str> {
        let NodeValue::Scalar { text, plain } = &node.value else {
            self.error(node.at, format!("this must be text, not {}", node.kind()));
            return None;
        };
        if *plain && let Plain::Unusable(why) = Plain::of(text) {
            let what = match why {
                Unusable::Fraction(_) => format!("`{text}` is a number with a fraction, where text is wanted"),
                Unusable::Huge => format!("`{text}` is too large for a number, and text is wanted"),
            };
            self.error(node.at, what).hint(format!("put it in quotes: \"{text}\""));
            return None;
        }
        Some(text)
    }

    /// A whole number from `min` to `max`.
    pub(super) fn number(&mut self, node: &Node<'_>, key: &str, min: u32, max: u32) -> Option<u32> {
        let located = match &node.value {
            NodeValue::Scalar { text, plain } => {
                if *plain
                    && let Plain::Int(number) = Plain::of(text)
                    && let Some(number) = u32::try_from(number).ok().filter(|number| (min..=max).contains(number))
                {
                    return Some(number);
                }
                if *plain { format!("`{text}`") } else { format!("the text \"{text}\"") }
            }
            _ => node.kind().to_owned(),
        };
        self.error(node.at, format!("`{key}` must be a whole number from {min} to {max}, not {located}"));
        None
    }

    pub(super) fn boolean(&mut self, node: &Node<'_>, key: &str) -> Option<bool> {
        if let NodeValue::Scalar { text, plain: true } = &node.value
            && let Plain::Bool(located) = Plain::of(text)
        {
            return Some(located);
        }
        let located = match &node.value {
            NodeValue::Scalar { text, .. } => format!("`{text}`"),
            _ => node.kind().to_owned(),
        };
        self.error(node.at, format!("`{key}` must be true or false, not {located}"));
        None
    }

    /// Reads one of a few words.
    pub(super) fn word<W: Copy>(
        &mut self,
        node: &Node<'_>,
        key: &str,
        words: &[W],
        name: impl Fn(W) -> &'static str,
    ) -> Option<W> {
        let text = self.text(node)?;
        let found = words.iter().copied().find(|word| name(*word) == text);
        if found.is_none() {
            let names: Vec<&'static str> = words.iter().map(|word| name(*word)).collect();
            let problem = self.error(node.at, format!("`{key}` has no `{text}`: it is one of {}", names.join(", ")));
            if let Some(meant) = nearest(text, &names) {
                problem.hint(format!("did you mean `{meant}`?"));
            }
        }
        found
    }
}

/// The key that is likely meant by one that other maps have.
fn meant(key: &str, shape: &MapSchema) -> Option<&'static str> {
    let has = |meant: &'static str| shape.keys.contains(&meant).then_some(meant);
    match key {
        "limit" | "limits" => has("rate_limit").or_else(|| has("requests_per_unit")),
        "rate_limit" => has("limit"),
        _ => None,
    }
}

/// The word that was likely meant: the one with the fewest changed letters, if those are few.
pub(super) fn nearest<'w>(located: &str, words: &[&'w str]) -> Option<&'w str> {
    let located = located.to_ascii_lowercase().replace('-', "_");
    if located.len() > 64 {
        return None;
    }
    let (changes, word) =
        words.iter().map(|word| (strsim::osa_distance(&located, word), *word)).min_by_key(|(changes, _)| *changes)?;
    (changes <= (word.len() / 3).max(1)).then_some(word)
}
