use std::{path::PathBuf, time::Duration};

use super::*;
use crate::{
    limit::{Algorithm, Cost, Entry, FailurePolicy, Limit, Unit, UnixMicros},
    rules::{self, Defaults, Rules, Source, Sources},
    store::{
        CounterCheck, Gate, Key, Role, Store,
        memory::{Memory, MemorySettings},
    },
};

fn loaded(yaml: &str) -> Rules {
    let file = Source { path: PathBuf::from("rules.yaml"), bytes: yaml.as_bytes().to_vec() };
    let load = rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    load.rules
}

fn rendered(metrics: &Metrics, rules: Rules, meters: Meters) -> String {
    metrics.render(&rules, &meters)
}

const RULES: &str = "
domain: api
descriptors:
  - {key: user, rate_limit: {unit: minute, requests_per_unit: 2}}
  - {key: path, rate_limit: {unit: minute, requests_per_unit: 3}}
";

#[test]
fn a_time_falls_into_the_first_bucket_that_reaches_it() {
    let latency = Latency::default();
    for micros in [1, 5, 6, 20_000, 50_000_000] {
        latency.record(Duration::from_micros(micros));
    }
    let recorded = latency.recorded();
    let (first, rest) = (recorded.buckets[..2].to_vec(), recorded.buckets[2..].iter().sum::<u64>());
    assert_eq!((first, rest), (vec![2, 1], 2));
    assert_eq!(recorded.buckets[21], 1, "beyond the last bound");
    assert_eq!(recorded.sum_ns, 50_020_012_000);
}

#[test]
fn a_limit_that_stays_over_a_reload_keeps_its_numbers_and_one_that_goes_takes_them_along() {
    let first = loaded(RULES);
    let meters = Meters::new(&first, None);
    let domain = first.domain("api").expect("loaded");
    for rule in first.domains()[0].rules() {
        meters.count(domain, rule, Some(0), LimitOutcome::OverLimit);
    }
    let second = loaded(&RULES.replace("key: path", "key: method"));
    let after = Meters::new(&second, Some((&first, &meters)));
    let text = rendered(&Metrics::default(), second, after);
    assert!(
        text.contains(r#"tollgate_decisions_total{domain="api",limit="api/user",result="over_limit"} 1"#),
        "{text}"
    );
    assert!(!text.contains("api/path"), "{text}");
}

#[test]
fn a_request_that_began_before_a_reload_puts_no_series_of_a_limit_that_went_back_on_the_page() {
    let first = loaded(RULES);
    let meters = Meters::new(&first, None);
    let second = loaded(&RULES.replace("key: path", "key: method"));
    let after = Meters::new(&second, Some((&first, &meters)));
    let domain = first.domain("api").expect("loaded");
    for rule in first.domains()[0].rules() {
        meters.count(domain, rule, Some(0), LimitOutcome::Ok);
        meters.count_degraded(domain, Some((rule, Some(0))), FailurePolicy::Open);
    }
    let text = rendered(&Metrics::default(), second, after);
    let degraded = r#"tollgate_degraded_decisions_total{policy="open",domain="api",limit="api/user"} 1"#;
    assert!(text.contains(degraded), "{text}");
    assert!(!text.contains("api/path"), "{text}");
}

#[test]
fn the_table_has_each_name_once_and_what_prometheus_and_markdown_take() {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let mut names = std::collections::HashSet::new();
    for row in &table::TABLE {
        assert!(names.insert(row.name), "{} is there twice", row.name);
        assert!(row.section == table::Section::EnvoyproxyNamed || is_word(row.name), "{}", row.name);
        assert!(row.labels.iter().all(|label| is_word(label)), "{}", row.name);
        assert!(row.help.ends_with('.') && !row.help.contains(['|', '\n']), "{}: {}", row.name, row.help);
        let is_total = row.kind == table::Kind::Counter;
        assert!(row.name.starts_with("ratelimit_") || row.name.ends_with("_total") == is_total, "{}", row.name);
    }
}

#[test]
fn key_names_that_clients_make_up_do_not_grow_the_page_for_ever() {
    let metrics = Metrics::default();
    for number in 0..1_000 {
        metrics.unmatched.count("api", &[Entry { key: &number.to_string(), value: "x" }]);
    }
    let rules = loaded(RULES);
    let meters = Meters::new(&rules, None);
    let page = rendered(&metrics, rules, meters);
    let (mut series, mut other) = (0, 0);
    for (labels, count) in page
        .lines()
        .filter_map(|line| line.strip_prefix("tollgate_unmatched_descriptors_total{")?.split_once("} "))
        .map(|(labels, count)| (labels, count.parse::<u64>().expect("a count")))
    {
        if labels.starts_with("domain=\"other\"") { other = count } else { series += 1 }
    }
    assert_eq!((series, other), (256, 744));
    assert_eq!(metrics.unmatched.others(), other);
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::default();
    metrics.unmatched.count("a\"b\\c\nd", &[Entry { key: "k", value: "v" }]);
    let rules = loaded(RULES);
    let meters = Meters::new(&rules, None);
    let text = rendered(&metrics, rules, meters);
    assert!(text.contains(r#"domain="a\"b\\c\nd""#), "{text}");
}

#[test]
fn the_memory_store_tells_of_counters_made_coarser_and_of_clocks_set_back() {
    let memory = Memory::new(MemorySettings { max_bytes: 1 << 20 });
    let hit = |user: u64, now| {
        let (user, hits) = (user.to_string(), 1);
        let check = CounterCheck {
            key: Key {
                domain: "api",
                entries: &[Entry { key: "user", value: &user }],
                shared: &[],
                limit_name: "",
                variable: 0,
            },
            rule: 0,
            limit: Limit::new(9, Unit::Minute.window(), Algorithm::SlidingLog),
            cost: Cost { hits, charge_denied: false },
            role: Role::Enforced,
        };
        memory.apply(&[check], Gate::default(), UnixMicros(now));
    };
    // Each hit of a log takes room, and the later ones find none.
    let begin = 1_800_000_000_000_000;
    (0..4).for_each(|turn| (0..8_000).for_each(|user| hit(user, begin + turn * 1_000_000)));
    // An hour back, one of them.
    hit(0, begin - 3_600_000_000);
    let (thinned, set_back) = (memory.thinned(), memory.clock_steps());
    assert!(thinned > 0 && set_back == 1, "{thinned}, {set_back}");

    let metrics = Metrics::default();
    metrics.watch(Store::Memory(Arc::new(memory)));
    let rules = loaded(RULES);
    let meters = Meters::new(&rules, None);
    let text = rendered(&metrics, rules, meters);
    for (name, value) in
        [("tollgate_memory_thinned_total", thinned), ("tollgate_memory_set_back_counters_total", set_back)]
    {
        assert!(text.contains(&format!("# TYPE {name} counter\n{name} {value}\n")), "{name} {value}: {text}");
    }
}
