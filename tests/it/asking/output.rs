//! What is printed: colours, `--watch`, lengths of time and moments.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use super::{RULES, Ran};
use crate::{
    api::with_tokens,
    harness::{RulesDir, Tollgate},
};

fn explain(tollgate: &Tollgate, more: &[&str]) -> Vec<String> {
    let at = tollgate.admin.to_string();
    let args = [&["explain", "--entry", "user=alice", "--admin", &*at], more].concat();
    args.into_iter().map(str::to_owned).collect()
}

fn run(args: &[String], env: &[(&str, &str)]) -> Ran {
    Ran::with(&args.iter().map(String::as_str).collect::<Vec<_>>(), env)
}

#[tokio::test]
async fn colours_are_where_somebody_looks_or_asks_for_them() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let is_coloured = |text: &str| text.contains("\u{1b}[32madmitted\u{1b}[0m");
    for (more, env, expected) in [
        (&[][..], &[][..], false),
        (&["--color", "always"], &[], true),
        (&["--color", "always"], &[("NO_COLOR", "1")], true),
        (&["--color", "never"], &[], false),
    ] {
        let ran = run(&explain(&tollgate, more), env);
        assert_eq!((ran.code, is_coloured(&ran.out)), (0, expected), "{more:?} {env:?}: {ran:?}");
        assert!(expected || !ran.out.contains('\u{1b}'), "{ran:?}");
    }
    // `script` runs it on a terminal of its own.
    for (env, expected) in [(&[][..], true), (&[("NO_COLOR", "1")], false), (&[("TERM", "dumb")], false)] {
        let line = [vec![env!("CARGO_BIN_EXE_tollgate").to_owned()], explain(&tollgate, &[])].concat().join(" ");
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env_remove("NO_COLOR").env("TERM", "xterm");
        let shown = script.envs(env.iter().copied()).output().expect("`script` is a part of every Debian");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert_eq!(is_coloured(&shown), expected, "{env:?}: {shown:?}");
    }
}

/// Commands that look again and again, and a line that each answer has.
const WATCHING: [(&[&str], &str); 3] = [
    (&["explain", "--entry", "user=alice"], "(user=alice)"),
    (&["top"], "fleet tollgate, 1 replica"),
    (&["status"], "fleet tollgate, 1 replica"),
];

fn watch(tollgate: &Tollgate, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(args).args(["--watch", "--admin", &tollgate.admin.to_string()]).env_clear();
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary was built with the tests")
}

fn lines_of(child: &mut Child) -> std::io::Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().expect("piped")).lines()
}

#[tokio::test]
async fn a_watch_appends_without_a_terminal_and_a_signal_ends_it_well() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    for (args, said) in WATCHING {
        // Two answers, one behind the other, then Ctrl-C.
        let mut child = watch(&tollgate, args);
        let mut lines = lines_of(&mut child);
        for _ in 0..2 {
            let line = lines.find(|line| line.as_ref().is_ok_and(|line| line == said));
            assert!(line.is_some(), "{args:?} ended before");
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        assert!(lines.all(|line| line.is_ok_and(|line| !line.contains('\u{1b}'))), "{args:?}: no escapes");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{args:?}");
    }
}

#[tokio::test]
async fn a_watch_ends_well_when_nobody_reads_any_more_and_what_fails_at_first_is_an_error() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    for (args, said) in WATCHING {
        let mut child = watch(&tollgate, args);
        let mut lines = lines_of(&mut child);
        assert_eq!(lines.next().expect("a line").expect("text"), said);
        drop(lines);
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{args:?}");
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        assert_eq!(said, "", "{args:?}");

        let ran = Ran::with(&[args, &["--admin", "127.0.0.1:1", "--watch"]].concat(), &[]);
        assert!(ran.code == 1 && ran.err.contains("no connection"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_moment_is_told_with_its_distance_and_a_length_of_time_is_read_in_one_way() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let at = tollgate.http.to_string();
    let set = |lasts: &str| {
        let fixed = ["overrides", "set", "--match", "user=alice", "--limit", "5/h", "--addr", &*at];
        Ran::of(&[&fixed[..], &["--for", lasts]].concat())
    };
    for (lasts, distance) in
        [("4h", "Z (in 4 h)"), ("90m", "Z (in 90 min)"), ("7d", "Z (in 7 d)"), ("1h30m", "(in 90 min)")]
    {
        let ran = set(lasts);
        assert!(ran.code == 0 && ran.out.contains(distance), "{lasts}: {ran:?}");
        assert!(ran.out.contains(", set by ops at 2") && ran.out.contains("Z (now)"), "{ran:?}");
    }
    for lasts in ["4 hours", "4", "h", "", "0s", "4y"] {
        let ran = set(lasts);
        assert!(ran.code == 2 && ran.err.contains("write it as 30s, 10m, 4h or 7d"), "{lasts}: {ran:?}");
    }
}
