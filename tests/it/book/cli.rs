//! The pages on the command line are what `clap` prints: each command's `-h`, under a heading of its own.

use std::{collections::BTreeSet, fs};

use super::source;
use crate::harness::run_to_end;

/// `serve` has a page of its own: its flags are the settings.
const NOT_HERE: [&str; 2] = ["serve", "help"];

/// Each page: its file, title and first line, and its commands.
const PAGES: [(&str, &str, &str, &[&str]); 5] = [
    (
        "cli.md",
        "Command line",
        "Commands for rules, editors and measurements. `tollgate serve` has its flags in [Settings](settings.md). Those that ask a \
         running service: [asking](cli-asking.md), [overrides and resets](cli-overrides.md), [limits](cli-limits.md).",
        &["check", "test", "schema", "capacity", "bench", "completions"],
    ),
    (
        "cli-asking.md",
        "Command line: asking a service",
        "Where they find the service: [Exit codes, and finding a service](exit-codes.md).",
        &["call", "explain", "top", "tail", "status", "changes"],
    ),
    (
        "cli-changes.md",
        "Command line: changes of rules",
        "What a change would do: [`tollgate diff`](../guides/diff.md) compares rules, [`tollgate replay`](../guides/replay.md) plays \
         recorded requests through them.",
        &["diff", "replay"],
    ),
    (
        "cli-overrides.md",
        "Command line: overrides and resets",
        "What they do: [Changes at run time](../operating/runtime.md).",
        &[
            "overrides get",
            "overrides set",
            "overrides list",
            "overrides delete",
            "overrides import",
            "overrides export",
            "reset",
        ],
    ),
    (
        "cli-limits.md",
        "Command line: limits",
        "What each does: [A limit as a whole, for a while](../operating/runtime.md#a-limit-as-a-whole-for-a-while).",
        &["limits shadow", "limits scale", "limits enforce", "limits off", "limits restore", "limits list"],
    ),
];

fn help(command: &str) -> String {
    let args: Vec<&str> = command.split_whitespace().chain(["-h"]).collect();
    let help = run_to_end(&args, &[("COLUMNS", "100")]).stdout;
    let help = String::from_utf8(help).expect("help is text");
    help.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// The names below `Commands:` of a command's help, with the command before them; none where it has no commands.
fn commands_of(command: &str) -> Vec<String> {
    let help = help(command);
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next()).filter(|name| !NOT_HERE.contains(name));
    names.map(|name| format!("{command} {name}").trim().to_owned()).collect()
}

#[test]
fn every_command_is_on_a_page() {
    let (groups, single): (Vec<String>, Vec<String>) =
        commands_of("").into_iter().partition(|command| !commands_of(command).is_empty());
    let there: BTreeSet<String> = groups.iter().flat_map(|group| commands_of(group)).chain(single).collect();
    let listed: BTreeSet<String> = PAGES.iter().flat_map(|page| page.3).map(|&command| command.to_owned()).collect();
    assert!(there.len() > 20, "{there:?}");
    assert_eq!(listed, there);
}

/// With `TOLLGATE_BLESS` set the pages are written anew; what changed is then for `git diff` to show.
#[test]
fn every_commands_help_is_what_the_page_shows() {
    for (file, title, intro, commands) in PAGES {
        let sections = commands.iter().map(|command| format!("\n## {command}\n\n```text\n{}```\n", help(command)));
        let made = format!("# {title}\n\n{intro}\n{}", sections.collect::<String>());
        let path = source().join("reference").join(file);
        if std::env::var_os("TOLLGATE_BLESS").is_some() {
            fs::write(&path, &made).expect("tests run where the crate is");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(written, made, "{} (TOLLGATE_BLESS=1 writes it anew)", path.display());
    }
}
