//! The JSON of whole rules, read into rules by the same checks as files are. Override rows become files of rows, in the order
//! in which they win, because a file is read row by row.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{
    Deserialize,
    de::{Deserializer, Error, SeqAccess, Visitor},
};
use serde_json::{Map, Value, json};

use crate::{
    limit::{Algorithm, CountDenied},
    rules::{Defaults, Problems, Rules, Source, Sources, load::load_domains},
};

/// The rules of a running service.
pub struct FullRules {
    pub rules: Rules,
    /// Domains whose files have errors, so that the service goes on with what they were before.
    pub kept_domains: Vec<Box<str>>,
    /// The defaults of its process.
    pub defaults: Defaults,
}

/// Why an answer is no rules.
#[derive(Debug, thiserror::Error)]
pub enum FullRulesError {
    #[error("it isn't the rules of a service: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its rules can't be read again here: {}", .0.render())]
    Rules(Problems),
}

impl FullRules {
    /// Reads the answer of `/rules?full=true` or of `GET /v1/rules`.
    pub fn read(answer: &[u8]) -> Result<FullRules, FullRulesError> {
        let Answer { process_defaults, domains } = serde_json::from_slice(answer)?;
        let count_denied = CountDenied::ALL.into_iter().find(|known| known.name() == process_defaults.count_denied);
        let defaults = Defaults {
            algorithm: Algorithm::parse(&process_defaults.algorithm).unwrap_or_default(),
            count_denied: count_denied.unwrap_or_default(),
            merge_domains: process_defaults.merge_domains,
        };
        let (mut values, mut sources) = (Vec::new(), Sources::default());
        let mut kept_domains = Vec::new();
        for DomainAnswer { domain, kept, full } in domains {
            if kept {
                kept_domains.push(domain.as_str().into());
            }
            let prefix = format!("{}-", values.len());
            // Problems are told by the domain, whatever its name would mean as a path.
            let path = PathBuf::from(format!("domain {}", domain.replace('/', "%2F")));
            values.push((path, full.rule_file(&domain, &prefix, &mut sources.overrides)));
        }
        let loaded = load_domains(&values, &sources, &defaults);
        if loaded.problems.has_errors() {
            return Err(FullRulesError::Rules(loaded.problems));
        }
        Ok(FullRules { rules: loaded.rules, kept_domains, defaults })
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    process_defaults: ProcessDefaults,
    domains: Vec<DomainAnswer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProcessDefaults {
    algorithm: String,
    count_denied: String,
    merge_domains: bool,
}

#[derive(Deserialize)]
struct DomainAnswer {
    domain: String,
    #[serde(default)]
    kept: bool,
    full: Full,
}

#[derive(Deserialize)]
struct Full {
    defaults: Value,
    tiers: Value,
    shortcuts: Value,
    rules: Vec<RuleAnswer>,
    overrides: Rows,
}

#[derive(Deserialize)]
struct RuleAnswer {
    id: String,
    path: Vec<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct RowAnswer {
    #[serde(default)]
    rule: String,
    #[serde(default)]
    rank: u64,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Rows as lines of JSON, by the rule that they are for (empty: the domain) and their rank.
#[derive(Default)]
struct Rows(BTreeMap<(String, u64), Vec<u8>>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Rows, D::Error> {
        from.deserialize_seq(Rows::default())
    }
}

impl<'de> Visitor<'de> for Rows {
    type Value = Rows;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of override rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Rows, A::Error> {
        while let Some(RowAnswer { rule, rank, mut rest }) = list.next_element()? {
            rest.remove("place");
            let lines = self.0.entry((rule, rank)).or_default();
            serde_json::to_writer(&mut *lines, &rest).map_err(A::Error::custom)?;
            lines.push(b'\n');
        }
        Ok(self)
    }
}

impl Full {
    /// As a rule file says it.
    fn rule_file(self, domain: &str, prefix: &str, sources: &mut Vec<Source>) -> Value {
        let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        // In the order of their ranks: of files with the same match the one that is named later wins.
        for (at, ((rule, _), bytes)) in self.overrides.0.into_iter().enumerate() {
            let name = format!("{prefix}{at}.ndjson");
            sources.push(Source { path: PathBuf::from(&name), bytes });
            files.entry(rule).or_default().push(name.into());
        }
        let mut of = |rule: &str| files.remove(rule).map(Value::from);
        let mut file = json!({
            "domain": domain,
            "defaults": self.defaults,
            "tiers": self.tiers,
            "shortcuts": self.shortcuts,
        });
        file["overrides_from"] = of("").unwrap_or(Value::Null);
        file["descriptors"] = nested(self.rules, &mut of);
        file
    }
}

/// Rules below those whose paths theirs begin with: parents come before children.
fn nested(rules: Vec<RuleAnswer>, files: &mut impl FnMut(&str) -> Option<Value>) -> Value {
    // The descriptors that are open, from the outermost on, each with those below it.
    let mut open: Vec<(Map<String, Value>, Vec<Value>)> = vec![(Map::new(), Vec::new())];
    let close = |open: &mut Vec<(Map<String, Value>, Vec<Value>)>, depth: usize| {
        while open.len() > depth.max(1) {
            let Some((mut descriptor, below)) = open.pop() else { return };
            if !below.is_empty() {
                descriptor.insert("descriptors".into(), below.into());
            }
            if let Some((_, siblings)) = open.last_mut() {
                siblings.push(descriptor.into());
            }
        }
    };
    for RuleAnswer { id, mut path, rest } in rules {
        close(&mut open, path.len());
        let mut descriptor = path.pop().unwrap_or_default();
        descriptor.extend(rest.into_iter().filter(|(key, _)| key != "place"));
        if let Some(files) = files(&id) {
            descriptor.insert("overrides_from".into(), files);
        }
        open.push((descriptor, Vec::new()));
    }
    close(&mut open, 1);
    open.pop().map(|(_, descriptors)| descriptors).unwrap_or_default().into()
}
