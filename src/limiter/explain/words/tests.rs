use super::*;
use crate::{
    limit::{Entry, SECOND},
    rules::{self, Defaults, Rules, Source, Sources},
};

const RULES: &str = "
domain: api
descriptors:
  - key: user
    descriptors:
      - {key: endpoint, value: /login, rate_limit: 5/s}
      - {key: endpoint, value: /reports/*, rate_limit: 5/h}
  - {key: plan, value: free, rate_limit: 1/s}
";

fn rules() -> Rules {
    let file = Source { path: "api.yaml".into(), bytes: RULES.as_bytes().to_vec() };
    rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None).rules
}

fn words(domain: &str, entries: &[(&str, &str)]) -> String {
    let rules = rules();
    let entries: Vec<Entry<'_>> = entries.iter().map(|(key, value)| Entry { key, value }).collect();
    let (found, steps) = rules.explain(domain, &entries);
    in_words(domain, found, &steps)
}

#[test]
fn the_way_is_told_to_its_end_or_to_where_it_ends() {
    let alice = ("user", "alice");
    for (entries, said) in [
        (
            &[alice, ("endpoint", "/login")][..],
            "(user=alice)(endpoint=/login) meets api/user/endpoint=/login (api.yaml:6)",
        ),
        (&[("usr", "alice")], "(usr=alice) meets no rule: no rule at the first level has the key usr"),
        (
            &[("plan", "gold")],
            "(plan=gold) meets no rule: no rule at the first level is for plan=gold, nor for any plan",
        ),
        (
            &[alice, ("endpoint", "/x")],
            "(user=alice)(endpoint=/x) meets no rule: no rule below (user=alice) is for endpoint=/x, nor for any endpoint",
        ),
        (&[("plan", "free"), alice], "(plan=free)(user=alice) meets no rule: there are no rules below (plan=free)"),
        (&[], "a descriptor without entries meets no rule"),
    ] {
        assert_eq!(words("api", entries), said);
    }
    assert_eq!(words("apii", &[alice]), "there is no domain apii");
}

#[test]
fn waits_are_written_as_rule_files_write_them() {
    for (micros, text) in
        [(0, "0s"), (SECOND.0, "1s"), (61_875_000, "1m1s875ms"), (90_061_000_001, "1d1h1m1s1us"), (3_600_000_000, "1h")]
    {
        assert_eq!(wait(Micros(micros)), text);
    }
}
