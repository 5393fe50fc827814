//! Runs the commands of a page, from top to bottom in one shell, as a reader does with the page's default ports.
//!
//! The shell has a network of its own, where nobody else listens, and ends with everything that it started. It stands in
//! an empty folder with the repository's `config`, `examples`, `deploy`, `docs` and `tests` in it. A block that follows
//! "…`name`:" is written into that file first. A server whose command stands alone in its block goes on in the
//! background, as in a terminal of its own, until `<!-- run: stop -->` or the end of the page.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command as Process};

use regex::Regex;

use super::page::{Block, Command, Kind, Page};
use crate::{examples::project, harness::envoy_binary};

/// A command line that does not end by itself: with variables before it or not.
const SERVER: &str =
    r"^(?:[A-Z_]+=\S+ )*(?:tollgate(?: serve\b.*| -.*)?|redis-server\b.*|envoy -c .*|python3 -m http\.server.*)$";

/// What the shell knows besides the commands: `serve` starts a server that the page doesn't show, `stop` ends all servers or
/// the one that is named, and `eventually` tries a command again until it succeeds.
const PRELUDE: &str = r#"
ip link set lo up
declare -A server
stop() {
    for name in "${@:-${!server[@]}}"; do kill "${server[$name]}" && wait "${server[$name]}" 2>/dev/null; unset "server[$name]"; done
}
ready() {
    for _ in $(seq 600); do
        grep -qisE 'phase="?ready|ready to accept|all dependencies initialized|serving http on' "$1" && return
        kill -0 "$2" 2>/dev/null || break
        read -rt 0.05 <> <(:)
    done
    cat "$1"; echo "it isn't ready"
}
serve() {
    name=$1; "$@" > ".log-$name" 2>&1 &
    server[$name]=$!; ready ".log-$name" $!
}
eventually() {
    for _ in $(seq 600); do eval "$1" && return; read -rt 0.05 <> <(:); done
    echo "never: $1"
}
"#;

/// Between what two commands print: no program prints these.
const BEGINS: char = '\u{1e}';
const ENDED: char = '\u{1f}';

/// What is wrong with what the page's commands printed.
pub(super) fn run(page: &Page) -> Result<(), String> {
    let (printed, said) = print(page);
    let commands = page.commands();
    let mistakes: Vec<String> = commands
        .enumerate()
        .filter_map(|(nth, command)| mistake(&command, printed.get(nth).map_or("(not run)", |printed| printed)))
        .chain(never(&said).map(str::to_owned))
        .map(|mistake| format!("{}:{mistake}", page.path.display()))
        .collect();
    if mistakes.is_empty() { Ok(()) } else { Err(format!("{}\n{said}", mistakes.join("\n\n"))) }
}

/// What a hidden command waited for in vain.
pub(super) fn never(said: &str) -> Option<&str> {
    said.lines().find(|line| line.starts_with("never: "))
}

/// What each of the page's commands printed, as `ended` takes it apart, and what all else said.
pub(super) fn print(page: &Page) -> (Vec<String>, String) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let commands: Vec<Command> = page.commands().collect();
    fs::write(folder.path().join(".session"), script(page, &commands)).expect("the folder is ours");
    furnish(folder.path());
    let mut unshare = Process::new("unshare");
    unshare.args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare.args(["timeout", "--kill-after", "1", "240", "bash", ".session"]);
    let path = std::env::var("PATH").expect("there is a path");
    let home = folder.path();
    unshare.env_clear().env("PATH", format!("{}/.bin:{path}", home.display())).env("HOME", home);
    // Two cores run every test: a decision has a second, as in the harness, so that an answer isn't late.
    unshare.envs([
        ("TOLLGATE_WORKERS", "2"),
        ("TOLLGATE_STORE_TIMEOUT", "1s"),
        ("COLUMNS", "100"),
        ("LANG", "C.UTF-8"),
        ("PYTHONUNBUFFERED", "1"),
    ]);
    let output = unshare.current_dir(home).output().expect("util-linux has unshare");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.starts_with("unshare:"), "pages are run in a network of their own: {said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    (printed.split(BEGINS).skip(1).map(str::to_owned).collect(), said.into_owned())
}

/// What a command printed, and whether it failed.
pub(super) fn ended(printed: &str) -> (&str, bool) {
    let (text, status) = printed.rsplit_once(ENDED).unwrap_or((printed, "killed"));
    (text, status != "0")
}

/// What of the repository a page may name, and the program on the path.
fn furnish(folder: &Path) {
    for name in ["config", "examples", "deploy", "docs", "tests"] {
        symlink(project(name), folder.join(name)).expect("the folder is empty");
    }
    let bin = folder.join(".bin");
    fs::create_dir(&bin).expect("the folder is empty");
    for (name, program) in [("tollgate", env!("CARGO_BIN_EXE_tollgate").into()), ("envoy", envoy_binary())] {
        symlink(program, bin.join(name)).expect("the folder is empty");
    }
}

