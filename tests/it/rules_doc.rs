//! The examples of the pages on rules do what the pages say: plain ones load without a word, refused ones are refused.

use tollgate::rules::{self, Defaults, Source, Sources};

/// The fenced blocks whose first line is `fence`, each with its line in the page.
fn blocks(fence: &str) -> Vec<(usize, String)> {
    let page = concat!(
        include_str!("../../docs/src/reference/rules.md"),
        include_str!("../../docs/src/reference/limits.md"),
        include_str!("../../docs/src/reference/overrides.md"),
    );
    let mut lines = page.lines().enumerate();
    let mut blocks = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line == fence {
            let text = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            blocks.push((number + 1, text.collect::<Vec<_>>().join("\n")));
        }
    }
    assert!(!blocks.is_empty(), "the page has examples");
    blocks
}

fn problems(text: String) -> rules::Problems {
    let files = vec![Source { path: "docs/page.yaml".into(), bytes: text.into_bytes() }];
    // The files that the page's rules name are the CSV of the page.
    let overrides = blocks("```csv").into_iter().map(|(_, text)| text).take(1);
    let overrides =
        overrides.map(|text| Source { path: "docs/users.csv".into(), bytes: text.into_bytes() }).collect::<Vec<_>>();
    rules::load(&Sources { files, overrides, ..Sources::default() }, &Defaults::default(), None).problems
}

#[test]
fn examples_load_without_a_word() {
    for (line, text) in blocks("```yaml").into_iter().chain(blocks("```yaml names")) {
        let problems = problems(text);
        assert!(problems.is_empty(), "the example at line {line}:\n{}", problems.render());
    }
}

/// Those of the other pages are held by `book`.
#[test]
fn the_readmes_rules_load_without_a_word() {
    let mut found = 0;
    let text = include_str!("../../README.md");
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    for block in blocks.filter(|block| block.lines().any(|line| line.starts_with("domain:"))) {
        let files = vec![Source { path: "README.md".into(), bytes: block.as_bytes().to_vec() }];
        let load = rules::load(&Sources { files, ..Sources::default() }, &Defaults::default(), None);
        assert!(load.problems.is_empty(), "{}", load.problems.render());
        found += 1;
    }
    assert!(found > 0, "{found}");
}

#[test]
fn refused_examples_are_refused() {
    for (line, text) in blocks("```yaml refused") {
        assert!(problems(text).has_errors(), "the example at line {line}");
    }
}

#[test]
fn every_file_of_overrides_on_the_page_loads_without_a_word() {
    let (_, rules) = blocks("```yaml names").remove(0);
    let files = blocks("```csv").into_iter().map(|(line, text)| (line, "users.csv", text));
    for (line, name, text) in
        files.chain(blocks("```json").into_iter().map(|(line, text)| (line, "users.ndjson", text)))
    {
        let source = |path: &str, text: &str| Source { path: path.into(), bytes: text.as_bytes().to_vec() };
        let files = vec![source("api.yaml", &rules.replace("users.csv", name))];
        let sources = Sources { files, overrides: vec![source(name, &text)], ..Sources::default() };
        let load = rules::load(&sources, &Defaults::default(), None);
        assert!(load.problems.is_empty(), "the file at line {line}:\n{}", load.problems.render());
        assert!(load.rules.count().overrides > 0, "the file at line {line}");
    }
}
