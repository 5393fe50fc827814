//! Every command of docs/api.md, run as it stands there, prints what the page shows.

use std::{path::Path, process::Command};

use regex::Regex;

use crate::harness::Tollgate;

const PAGE: &str = include_str!("../../../docs/api.md");

/// Commands, each with the lines that it is shown to print.
fn commands(text: &str) -> Vec<(&str, Vec<&str>)> {
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split_once("```").expect("a block ends").0);
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command, Vec::new())),
            None => commands.last_mut().expect("output follows a command").1.push(line),
        }
    }
    commands
}

fn run(command: &str, directory: &Path, token: &str) -> String {
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", command]).current_dir(directory).env("TOKEN", token).output().expect("bash runs");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What is another at each run: seconds, moments, versions.
fn timeless(text: &str) -> Vec<String> {
    let changing =
        Regex::new(r#"\d+\.\d+|\d{4}-\d\d-\d\dT[^"]+|\d{6,}(-\d+)?|t=\d+|retry-after: \d+"#).expect("a pattern");
    text.lines().map(|line| changing.replace_all(line, "…").into_owned()).collect()
}

#[tokio::test]
async fn every_command_prints_what_the_page_shows() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (before, tokens) = PAGE.split_once("## Tokens").expect("the heading");
    let (tokens, after) = tokens.split_once("\n## ").expect("a section follows");
    let making: Vec<&str> = commands(tokens).into_iter().map(|(command, _)| command).collect();
    let token = run(&format!("set -e\n{}\necho $TOKEN", making.join("\n")), directory.path(), "");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let file = directory.path().join("tokens");
    let env = [("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("temporary paths are text"))];
    let tollgate = Tollgate::start_with(&rules, &env).await;
    let all = [commands(before), commands(after)].concat();
    assert!(all.len() >= 7, "{all:?}");
    for (command, shown) in all {
        let here = command.replace("localhost:8080", &tollgate.http.to_string());
        let printed = run(&here, directory.path(), token.trim());
        let (printed_lines, mut at) = (timeless(&printed), 0);
        for line in timeless(&shown.join("\n")) {
            let found = printed_lines[at..].iter().position(|printed| printed.trim_end() == line);
            at += 1 + found.unwrap_or_else(|| panic!("{command}\nshown: {line}\nprinted: {printed}"));
        }
        assert!(!shown.is_empty() || !printed.contains("\"status\":"), "{command}\n{printed}");
    }
}
