//! What matching costs, with few rules and with many, and what a whole decision costs: words in, statuses out, on the
//! memory store, and how often it allocates. Run with `cargo bench --bench decide`.

#[path = "support/limiter.rs"]
mod limiter;

use std::{fmt::Write, hint::black_box, path::PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::{
    limit::{Descriptor, Entry, Origin, Request, UnixMicros},
    rules::{self, Defaults, Rules, Source, Sources},
};

const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

fn loaded(yaml: String) -> Rules {
    let file = Source { path: PathBuf::from("rules.yaml"), bytes: yaml.into_bytes() };
    let load = rules::load(&Sources { files: vec![file], ..Sources::default() }, &Defaults::default(), None);
    assert!(!load.problems.has_errors(), "{}", load.problems.render());
    load.rules
}

/// Three rules that are asked about, and `others` that aren't.
fn rules_beside(others: usize) -> Rules {
    let limit = "rate_limit: {unit: minute, requests_per_unit: 4000000000}";
    let mut yaml = format!(
        "domain: api\ndescriptors:\n  - {{key: user, {limit}}}\n  - {{key: path, value: '/api/*', {limit}}}\n  \
         - {{key: tenant, descriptors: [{{key: user, {limit}}}]}}\n"
    );
    for number in 0..others {
        let _ = writeln!(yaml, "  - {{key: user, value: special-{number}, {limit}}}");
    }
    loaded(yaml)
}

fn entry<'a>(key: &'a str, value: &'a str) -> Entry<'a> {
    Entry { key, value }
}

fn descriptor<'a>(entries: &[Entry<'a>]) -> Descriptor<'a> {
    Descriptor { entries: entries.iter().copied().collect(), ..Descriptor::default() }
}

/// Times `run`, after saying how often it allocates.
fn measured(c: &mut Criterion, name: &str, mut run: impl FnMut()) {
    const RUNS: u32 = 10_000;
    run();
    let allocated = allocation_counter::measure(|| (0..RUNS).for_each(|_| run()));
    println!("{name}: {:.3} allocations", allocated.count_total as f64 / f64::from(RUNS));
    c.bench_function(name, |b| b.iter(&mut run));
}

fn matching(c: &mut Criterion) {
    for (others, name) in [(0, "3 rules"), (100_000, "100,000 rules")] {
        let rules = rules_beside(others);
        let find = |entries: &[Entry<'_>]| {
            black_box(rules.find(black_box("api"), black_box(entries)));
        };
        measured(c, &format!("match a key, {name}"), || find(&[entry("user", "alice")]));
        measured(c, &format!("match two levels, {name}"), || find(&[entry("tenant", "acme"), entry("user", "alice")]));
        measured(c, &format!("match a pattern, {name}"), || find(&[entry("path", "/api/orders/17")]));
    }
}

fn deciding(c: &mut Criterion) {
    let (limiter, _) = limiter::limiter(rules_beside(0), limiter::memory());
    let decide = |descriptors: &[Descriptor<'_>]| {
        let request = Request {
            domain: "api",
            descriptors: descriptors.iter().cloned().collect(),
            hits: 1,
            caller_limit: None,
            origin: Origin::Envoy,
        };
        let decided = limiter.decide_now(black_box(&request), NOW).expect("the memory store answers at once");
        black_box(decided.expect("a request that can be decided"));
    };
    let user = descriptor(&[entry("user", "alice")]);
    measured(c, "decide, 1 descriptor", || decide(std::slice::from_ref(&user)));
    let three = [
        user.clone(),
        descriptor(&[entry("path", "/api/orders/17")]),
        descriptor(&[entry("tenant", "acme"), entry("user", "alice")]),
    ];
    measured(c, "decide, 3 descriptors", || decide(&three));
}

criterion_group!(benches, matching, deciding);
criterion_main!(benches);
