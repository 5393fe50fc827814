//! Makes rules of a set of files: the outermost level of each file, which files make a domain, and which domains keep
//! their last rules because the new ones are broken.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{
    Defaults, Domain, DomainIndex, FileNames, LoadedRules, LoadedTexts, Rules, Source, Sources,
    compile::{Compiled, Compiler, ExpansionBudget},
    fields::{DEFAULTS, FILE, Located},
    json,
    lint::{DomainLint, LintBudget},
    node::{Document, Location, Node, NodeValue},
    pen::NodeReader,
    problem::ProblemCollector,
    shortcuts::{self, Shortcuts},
    source,
    spelling::TextOf,
    terms::DomainDefaults,
    warning::Warning,
    written_limit::{LimitDefaults, Tiers},
    yaml,
};

/// What one file says at its outermost level.
struct RuleFile<'s> {
    path: Arc<PathBuf>,
    bytes: &'s [u8],
    domain: Option<Located<String>>,
    defaults: LimitDefaults,
    tiers: Option<Node<'s>>,
    shortcuts: Option<Located<Shortcuts>>,
    descriptors: Option<Node<'s>>,
    overrides: Option<Node<'s>>,
    overrides_from: Option<Node<'s>>,
    /// Of text, with aliases unfolded.
    bytes_unfolded: u64,
    sound: bool,
}

/// The files of one domain.
#[derive(Default)]
struct DomainFiles<'d, 's> {
    files: Vec<&'d RuleFile<'s>>,
    broken: bool,
}

/// Checks and compiles a set of files. `last` is what is in force: domains with errors are taken from it.
pub fn load(sources: &Sources, defaults: &Defaults, last: Option<&Rules>) -> LoadedRules {
    let mut report = ProblemCollector::default();
    let mut drafts: Vec<RuleFile<'_>> =
        sources.files.iter().map(|source| draft(source, sources.names, &mut report)).collect();
    bound_aliases(&mut drafts, &mut report);
    for (path, why) in &sources.unreadable {
        report.error(path, Location::default(), source::unreadable(why));
    }
    warn_of_unread(sources, &mut report);
    let (rules, kept) = compile_all(&drafts, sources, defaults, last, &mut report);
    LoadedRules {
        rules,
        problems: report.finish(sources.all().map(Source::text)),
        kept_domains: kept,
        texts: LoadedTexts::default(),
    }
}

/// The same for rules that come as values, each with what problems call it: a control plane's. What they say is what a
/// file would say; problems have the path of their field, such as `descriptors[1].rate_limit.unit`.
pub fn load_values(values: &[(PathBuf, serde_json::Value)], defaults: &Defaults) -> LoadedRules {
    load_domains(values, &Sources::default(), defaults)
}

/// The same where rules name files of overrides, which are among `sources`.
pub(super) fn load_domains(
    values: &[(PathBuf, serde_json::Value)],
    sources: &Sources,
    defaults: &Defaults,
) -> LoadedRules {
    let mut report = ProblemCollector::default();
    let texts: Vec<String> = values.iter().map(|(_, value)| value.to_string()).collect();
    let mut drafts = Vec::with_capacity(values.len());
    for ((path, value), text) in values.iter().zip(&texts) {
        let (document, fields) = json::tree(value);
        report.has_fields(path, fields);
        drafts.push(read_draft(path, text.as_bytes(), &mut report, |reader, draft| reader.outermost(document, draft)));
    }
    let (rules, kept) = compile_all(&drafts, sources, defaults, None, &mut report);
    LoadedRules {
        rules,
        problems: report.finish(std::iter::empty()).with_fields(),
        kept_domains: kept,
        texts: LoadedTexts::default(),
    }
}

