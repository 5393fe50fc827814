//! `docs/src/guides/on-call.md` is read at night: every console block of it is run, in order, against a fleet in the state that it tells
//! of, and prints what the page shows; so is every command of its table.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::*;
use crate::api::{token_line, write_tokens};

const PAGE: &str = include_str!("../../../docs/src/guides/on-call.md");

/// The page's own words for what each machine calls otherwise.
const ADDRESS: &str = "limits.example:8080";

/// A command, and the lines that it is to print.
struct Shown {
    command: String,
    printed: Vec<&'static str>,
}

/// Of all console blocks, in order.
fn shown() -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for block in PAGE.split("```console\n").skip(1) {
        for line in block.split("```").next().expect("a split has a first part").lines() {
            match (line.strip_prefix("$ "), all.last_mut()) {
                (Some(command), _) => all.push(Shown { command: command.to_owned(), printed: Vec::new() }),
                (None, Some(last)) => last.printed.push(line),
                (None, None) => panic!("a block begins with what it prints: {line}"),
            }
        }
    }
    all
}

/// The commands of the table of questions, with the views.
fn questions() -> Vec<(&'static str, &'static str)> {
    let section = PAGE.split_once("## Ten questions\n").expect("the table").1.split("\n## ").next().expect("its text");
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        (cells[2].trim_matches('`'), cells[3])
    })
    .collect()
}

/// A line without what differs from run to run: words with digits, columns' widths, and how far a moment is.
fn without_numbers(line: &str) -> String {
    let word = |word: &str| match word {
        // A rate that there was none of.
        "-" => "# %".to_owned(),
        word if word.chars().any(|c| c.is_ascii_digit()) => {
            let (start, end) = (word.starts_with('('), word.ends_with(')'));
            format!("{}#{}", if start { "(" } else { "" }, if end { ")" } else { "" })
        }
        word => word.to_owned(),
    };
    let mut line = line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    for (unit, ago) in ["ms", "s", "min", "h", "d"].into_iter().flat_map(|unit| [(unit, false), (unit, true)]) {
        let distance = if ago { format!("(# {unit} ago)") } else { format!("(in # {unit})") };
        line = line.replace(&distance, "(…)");
    }
    line.replace("(now)", "(…)")
}

/// Whether what came is what is shown, where a line `…` is any number of lines.
fn is_as_shown(came: &[String], shown: &[String]) -> bool {
    match (shown.split_first(), came.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => (0..=came.len()).any(|at| is_as_shown(&came[at..], rest)),
        (Some((first, rest)), Some((line, others))) => first == line && is_as_shown(others, rest),
        _ => false,
    }
}

/// Runs a command as somebody at a shell does, in `home`, without a terminal.
fn run(command: &str, home: &Path, address: &str) -> Ran {
    let export = PAGE.lines().find_map(|line| line.strip_prefix("$ export ")).expect("how a service is found");
    let binary = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().expect("it is in a directory");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let line = format!("export {}\n{command}", export.replace(ADDRESS, address));
    let mut bash = Command::new("bash");
    bash.args(["-c", &line]).env_clear().env("PATH", path).env("HOME", home).stdin(Stdio::null());
    let output = bash.output().expect("bash is there");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    Ran { out, err, code: output.status.code().expect("it ended by itself") }
}

/// The state that the page tells of: a client that floods, one that is refused now and then, and a change.
async fn incident(redis: &RedisServer, rules: &RulesDir) -> Vec<Tollgate> {
    let replicas = fleet(rules, redis, &["a", "b", "c"]).await;
    let tokens = rules.path().join("tokens");
    write_tokens(&tokens, &token_line("ops", "secret", "insight.read,audit.read,limits.write,counters.reset"));
    let at = replicas[0].http.to_string();
    let zoe =
        ["--domain", "api", "--match", "user=zoe", "--rule", "user", "--limit", "50/h", "--reason", "contract 42"];
    eventually("the page's token and an override", || async {
        let set = Ran::of(&[&["overrides", "set", "--addr", &at], &zoe[..]].concat());
        (set.code == 0 && Ran::of(&["limits", "shadow", "x", "--addr", &at]).code == 2).then_some(())
    })
    .await;
    for (user, refusals) in [("alice", 2), ("mallory", 290)] {
        let mut refused = 0;
        for replica in replicas.iter().cycle() {
            refused += u32::from(!replica.client().admits("api", &[("user", user)]).await);
            if refused == refusals {
                break;
            }
        }
    }
    eventually("all replicas are in the lists", || async {
        let seen = look(&replicas[0], &["status", "--json"]).json();
        (seen["refusing_partial"].is_null() && seen["refusing"][0]["denied"] == 292).then_some(())
    })
    .await;
    replicas
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_incident_page_prints_what_it_shows() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = incident(&redis, &rules).await;
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join(".tollgate-token"), "secret\n").expect("the directory is ours");
    let at = replicas[0].http.to_string();
    for (command, _) in questions() {
        let once = command.replace(" --watch", "");
        let ran = run(&once, home.path(), &at);
        assert_eq!((ran.code, &*ran.err), (0, ""), "{command}: {ran:?}");
    }
    let all = shown();
    assert!(all.len() > 10, "{} commands", all.len());
    for Shown { command, printed } in all {
        let ran = run(&command, home.path(), &at);
        let [came, expected] = [ran.out.lines().collect::<Vec<_>>(), printed]
            .map(|lines| lines.into_iter().map(without_numbers).collect::<Vec<_>>());
        assert!(
            ran.code == 0 && ran.err.is_empty() && is_as_shown(&came, &expected),
            "{command}\n{}{}\nis shown as\n{}",
            ran.out,
            ran.err,
            expected.join("\n")
        );
    }
}

#[test]
fn the_ten_questions_have_a_command_and_a_view_each() {
    let questions = questions();
    assert_eq!(questions.len(), 10, "{questions:?}");
    let views = ["fleet", "limits", "a user", "live", "overrides", "rules", "changes"];
    for (command, view) in &questions {
        assert!(command.starts_with("tollgate ") && views.contains(view), "{command}: {view}");
    }
    for view in views {
        assert!(questions.iter().any(|(_, of)| *of == view), "no question leads to the view {view}");
    }
}

/// What wants attention is told in words that the page explains.
#[test]
fn every_attention_of_status_is_explained() {
    let source = include_str!("../../../src/front/api/fleet.rs");
    let words = [
        "replicas have different",
        "errors in its files, so that older rules are in force",
        "its store doesn't answer",
        "circuit breakers are open",
        "its release is too old for switches",
        "limits are switched on this replica alone",
    ];
    for words in words {
        assert!(source.contains(words) && PAGE.contains(words), "{words}");
    }
    assert_eq!(source.matches("found.push(").count(), words.len() + 1, "an attention that the page doesn't know");
}
