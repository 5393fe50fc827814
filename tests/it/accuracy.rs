//! The tables of docs/src/why/accuracy.md are what the example measures: simulated time and fixed seeds make them the same
//! everywhere.

#[allow(dead_code, reason = "what only its own `main` uses")]
#[path = "../../examples/accuracy.rs"]
mod example;

use example::live::StoreKind;

/// A table's row without its padding.
fn cells(line: &str) -> Vec<&str> {
    line.split('|').map(str::trim).collect()
}

#[test]
fn the_tables_of_the_docs_are_what_the_example_prints() {
    let page = include_str!("../../docs/src/why/accuracy.md");
    let documented: Vec<_> = page.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    let printed = example::tables(&example::rows());
    let printed: Vec<_> = printed.lines().filter(|line| line.starts_with("| ")).map(cells).collect();
    assert_eq!(printed.len(), 20, "two heads and nine kinds of traffic twice");
    for row in printed {
        assert!(documented.contains(&row), "docs/src/why/accuracy.md doesn't have {row:?}");
    }
}

/// Counted with when each request was asked and answered, so a slow machine makes nobody look guilty.
#[test]
fn replicas_that_share_a_store_fill_no_true_window_beyond_the_limit() {
    for store in [StoreKind::Redis, StoreKind::Cluster] {
        let report = example::live::measure(store, 3, 5).expect("the store starts");
        assert!(report.decided() > 1_000, "{store:?}: {}", report.table());
        assert!(report.keeps_the_bound(), "{store:?}: {}", report.table());
    }
}

/// The measurement sees an excess where there is one: each of these replicas admits the whole limit.
#[test]
fn replicas_that_count_in_their_own_memory_are_seen_to_admit_more() {
    let report = example::live::measure(StoreKind::Memory, 3, 5).expect("the store starts");
    assert!(report.fullest_bounded_window() > 200.0, "{}", report.table());
}
