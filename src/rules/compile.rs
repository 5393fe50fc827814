//! Compiles the descriptors of one domain, from all its files, to rules and the tree that finds them. It knows nothing
//! of other domains.

use std::{path::PathBuf, sync::Arc};

use super::{
    Level, LevelValue, Rule, Source, Sources,
    fields::{DESCRIPTOR, Fields, LIMIT},
    lint::LintLocations,
    metadata, name,
    node::{Location, Node, NodeValue},
    overrides_from::is_override_file,
    pen::NodeReader,
    problem::ProblemCollector,
    rows::{OverrideTable, bind::RowTarget, builder::TableBuilder, read::RowContext},
    source,
    spelling::TextOf,
    terms::DomainDefaults,
    tree::{Pattern, Tree},
};

/// Descriptors below descriptors.
const NESTING_MAX: usize = 32;

/// Rules of all domains together.
pub(super) const RULES_MAX: usize = 1_000_000;

/// Bytes of the ids of all rules together, besides eight for each byte of their files: an id holds the keys and values
/// of all levels above it, so that a long one with many rules below it would fill any memory.
const ID_BYTES_MAX: usize = 16 << 20;

/// How much there may still be of what files unfold to.
#[derive(Clone, Copy)]
pub(super) struct ExpansionBudget {
    rules: usize,
    id_bytes: usize,
}

impl ExpansionBudget {
    /// For files of so many bytes.
    pub(super) fn new(bytes: usize) -> ExpansionBudget {
        ExpansionBudget { rules: RULES_MAX, id_bytes: ID_BYTES_MAX.saturating_add(bytes.saturating_mul(8)) }
    }

    /// What is left beside these rules.
    pub(super) fn less(self, rules: &[Rule]) -> ExpansionBudget {
        let id_bytes: usize = rules.iter().map(|rule| rule.id.len()).sum();
        ExpansionBudget { rules: self.rules - rules.len(), id_bytes: self.id_bytes.saturating_sub(id_bytes) }
    }
}

pub(super) struct Compiler<'c, 's> {
    report: &'c mut ProblemCollector,
    domain: &'c str,
    defaults: &'c DomainDefaults,
    sources: &'s Sources,
    budget: ExpansionBudget,
    rules: Vec<Rule>,
    tree: Tree,
    overrides: TableBuilder,
    override_files: Vec<&'s Source>,
    locations: LintLocations,
}

/// What a domain's files come to.
pub(super) struct Compiled<'s> {
    pub(super) rules: Vec<Rule>,
    pub(super) tree: Tree,
    pub(super) overrides: OverrideTable,
    /// In the order in which they are named.
    pub(super) override_files: Vec<&'s Source>,
    pub(super) locations: LintLocations,
}

/// The rule that descriptors stand below.
#[derive(Clone, Copy)]
struct ParentRule<'p> {
    rule: Option<u32>,
    path: &'p [Arc<Level>],
}

impl<'c, 's> Compiler<'c, 's> {
    pub(super) fn new(
        report: &'c mut ProblemCollector,
        domain: &'c str,
        defaults: &'c DomainDefaults,
        sources: &'s Sources,
        budget: ExpansionBudget,
    ) -> Compiler<'c, 's> {
        Compiler {
            report,
            domain,
            defaults,
            sources,
            budget,
            rules: Vec::new(),
            tree: Tree::default(),
            overrides: TableBuilder::default(),
            override_files: Vec::new(),
            locations: LintLocations::default(),
        }
    }

