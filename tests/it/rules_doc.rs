//! The examples of docs/rules.md do what the page says: plain ones load without a word, refused ones are refused.

use tollgate::rules::{self, Defaults, Source, Sources};

/// The fenced blocks whose first line is `fence`, each with its line in the page.
fn blocks(fence: &str) -> Vec<(usize, String)> {
    let page = include_str!("../../docs/rules.md");
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
    let files = vec![Source { path: "docs/rules.md".into(), bytes: text.into_bytes() }];
    rules::load(&Sources { files, ..Sources::default() }, &Defaults::default(), None).problems
}

#[test]
fn examples_load_without_a_word() {
    for (line, text) in blocks("```yaml") {
        let problems = problems(text);
        assert!(problems.is_empty(), "the example at line {line}:\n{}", problems.render());
    }
}

#[test]
fn refused_examples_are_refused() {
    for (line, text) in blocks("```yaml refused") {
        assert!(problems(text).has_errors(), "the example at line {line}");
    }
}
