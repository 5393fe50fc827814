//! The tables of docs/accuracy.md are what the example measures: simulated time and fixed seeds make them the same
//! everywhere.

#[allow(dead_code, reason = "what only its own `main` uses")]
#[path = "../../examples/accuracy.rs"]
mod example;

/// A table's row without its padding.
fn cells(line: &str) -> Vec<&str> {
    line.split('|').map(str::trim).collect()
}

#[test]
fn the_tables_of_the_docs_are_what_the_example_prints() {
    let page = include_str!("../../docs/accuracy.md");
    let documented: Vec<_> = page.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    let printed = example::tables(&example::rows());
    let printed: Vec<_> = printed.lines().filter(|line| line.starts_with("| ")).map(cells).collect();
    assert_eq!(printed.len(), 20, "two heads and nine kinds of traffic twice");
    for row in printed {
        assert!(documented.contains(&row), "docs/accuracy.md doesn't have {row:?}");
    }
}