    /// When all files are taken in.
    pub(super) fn finish(mut self) -> Compiled<'s> {
        let overrides = self.overrides.finish(&mut self.rules, self.report);
        let report = &*self.report;
        self.rules.iter_mut().filter(|rule| !report.has_lines(&rule.file)).for_each(|rule| rule.line = 0);
        let Compiler { rules, tree, override_files, locations, .. } = self;
        Compiled { rules, tree, overrides, override_files, locations }
    }

    /// Takes in the descriptors of one file.
    pub(super) fn file(&mut self, path: &Arc<PathBuf>, descriptors: &Node<'_>) {
        self.descriptors(path, descriptors, ParentRule { rule: None, path: &[] });
    }

    fn reader<'p>(&'p mut self, path: &'p Arc<PathBuf>) -> NodeReader<'p> {
        NodeReader { report: self.report, path }
    }

    fn descriptors(&mut self, file: &Arc<PathBuf>, node: &Node<'_>, parent: ParentRule<'_>) {
        let NodeValue::List(items) = &node.value else {
            let what = format!("`descriptors` must be a list, not {}", node.kind());
            self.reader(file).error(node.at, what).hint("begin each descriptor with `- key:`");
            return;
        };
        if parent.path.len() == NESTING_MAX {
            let what = format!("descriptors are nested deeper than {NESTING_MAX}");
            self.reader(file).error(node.at, what);
            return;
        }
        for item in items.iter() {
            if self.budget.rules == 0 {
                self.reader(file).error(item.at, format!("more than {RULES_MAX} rules"));
                return;
            }
            if self.budget.id_bytes == 0 {
                return;
            }
            self.descriptor(file, item, parent);
        }
    }

    fn descriptor(&mut self, file: &Arc<PathBuf>, node: &Node<'_>, parent: ParentRule<'_>) {
        let domain_defaults = self.defaults;
        let mut reader = self.reader(file);
        let Some(fields) = reader.fields(node, &DESCRIPTOR) else { return };
        let level = Arc::new(reader.level(&fields));
        let forms = fields
            .get("rate_limit")
            .and_then(|node| reader.written_limits(node, &LIMIT, &domain_defaults.tiers))
            .unwrap_or_default();
        let policy =
            reader.on_store_failure(&fields).or(domain_defaults.limits.on_store_failure).map(|located| located.value);
        let flag = |reader: &mut NodeReader<'_>, key, default| {
            fields.get(key).and_then(|node| reader.boolean(node, key)).unwrap_or(default)
        };
        let (shadow_mode, quota_mode) =
            (flag(&mut reader, "shadow_mode", false), flag(&mut reader, "quota_mode", false));
        let detailed_metric = flag(&mut reader, "detailed_metric", false);
        let switchable = flag(&mut reader, "switchable", true);
        let metadata = fields.get("metadata").and_then(|node| reader.metadata(node));

        let path: Box<[Arc<Level>]> = parent.path.iter().chain([&level]).cloned().collect();
        let id: Arc<str> = name::rule_id(self.domain, &path).into();
        let Some(id_bytes) = self.budget.id_bytes.checked_sub(id.len()).filter(|left| *left > 0) else {
            // Said once: there is no room for any further one.
            self.budget.id_bytes = 0;
            let what = "the ids of all rules together are too long: each holds all keys and values above it";
            self.reader(file)
                .error(fields.at, what)
                .hint("shorten the keys and values that have many rules below them");
            return;
        };
        if !self.insert(file, fields.at, parent, &level) {
            return;
        }
        self.budget = ExpansionBudget { rules: self.budget.rules - 1, id_bytes };
        let limit_id = |name: &str| if name.is_empty() { Arc::clone(&id) } else { name::limit_id(&id, name).into() };
        let limits = self.reader(file).limits(&forms, domain_defaults, limit_id, policy);
        self.reader(file).check_shares(&forms, &path, shadow_mode);
        let (name, unlimited) = match forms.as_slice() {
            [single] => (single.name.clone(), single.rate.is_none()),
            _ => (Box::default(), false),
        };
        let index = self.rules.len() as u32;
        self.locations.add(index, &fields, &forms);
        self.rules.push(Rule {
            index,
            limits,
            unlimited,
            on_store_failure: policy,
            shadow_mode,
            quota_mode,
            switchable,
            detailed_metric,
            shared: path.iter().map(|level| level.shared()).collect(),
            variable: path.iter().position(|level| !level.is_fixed()).unwrap_or(path.len()),
            metadata: metadata.map(Arc::new),
            metric_key: name::metric_key(self.domain, &path).into(),
            file: Arc::clone(file),
            line: fields.at.line,
            id,
            path: path.clone(),
            probes: None,
            name,
            replaces: forms.into_iter().flat_map(|written| written.replaces).map(|replaced| replaced.value).collect(),
        });
        let (inline, files) = (fields.get("overrides"), fields.get("overrides_from"));
        if inline.or(files).is_some() {
            let rule = &self.rules[index as usize];
            let (id, path) = (Arc::clone(&rule.id), rule.path.clone());
            self.overrides(file, inline, files, RowTarget::Rule { id: &id, path: &path });
        }
        if let Some(below) = fields.get("descriptors") {
            self.descriptors(file, below, ParentRule { rule: Some(index), path: &path });
        }
    }

    /// Takes in the overrides of a file that are for all rules, when all rules are there.
    pub(super) fn overrides_of_domain(
        &mut self,
        file: &Arc<PathBuf>,
        inline: Option<&Node<'_>>,
        files: Option<&Node<'_>>,
    ) {
        if inline.or(files).is_none() {
            return;
        }
        let rules = std::mem::take(&mut self.rules);
        let keys = rules.iter().flat_map(|rule| rule.path.iter().map(|level| &*level.key)).collect();
        self.overrides(file, inline, files, RowTarget::Domain { rules: &rules, keys: &keys });
        self.rules = rules;
    }

    fn overrides(
        &mut self,
        file: &Arc<PathBuf>,
        inline: Option<&Node<'_>>,
        files: Option<&Node<'_>>,
        target: RowTarget<'_>,
    ) {
        let read_at = self.sources.read_at;
        let context = RowContext { domain: self.domain, target, defaults: self.defaults, read_at };
        for (path, source) in files.map(|node| self.named_files(file, node)).unwrap_or_default() {
            let origin = self.overrides.origin(&path, false);
            let mut reader = NodeReader { report: self.report, path: &path };
            reader.override_file(&source.bytes, &context, (origin, &mut self.overrides));
        }
        if let Some(inline) = inline {
            let origin = self.overrides.origin(file, true);
            NodeReader { report: self.report, path: file }.rows(inline, &context, (origin, &mut self.overrides));
        }
    }

    /// The files that `overrides_from` names. Files that can't be used are reported where they are named.
    fn named_files(&mut self, file: &Arc<PathBuf>, node: &Node<'_>) -> Vec<(Arc<PathBuf>, &'s Source)> {
        let NodeValue::List(items) = &node.value else {
            let what = format!("`overrides_from` must be a list, not {}", node.kind());
            self.reader(file).error(node.at, what).hint("write it as `overrides_from: [users.csv]`");
            return Vec::new();
        };
        let mut found: Vec<(Arc<PathBuf>, &Source)> = Vec::new();
        for item in items.iter() {
            let sources = self.sources;
            let mut reader = self.reader(file);
            let Some(name) = reader.text(item) else { continue };
            let path = source::beside(file, name);
            if found.iter().any(|(earlier, _)| **earlier == path) {
                reader.error(item.at, format!("`{name}` is named twice"));
                continue;
            }
            if !is_override_file(&path) {
                reader
                    .error(item.at, format!("`{name}` can't be told by its name"))
                    .hint("overrides are read from files named `.csv`, `.ndjson` or `.yaml`");
                continue;
            }
            match sources.overrides(&path) {
                Ok(source) => {
                    if !self.override_files.iter().any(|known| known.path == source.path) {
                        self.override_files.push(source);
                    }
                    found.push((Arc::new(path), source));
                }
                Err(why) => {
                    reader
                        .error(item.at, format!("`{name}` {}", source::unreadable(why)))
                        .hint("the path is taken from this file's directory");
                }
            }
        }
        found
    }

    /// Whether it is the first of its key and value there. What is below a second one isn't looked at: a list of aliases
    /// may repeat one without an end.
    fn insert(&mut self, file: &Arc<PathBuf>, at: Location, parent: ParentRule<'_>, level: &Level) -> bool {
        // A level without a key is refused already, and isn't a second one where another has none either.
        let before = match &*level.key {
            "" => self.tree.insert(parent.rule, &format!("\0{}", self.rules.len()), &level.value),
            key => self.tree.insert(parent.rule, key, &level.value),
        };
        let Some(before) = before else { return true };
        let value = level.value.text().map_or(" without a value".to_owned(), |value| format!(" with value `{value}`"));
        let before = &self.rules[before as usize];
        // Two files that may not be one domain are reported once.
        if !Arc::ptr_eq(&before.file, file) && !self.defaults.process.merge_domains {
            return false;
        }
        let first = Location { line: before.line, ..Location::default() };
        let location = match Arc::ptr_eq(&before.file, file) {
            true => self.report.beside(file, first),
            false => self.report.elsewhere(&before.file, first),
        };
        let what = format!("key `{}`{value} is here a second time: first in {location}", level.key);
        self.reader(file).error(at, what);
        false
    }
}