enum Step<'page> {
    Write(&'page Block, &'page str),
    Hidden(&'page str),
    Run(usize, &'page Command),
}

/// Everything of the page in its order, as bash.
fn script(page: &Page, commands: &[Command]) -> String {
    let written = page.blocks.iter().filter_map(|block| Some((block.line, Step::Write(block, block.file.as_deref()?))));
    let written = written.filter(|(_, step)| !matches!(step, Step::Write(Block { kind: Kind::Console { .. }, .. }, _)));
    let hidden = page.hidden.iter().map(|(line, command)| (*line, Step::Hidden(command)));
    let run = commands.iter().enumerate().map(|(nth, command)| (command.line, Step::Run(nth, command)));
    let mut steps: Vec<_> = written.chain(hidden).chain(run).collect();
    steps.sort_by_key(|(line, _)| *line);
    let server = Regex::new(SERVER).expect("a pattern");
    let steps = steps.into_iter().map(|(_, step)| match step {
        Step::Write(block, file) => format!("mkdir -p $(dirname {file}); cat > {file} <<'END OF FILE'\n{}END OF FILE\n", block.text),
        Step::Hidden(command) => format!("{{ {command}; }} >&2\n"),
        Step::Run(nth, command) if command.alone && server.is_match(&command.text) => format!(
            "printf '{BEGINS}'\n{} > .log{nth} 2>&1 &\nserver[{}]=$!\nready .log{nth} $!\ncat .log{nth}\nprintf '{ENDED}0'\n",
            command.text,
            program(&command.text),
        ),
        Step::Run(_, command) => {
            format!("printf '{BEGINS}'\n{{ {}\n}} 2>&1\nprintf '{ENDED}%s' $?\n", command.text)
        }
    });
    PRELUDE.to_owned() + &steps.collect::<String>()
}

/// The name that `stop` takes.
fn program(command: &str) -> &str {
    command.split_whitespace().find(|word| !word.contains('=')).expect("a command has a program")
}

/// What is wrong with what a command printed, with its line.
fn mistake(command: &Command, printed: &str) -> Option<String> {
    let (text, failed) = ended(printed);
    let (Command { line, text: command_line, .. }, status) = (command, &printed[text.len()..]);
    let whole = format!("{line}: $ {command_line}\nexit code {}, printed:\n{text}", status.trim_start_matches(ENDED));
    if failed != command.fails {
        return Some(format!("{whole}\n(it was to fail: {})", command.fails));
    }
    let is_server = command.alone && Regex::new(SERVER).expect("a pattern").is_match(command_line);
    let shown = pattern(&command.shown, is_server || command.shown.is_empty());
    let is_shown = Regex::new(&shown).expect("a pattern").is_match(&timeless(text));
    (!is_shown).then(|| format!("{whole}\nshown:\n{}", command.shown.join("\n")))
}

/// What the shown lines stand for: `…` is any text within a line, a line `…` any lines; a server logs more than is shown.
fn pattern(shown: &[String], open: bool) -> String {
    let any_lines = "(?:[^\n]*\n)*?";
    let lines = shown.iter().map(|line| match &**line {
        "…" => any_lines.to_owned(),
        line => regex::escape(&timeless(&format!("{line}\n"))).replace('…', "[^\n]*"),
    });
    let (before, after) = if open { (any_lines, any_lines) } else { ("", "") };
    format!("^{before}{}{after}$", lines.collect::<String>())
}

/// The text line by line, without what is another at each run: moments, durations, long numbers and hashes.
pub(super) fn timeless(text: &str) -> String {
    let changing = Regex::new(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z|\d+\.\d+|\b\d+ ?(?:ms|µs|s|m|min|h)\b(?: \d+ ?(?:ms|s|min|m)\b)*|retry-after: \d+|\bt=\d+|\b[0-9a-f]{16,}\b|\b\d{6,}(?:-\d+)?",
    )
    .expect("a pattern");
    text.lines().fold(String::new(), |text, line| text + changing.replace_all(line.trim_end(), "#").trim_end() + "\n")
}

#[test]
fn what_is_shown_must_be_printed() {
    let command = |shown: &[&str], fails| Command {
        line: 7,
        text: "tollgate call".into(),
        shown: shown.iter().map(|&line| line.to_owned()).collect(),
        fails,
        alone: false,
    };
    let printed = format!("OK\n  user=alice: 2 of 3 remaining, reset in 61 s\n{ENDED}0");
    assert_eq!(mistake(&command(&["OK", "  user=alice: 2 of 3 remaining, reset in 62 s"], false), &printed), None);
    assert_eq!(mistake(&command(&["OK", "…"], false), &printed), None);
    assert_eq!(mistake(&command(&["a", "", "b"], false), &format!("a\n\nb\n{ENDED}0")), None, "an empty line");
    assert_eq!(mistake(&command(&["OK", "  user=…: 2 of 3 remaining, reset in 62 s"], false), &printed), None);
    assert_eq!(mistake(&command(&[], false), &printed), None, "nothing is shown");
    for wrong in [
        command(&["OK"], false),
        command(&["OK", "  user=alice: 1 of 3 remaining, reset in 62 s"], false),
        command(&["OK", "…", "OK"], false),
        command(&["OK", "…"], true),
    ] {
        assert!(mistake(&wrong, &printed).is_some(), "{wrong:?}");
    }
    assert!(mistake(&command(&["OK"], false), &format!("OK\n{ENDED}3")).is_some());
    assert!(mistake(&command(&[], false), "OK\n").is_some(), "it never ended");
}
