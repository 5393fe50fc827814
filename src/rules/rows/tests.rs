//! Which override wins: the table against a naive model, and what each word of a row does.

mod files;
mod rows;

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _};

use proptest::prelude::*;

use super::*;
use crate::{
    limit::Entry,
    rules::{Defaults, LoadedRules, Rule, RuleMatch, Rules, Source, Sources, load},
};

/// What is loaded from `a.yaml`, and files of overrides beside it.
fn load_with(rules: &str, overrides: &[(&str, &str)]) -> LoadedRules {
    let source = |(path, text): (&str, &str)| Source { path: path.into(), bytes: text.as_bytes().to_vec() };
    let files = vec![source(("a.yaml", rules))];
    let overrides = overrides.iter().copied().map(source).collect();
    load(&Sources { files, overrides, ..Sources::default() }, &Defaults::default(), None)
}

#[track_caller]
fn good(rules: &str, overrides: &[(&str, &str)]) -> Rules {
    let load = load_with(rules, overrides);
    assert!(!load.problems.has_errors(), "{}", load.problems.render());
    load.rules
}

fn said(rules: &str, overrides: &[(&str, &str)]) -> Vec<String> {
    load_with(rules, overrides).problems.iter().map(ToString::to_string).collect()
}

fn entries<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Entry<'a>> {
    pairs.iter().map(|(key, value)| Entry { key, value }).collect()
}

/// The override of a descriptor at a moment, by what it matches and grants.
fn found(rules: &Rules, pairs: &[(&str, &str)], now: u64) -> Option<(String, Option<u32>)> {
    let entries = entries(pairs);
    let RuleMatch::Rule { domain, rule } = rules.find("d", &entries) else { panic!("a rule matches {pairs:?}") };
    let (row, _) = rules.override_of(domain, rule, &entries, || UnixMicros(now))?;
    Some((row.to_string(), row.limits().limits().first().map(|limit| limit.limit.requests)))
}

/// The rules that the model knows, by their paths. All levels take any value.
const PATHS: [&[&str]; 4] = [&["a"], &["a", "b"], &["a", "b", "c"], &["x", "a"]];

/// The values that the model knows by number: a row is found otherwise where its value is long.
fn text(value: u8) -> &'static str {
    ["", "1", "of sixteen bytes", "of more bytes than a name has room for"][usize::from(value)]
}

/// A row as the model has it.
#[derive(Clone, Debug)]
struct Modelled {
    /// A position in [`PATHS`], or the domain.
    rule: Option<usize>,
    matches: BTreeMap<&'static str, u8>,
    /// 0 and 1 are files in the order in which they are named; 2 is inline.
    origin: u8,
    /// The row ends at this second.
    expires: Option<u8>,
}

fn modelled() -> impl Strategy<Value = Modelled> {
    let matches = prop::collection::btree_map(prop::sample::select(&["a", "b", "c", "x"][..]), 1u8..4, 1..4);
    (prop::option::of(0usize..4), matches, 0u8..3, prop::option::of(1u8..4)).prop_map(
        |(rule, mut matches, origin, expires)| {
            let has = |path: &[&str], key: &str| path.contains(&key);
            match rule {
                Some(rule) => matches.retain(|key, _| has(PATHS[rule], key)),
                // Keys that no rule has together are an error.
                None if matches.contains_key("x") => matches.retain(|key, _| has(PATHS[3], key)),
                None => {}
            }
            Modelled { rule, matches, origin, expires }
        },
    )
}