impl NodeReader<'_> {
    fn level(&mut self, fields: &Fields<'_, '_>) -> Level {
        let value = fields.get("value").and_then(|node| self.value_of_level(node)).unwrap_or_default();
        let key = match fields.get("key") {
            Some(node) => self.key_of_level(node, value),
            None => {
                if fields.all_known {
                    self.error(fields.at, "a descriptor must have a `key`");
                }
                Box::default()
            }
        };
        // Envoy Gateway's names of routes are both, and are what they are.
        if *value != *key {
            self.check_spelling(&key, TextOf::DescriptorKey, || fields.location_of_value("key"));
            self.check_spelling(value, TextOf::DescriptorValue, || fields.location_of_value("value"));
        }
        let mut flag = |key| fields.get(key).and_then(|node| self.boolean(node, key)).unwrap_or(false);
        let (share_threshold, value_to_metric) = (flag("share_threshold"), flag("value_to_metric"));
        if share_threshold && !value.contains('*') {
            let at = fields.location("share_threshold");
            self.error(at, "`share_threshold` needs a value with `*` in it")
                .hint("values that match the pattern share one counter; without one there is nothing to share");
        }
        let value = match value {
            "" => LevelValue::Any,
            value if value.contains('*') && *value != *key => LevelValue::Pattern(Pattern::new(value)),
            value => LevelValue::Exact(value.into()),
        };
        Level { key, value, share_threshold, value_to_metric }
    }

    fn value_of_level<'n>(&mut self, node: &'n Node<'_>) -> Option<&'n str> {
        if let NodeValue::List(_) = &node.value {
            self.error(node.at, "`value` must be text, not a list")
                .hint("a descriptor has one value: write a descriptor for each of them, or a pattern such as `/v1/*`");
            return None;
        }
        self.text(node)
    }

    fn key_of_level(&mut self, node: &Node<'_>, value: &str) -> Box<str> {
        let Some(key) = self.text(node) else { return Box::default() };
        if key.is_empty() {
            self.error(node.at, "a descriptor's `key` must not be empty");
        }
        // Envoy Gateway calls a route of any host `…/match/0/*`, and that is both key and value of its descriptor: a name,
        // which in the reference too meets itself before it is anybody's pattern.
        let is_name = key == value && key.contains(|character| character != '*');
        if key.contains('*') && !is_name {
            self.error(node.at, format!("key `{key}` has `*` in it, which would match any key"))
                .hint("wildcards stand in `value`; leave `value` out to match every value of a key");
            return Box::default();
        }
        key.into()
    }

    fn metadata(&mut self, node: &Node<'_>) -> Option<serde_json::Value> {
        match &node.value {
            NodeValue::Map(entries) if entries.is_empty() => None,
            NodeValue::Map(_) => Some(metadata::to_json(node)),
            _ => {
                self.error(node.at, format!("`metadata` must be a map, not {}", node.kind()));
                None
            }
        }
    }
}

impl Level {
    fn shared(&self) -> Option<Box<str>> {
        self.value.text().filter(|_| self.share_threshold).map(Box::from)
    }

    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.value, LevelValue::Exact(_))
    }
}