/// The domains of some files, and which of them go on with what they had.
fn compile_all(
    drafts: &[RuleFile<'_>],
    sources: &Sources,
    defaults: &Defaults,
    last: Option<&Rules>,
    report: &mut ProblemCollector,
) -> (Rules, Vec<Box<str>>) {
    let groups = group(drafts, &sources.unreadable, last);
    let bytes: usize = drafts.iter().map(|draft| draft.bytes.len()).sum();
    let (mut domains, mut kept, mut budget) = (Vec::new(), Vec::new(), ExpansionBudget::new(bytes));
    let mut lint_budget = LintBudget::default();
    for (name, group) in groups {
        let domain = compile(&name, &group.files, sources, defaults, (budget, &mut lint_budget), report);
        match domain.filter(|_| !group.broken) {
            Some(domain) => {
                budget = budget.less(&domain.rules);
                domains.push(Arc::new(domain));
            }
            None => {
                let before = last.and_then(|last| Some((last, last.domain(&name)?)));
                if let Some((last, DomainIndex(index))) = before {
                    domains.push(Arc::clone(&last.domains()[index as usize]));
                    kept.push(name.into());
                }
            }
        }
    }
    (Rules::new(domains), kept)
}

/// Aliases of all files together may unfold to what those of one may: a set may have very many files.
fn bound_aliases(drafts: &mut [RuleFile<'_>], report: &mut ProblemCollector) {
    let mut budget = yaml::ALIAS_BYTES;
    for draft in drafts {
        budget = match budget.checked_sub(draft.bytes_unfolded.saturating_sub(2 * draft.bytes.len() as u64)) {
            Some(left) => left,
            None => {
                let what = "its aliases unfold to more than is left beside those of the other files";
                report.error(&draft.path, Location::default(), what);
                (draft.sound, draft.descriptors) = (false, None);
                budget
            }
        };
    }
}

/// What isn't read limits nothing, and nobody would see that.
fn warn_of_unread(sources: &Sources, report: &mut ProblemCollector) {
    for path in &sources.skipped {
        let what = "it isn't read: rule files are *.yaml and *.yml";
        report
            .warn(path, Location::default(), Warning::UnreadFile, what)
            .hint("rename it, or name the file itself where its directory is named");
    }
    for path in &sources.empty {
        let what = "no rules were read from it, so nothing is limited by it";
        report
            .warn(path, Location::default(), Warning::EmptyDirectory, what)
            .hint("put a `*.yaml` with a `domain` there, or don't name it");
    }
}

/// By domain. A file that is too broken to say its domain speaks for the one that it gave before, and so does one that
/// can't be read, or whose directory can't.
fn group<'d, 's>(
    drafts: &'d [RuleFile<'s>],
    unreadable: &[(PathBuf, String)],
    last: Option<&Rules>,
) -> BTreeMap<String, DomainFiles<'d, 's>> {
    let mut groups: BTreeMap<String, DomainFiles<'d, 's>> = BTreeMap::new();
    for draft in drafts {
        if let Some(domain) = &draft.domain {
            let group = groups.entry(domain.value.clone()).or_default();
            group.files.push(draft);
            group.broken |= !draft.sound;
        }
    }
    let unsound = drafts.iter().filter(|draft| !draft.sound).map(|draft| &*draft.path);
    for path in unsound.chain(unreadable.iter().map(|(path, _)| path)) {
        let domains = last.map(Rules::domains).unwrap_or_default();
        for before in domains.iter().filter(|domain| domain.all_files().any(|file| file.starts_with(path))) {
            groups.entry(before.name.to_string()).or_default().broken = true;
        }
    }
    groups
}

fn draft<'s>(source: &'s Source, names: FileNames, report: &mut ProblemCollector) -> RuleFile<'s> {
    let draft = read_draft(&source.path, &source.bytes, report, |reader, draft| {
        if let Some(text) = reader.utf8(&source.bytes) {
            reader.allowed_warnings(text);
            reader.outermost(yaml::parse(text), draft);
        }
    });
    if !draft.sound && names == FileNames::Any && !source::is_yaml(&source.path) {
        let what = "it is read as rules whatever its name is, as all files of the RUNTIME_* directory are";
        report
            .warn(&source.path, Location::default(), Warning::AnyName, what)
            .hint("keep what isn't rules elsewhere, or use TOLLGATE_RULES");
    }
    draft
}

