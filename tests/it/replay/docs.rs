//! docs/src/guides/replay.md shows what is printed, and its files of fields are some.

use tollgate::rules::{LogFields, Source};

use crate::asking::Ran;

fn blocks(fence: &str) -> Vec<String> {
    let page = std::fs::read_to_string("docs/src/guides/replay.md").expect("it is in the repository");
    let fence = format!("\n```{fence}\n");
    let blocks = page.split(&*fence).skip(1).map(|rest| rest.split("\n```").next().expect("its end").to_owned());
    let blocks: Vec<String> = blocks.collect();
    assert!(!blocks.is_empty(), "the page has examples");
    blocks
}

#[test]
fn the_pages_commands_print_what_it_shows() {
    for block in blocks("console") {
        let (command, shown) = block.split_once('\n').expect("a command, then what it prints");
        let args: Vec<&str> = command.strip_prefix("$ tollgate ").expect("it is ours").split(' ').collect();
        let ran = Ran::with(&args, &[]);
        assert_eq!((ran.code, &*ran.err, ran.out.trim_end()), (0, "", shown), "{command}");
    }
}

#[test]
fn the_pages_files_of_fields_have_no_problems() {
    for block in blocks("yaml fields") {
        let (fields, problems) =
            LogFields::read(&Source { path: "docs/src/guides/replay.md".into(), bytes: block.into_bytes() });
        assert!(fields.is_some() && problems.is_empty(), "{}", problems.render());
    }
}

/// The line that the page shows is one.
#[test]
fn the_pages_line_can_be_played() {
    let [line] = &*blocks("json") else { panic!("one line") };
    let rules = crate::harness::RulesDir::with("api.yaml", crate::asking::RULES);
    rules.write("log.ndjson", &(line.replace('\n', " ") + "\n"));
    let log = rules.path().join("log.ndjson");
    let answer = Ran::with(
        &["replay", log.to_str().expect("text"), "--rules", rules.path().to_str().expect("text"), "--json"],
        &[],
    );
    assert_eq!(answer.json()["requests"], 1);
}
