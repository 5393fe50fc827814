//! `tollgate check --settings`: reads the environment and the flags as serving does, and prints every mistake. Nothing is
//! started, connected or opened, so that it can run before a rollout.

use std::ffi::OsString;

use clap::{ArgAction, Args};
use serde::Serialize;

use super::{OutputFormat, plural, print};
use crate::cli::{
    exit::Exit,
    findings::{self, Finding},
};
use crate::settings::{Environment, Findings, Flags, Settings};

/// The subcommand that `check` is called with `--settings`: its flags are those of serving.
pub(in crate::cli) const NAME: &str = "check-settings";

#[derive(Args)]
#[command(
    override_usage = "tollgate check --settings [OPTIONS]",
    arg = switch(),
    after_help = "Examples:\n  \
        tollgate check --settings\n  \
        tollgate check --settings --redis-url redis:6379 --redis-tls true\n  \
        tollgate check --settings --json | jq '.problems[].what'\n  \
        docker run --rm --env-file limits.env IMAGE check --settings\n\n\
        Exit code: 0 no mistakes (there may be warnings), 1 mistakes: `tollgate serve` would not start."
)]
pub(in crate::cli) struct SettingsArgs {
    /// Print one object with every mistake, as --format json does
    #[arg(long)]
    json: bool,
    /// How mistakes are printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    pub(in crate::cli) flags: Flags,
}

/// `--settings` itself: [`arguments`] has read it when it is parsed.
pub(super) fn switch() -> clap::Arg {
    let help = "Check the settings instead of rules: the environment, and the flags of `tollgate serve`";
    clap::Arg::new("settings").long("settings").action(ArgAction::SetTrue).help(help)
}

/// The arguments with the subcommand that they mean: which flags `check` takes depends on one of them.
pub(in crate::cli) fn arguments(mut args: Vec<OsString>) -> Vec<OsString> {
    let is_check = args.get(1).is_some_and(|arg| arg == "check");
    if is_check && args.iter().any(|arg| arg == "--settings") {
        args[1] = NAME.into();
    }
    args
}

/// A mistake, as `check` tells of a problem of the rules.
#[derive(Serialize)]
struct SettingsProblem<'a> {
    severity: &'static str,
    what: &'a str,
}

#[derive(Serialize)]
struct SettingsReport<'a> {
    ok: bool,
    problems: Vec<SettingsProblem<'a>>,
}

fn found(problems: &[SettingsProblem<'_>]) -> Vec<Finding> {
    let finding = |problem: &SettingsProblem<'_>| Finding {
        kind: "settings",
        is_error: problem.severity == "error",
        path: None,
        line: 1,
        column: 1,
        text: problem.what.to_owned(),
    };
    problems.iter().map(finding).collect()
}

pub(in crate::cli) fn run(args: &SettingsArgs) -> anyhow::Result<Exit> {
    let Findings { wrong, idle } = Settings::findings(&args.flags, &Environment::of_process());
    let wrong_lines = wrong.iter().map(|what| SettingsProblem { severity: "error", what });
    let problems: Vec<SettingsProblem<'_>> =
        wrong_lines.chain(idle.iter().map(|what| SettingsProblem { severity: "warning", what })).collect();
    let text = match if args.json { OutputFormat::Json } else { args.format } {
        OutputFormat::Text => {
            let lines = problems.iter().map(|line| format!("{}: {}\n", line.severity, line.what));
            let count = match wrong.len() {
                0 => "ok: settings".to_owned(),
                errors => plural(errors, "error"),
            };
            let warnings = if idle.is_empty() { String::new() } else { format!(", {}", plural(idle.len(), "warning")) };
            lines.collect::<String>() + &format!("{count}{warnings}\n")
        }
        OutputFormat::Json => serde_json::to_string_pretty(&SettingsReport { ok: wrong.is_empty(), problems })? + "\n",
        OutputFormat::Github => found(&problems).iter().map(findings::github).collect(),
        OutputFormat::Junit => findings::junit(&findings::junit_of_check(&found(&problems), "settings")),
        OutputFormat::Sarif => findings::sarif(&found(&problems))?,
    };
    print(&text)?;
    Ok(if wrong.is_empty() { Exit::Done } else { Exit::Failed })
}