fn read_draft<'s>(
    path: &Path,
    bytes: &'s [u8],
    report: &mut ProblemCollector,
    read: impl FnOnce(&mut NodeReader<'_>, &mut RuleFile<'s>),
) -> RuleFile<'s> {
    let errors = report.errors();
    let mut draft = RuleFile {
        path: Arc::new(path.to_owned()),
        bytes,
        domain: None,
        defaults: LimitDefaults::default(),
        tiers: None,
        shortcuts: None,
        descriptors: None,
        overrides: None,
        overrides_from: None,
        bytes_unfolded: 0,
        sound: true,
    };
    read(&mut NodeReader { report, path }, &mut draft);
    draft.sound = report.errors() == errors;
    draft
}

impl NodeReader<'_> {
    fn outermost<'s>(&mut self, document: Document<'s>, draft: &mut RuleFile<'s>) {
        if !document.faults.is_empty() {
            draft.domain = document.root.as_ref().and_then(domain_of_a_broken_file);
        }
        let is_sound = document.faults.is_empty();
        let root = self.document(document);
        if !is_sound {
            return;
        }
        let top = Location { line: 1, column: 1, width: 1 };
        let Some(root) = root.filter(|root| !root.is_null()) else {
            self.error(top, "the file is empty: it must at least have a `domain`");
            return;
        };
        draft.bytes_unfolded = root.bytes();
        let Some(fields) = self.fields(&root, &FILE) else { return };
        match fields.get("domain") {
            Some(node) => match self.text(node) {
                Some("") => drop(self.error(node.at, "`domain` must not be empty")),
                Some(name) => {
                    self.check_spelling(name, TextOf::Domain, || node.at);
                    draft.domain = Some(Located { value: name.to_owned(), at: node.at });
                }
                None => {}
            },
            None if fields.all_known => drop(self.error(fields.at, "the file must have a `domain`")),
            None => {}
        }
        if let Some(node) = fields.get("defaults")
            && let Some(fields) = self.fields(node, &DEFAULTS)
        {
            draft.defaults = self.limit_defaults(&fields);
        }
        draft.tiers = fields.get("tiers").cloned();
        draft.shortcuts = fields.get("shortcuts").and_then(|node| self.shortcuts(node));
        draft.descriptors = fields.get("descriptors").cloned();
        draft.overrides = fields.get("overrides").cloned();
        draft.overrides_from = fields.get("overrides_from").cloned();
    }
}

/// The rest of the file can't be read, but whose rules it was to hold may be known.
fn domain_of_a_broken_file(root: &Node<'_>) -> Option<Located<String>> {
    let NodeValue::Map(entries) = &root.value else { return None };
    entries.iter().find_map(|(key, value)| match (&key.value, &value.value) {
        (NodeValue::Scalar { text: key, .. }, NodeValue::Scalar { text, .. })
            if key == "domain" && !text.is_empty() =>
        {
            Some(Located { value: text.to_string(), at: value.at })
        }
        _ => None,
    })
}