impl Modelled {
    fn json(&self, number: usize) -> String {
        let expires = self.expires.map(|second| format!(r#", "expires": "1970-01-01T00:00:0{second}Z""#));
        let matches: Vec<String> =
            self.matches.iter().map(|(key, value)| format!(r#""{key}": "{}""#, text(*value))).collect();
        let expires = expires.unwrap_or_default();
        format!(r#"{{"match": {{{}}}, "limit": "{number}/s"{expires}}}"#, matches.join(", "))
    }

    /// Whether it is for a descriptor of a rule at a second.
    fn applies(&self, rule: usize, values: &[u8], second: u8) -> bool {
        let met = |(key, value): (&&str, &u8)| PATHS[rule].iter().zip(values).any(|pair| pair == (key, value));
        self.rule.is_none_or(|own| own == rule)
            && self.expires.is_none_or(|expires| expires > second)
            && self.matches.iter().all(met)
    }

    /// The higher wins: most keys, then the leftmost, then the rule's own, then inline, then the later file.
    fn order(&self, rule: usize) -> impl Ord {
        let positions: Vec<usize> = PATHS[rule]
            .iter()
            .enumerate()
            .filter(|(_, key)| self.matches.contains_key(**key))
            .map(|(at, _)| at)
            .collect();
        (positions.len(), Reverse(positions), self.rule.is_some(), self.origin)
    }
}

/// The rows as files; a row's number is what it grants.
fn written(rows: &[(usize, &Modelled)]) -> (String, Vec<(String, String)>) {
    let (mut files, names) = (Vec::new(), |rule: &str| [format!("{rule}0.ndjson"), format!("{rule}1.ndjson")]);
    let mut part = |rule: Option<usize>, indent: &str| {
        let name = rule.map_or("d".to_owned(), |rule| format!("r{rule}"));
        let of = |origin: u8| rows.iter().filter(move |(_, row)| row.rule == rule && row.origin == origin);
        for (origin, path) in names(&name).into_iter().enumerate() {
            files.push((path, of(origin as u8).map(|(number, row)| row.json(*number) + "\n").collect::<String>()));
        }
        let inline: Vec<String> = of(2).map(|(number, row)| row.json(*number)).collect();
        let [first, second] = names(&name);
        format!("{indent}overrides_from: [{first}, {second}]\n{indent}overrides: [{}]\n", inline.join(", "))
    };
    let mut yaml = "domain: d\n".to_owned();
    yaml += &part(None, "");
    let _ = write!(
        yaml,
        "descriptors:\n- key: a\n{}  descriptors:\n  - key: b\n{}    descriptors:\n    - key: c\n{}- key: x\n  descriptors:\n  - key: a\n{}",
        part(Some(0), "  "),
        part(Some(1), "    "),
        part(Some(2), "      "),
        part(Some(3), "    ")
    );
    (yaml, files)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn who_wins_among_overlapping_rows_is_as_the_model_says(
        rows in prop::collection::vec(modelled(), 0..40),
        asked in prop::collection::vec((0usize..4, prop::collection::vec(1u8..4, 3), 0u8..4, 0u64..1_000_000), 20),
    ) {
        let mut kept: Vec<&Modelled> = Vec::new();
        for row in &rows {
            let same = |other: &&Modelled| {
                (other.rule, &other.matches, other.origin) == (row.rule, &row.matches, row.origin)
            };
            if !row.matches.is_empty() && !kept.iter().any(same) {
                kept.push(row);
            }
        }
        let numbered: Vec<(usize, &Modelled)> = (1..).zip(kept.iter().copied()).collect();
        let (yaml, files) = written(&numbered);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let rules = good(&yaml, &files);
        prop_assert_eq!(rules.count().overrides, kept.len());
        for (rule, values, second, micros) in asked {
            let texts = values.iter().map(|value| text(*value));
            let pairs: Vec<(&str, &str)> = PATHS[rule].iter().copied().zip(texts).collect();
            let values = &values[..pairs.len()];
            let winner = numbered.iter().filter(|(_, row)| row.applies(rule, values, second))
                .max_by(|one, other| one.1.order(rule).cmp(&other.1.order(rule)));
            let now = u64::from(second) * 1_000_000 + micros;
            let found = found(&rules, &pairs, now).and_then(|(_, requests)| requests);
            prop_assert_eq!(found, winner.map(|(number, _)| *number as u32), "{:?} at {}\n{}", pairs, second, yaml);
            explains_what_it_finds(&rules, &pairs, now, found)?;
        }
    }
}

/// The explanation names the same winner, and of the others why they aren't.
fn explains_what_it_finds(
    rules: &Rules,
    pairs: &[(&str, &str)],
    now: u64,
    found: Option<u32>,
) -> Result<(), TestCaseError> {
    let entries = entries(pairs);
    let RuleMatch::Rule { domain, rule } = rules.find("d", &entries) else { panic!("a rule matches") };
    let candidates = rules.explain_override(domain, rule, &entries, UnixMicros(now));
    let winners = candidates.iter().filter(|candidate| candidate.standing == Standing::Wins);
    let winners: Vec<Option<u32>> =
        winners.map(|it| it.row.limits().limits().first().map(|limit| limit.limit.requests)).collect();
    prop_assert_eq!(winners, found.map(Some).into_iter().collect::<Vec<_>>());
    for candidate in &candidates {
        prop_assert_eq!(candidate.standing == Standing::Expired, candidate.row.is_expired(UnixMicros(now)));
    }
    Ok(())
}

#[test]
fn a_lookup_does_not_allocate() {
    let rules = good(
        "domain: d\noverrides: [{match: {a: x}, limit: 5/s, expires: 2027-01-01}]\n\
         descriptors: [{key: a, overrides: [{match: {a: y}, limit: 6/s}]}]",
        &[],
    );
    for (value, expected) in [("x", Some(5)), ("y", Some(6)), ("z", None)] {
        let pairs = entries(&[("a", value)]);
        let RuleMatch::Rule { domain, rule } = rules.find("d", &pairs) else { panic!("a rule matches") };
        let ask = |rule: &Rule| {
            let found = rules.override_of(domain, rule, &pairs, || UnixMicros(0));
            found.and_then(|(row, _)| row.limits().limits().first().map(|limit| limit.limit.requests))
        };
        assert_eq!(ask(rule), expected);
        assert_eq!(allocation_counter::measure(|| _ = ask(rule)).count_total, 0);
    }
}