/// `None` if anything is wrong with it.
fn compile(
    name: &str,
    drafts: &[&RuleFile<'_>],
    sources: &Sources,
    defaults: &Defaults,
    (budget, lint_budget): (ExpansionBudget, &mut LintBudget),
    report: &mut ProblemCollector,
) -> Option<Domain> {
    let errors = report.errors();
    if !defaults.merge_domains {
        refuse_second_files(name, drafts, report);
    }
    // Of files that may not be one domain each is read on its own as far as that goes: what they say twice or otherwise
    // than each other is told of already.
    let comparable = if defaults.merge_domains { drafts } else { &drafts[..drafts.len().min(1)] };
    let mut domain_defaults =
        DomainDefaults { limits: common_defaults(comparable, report), process: *defaults, tiers: Tiers::default() };
    for draft in drafts {
        if let Some(tiers) = &draft.tiers {
            NodeReader { report, path: &draft.path }.tiers(&draft.path, tiers, &mut domain_defaults);
        }
    }
    let located = comparable.iter().filter_map(|draft| Some((&**draft.path, draft.shortcuts.as_ref()?)));
    let shortcuts = shortcuts::common(located, report);
    let mut compiler = Compiler::new(report, name, &domain_defaults, sources, budget);
    for draft in drafts {
        if let Some(descriptors) = &draft.descriptors {
            compiler.file(&draft.path, descriptors);
        }
    }
    for draft in drafts {
        compiler.overrides_of_domain(&draft.path, draft.overrides.as_ref(), draft.overrides_from.as_ref());
    }
    let Compiled { rules, tree, overrides, override_files, locations } = compiler.finish();
    let is_sound = report.errors() == errors && drafts.iter().all(|draft| draft.sound);
    if is_sound {
        let (rules, tree, overrides) = (&rules[..], &tree, &overrides);
        let (budget, defaults, locations) = (lint_budget, &domain_defaults, &locations);
        DomainLint { report, budget, rules, tree, overrides, defaults, locations }.run();
    }
    let files: Vec<PathBuf> = drafts.iter().map(|draft| PathBuf::clone(&draft.path)).collect();
    let hash = hash(drafts.iter().map(|draft| draft.bytes).chain(override_files.iter().map(|source| &*source.bytes)));
    let override_files = override_files.into_iter().map(|source| source.path.clone()).collect();
    let domain = Domain {
        name: name.into(),
        files,
        override_files,
        rules,
        tree,
        overrides,
        defaults: domain_defaults,
        shortcuts,
        hash,
    };
    (report.errors() == errors && !drafts.is_empty()).then_some(domain)
}

fn hash<'b>(files: impl Iterator<Item = &'b [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for bytes in files {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize().into()
}

fn refuse_second_files(name: &str, drafts: &[&RuleFile<'_>], report: &mut ProblemCollector) {
    let located = |draft: &RuleFile<'_>| draft.domain.as_ref().map_or(Location::default(), |domain| domain.at);
    let Some((first, others)) = drafts.split_first() else { return };
    for other in others {
        let location = report.elsewhere(&first.path, located(first));
        let what = format!("domain `{name}` has another file already: {location}");
        report
            .error(&other.path, located(other), what)
            .hint("give this file a domain of its own, or set MERGE_DOMAIN_CONFIG=true to make one domain of both");
    }
}

/// The defaults of all files of a domain, which hold for all its files: they must not differ.
fn common_defaults(drafts: &[&RuleFile<'_>], report: &mut ProblemCollector) -> LimitDefaults {
    LimitDefaults {
        algorithm: common(drafts, "algorithm", |defaults| defaults.algorithm, report),
        sub_windows: common(drafts, "sub_windows", |defaults| defaults.sub_windows, report),
        count_denied: common(drafts, "count_denied", |defaults| defaults.count_denied, report),
        on_store_failure: common(drafts, "on_store_failure", |defaults| defaults.on_store_failure, report),
    }
}

fn common<V: Copy + PartialEq>(
    drafts: &[&RuleFile<'_>],
    key: &str,
    of: impl Fn(&LimitDefaults) -> Option<Located<V>>,
    report: &mut ProblemCollector,
) -> Option<Located<V>> {
    let mut located = drafts.iter().filter_map(|draft| Some((draft, of(&draft.defaults)?)));
    let (first, value) = located.next()?;
    for (other, differs) in located.filter(|(_, other)| other.value != value.value) {
        let location = report.elsewhere(&first.path, value.at);
        let what = format!("`{key}` holds for the whole domain, and differs from {location}");
        report.error(&other.path, differs.at, what);
    }
    Some(value)
}
