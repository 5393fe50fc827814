//! `tollgate check`: loads rule files as serving does, and prints every problem for people, programs or a pull request.

pub(super) mod settings;

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    exit::Exit,
    findings::{self, Finding},
    switch,
};
use crate::{
    clock,
    limit::{Algorithm, CountDenied},
    rules::{
        self, Defaults, DotFiles, FileNames, LoadedRules, Problems, RuleCounts, Rules, Selection, Sources, Warning,
    },
    visible,
};

#[derive(Args)]
#[command(arg = settings::switch(), after_help = "Examples:\n  \
    tollgate check config/\n  \
    tollgate check --strict --format github rules/*.yaml\n  \
    tollgate check --strict --allow expired-override rules/\n  \
    tollgate check --json rules/ | jq '.problems[].what'\n  \
    tollgate check --settings                     the environment, as `tollgate serve` would read it\n  \
    tollgate check --settings --redis-url redis:6379\n\n\
    With --settings the flags are those of `tollgate serve` (`tollgate check --settings --help`), and nothing is\n\
    started, connected or opened: run it with a deployment's environment before the rollout.\n\n\
    A comment `# tollgate: allow NAME` silences the warnings of that name on its line.\n\n\
    Exit code: 0 no errors (there may be warnings, unless --strict is set), 1 errors, or no rules at all.")]
pub(super) struct CheckArgs {
    /// Rule files, or directories of them
    #[arg(value_name = "PATH", default_value = "config")]
    paths: Vec<PathBuf>,
    /// Make errors of all warnings
    #[arg(long)]
    strict: bool,
    /// With --strict: a warning that stays one, by its name; may be given several times
    #[arg(long, value_name = "NAME", requires = "strict", value_parser = warning)]
    allow: Vec<Warning>,
    /// Print one object with every problem, as --format json does
    #[arg(long)]
    json: bool,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    /// Merge files that name the same domain instead of refusing them
    #[arg(long, env = "MERGE_DOMAIN_CONFIG", value_parser = switch)]
    merge_domain_config: bool,
    /// Skip files and directories whose names begin with a dot ("..*" always are)
    #[arg(long, env = "RUNTIME_IGNOREDOTFILES", value_parser = switch)]
    runtime_ignoredotfiles: bool,
    /// Take every file of a directory for rules, as serving does with RUNTIME_* [default: *.yaml and *.yml]
    #[arg(long)]
    any_name: bool,
    /// Algorithm of limits that name none [default: sliding_window]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_ALGORITHM", value_parser = algorithm)]
    algorithm: Option<Algorithm>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum OutputFormat {
    /// For people, with the line that each problem stands on
    Text,
    /// One object with all problems
    Json,
    /// Workflow commands that mark the lines of a pull request
    Github,
    /// XML as of JUnit: each error is a test that failed
    Junit,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// The answer as JSON.
#[derive(Serialize)]
struct CheckReport<'a> {
    ok: bool,
    #[serde(flatten)]
    problems: &'a Problems,
    #[serde(flatten)]
    count: RuleCounts,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let (problems, rules) = check(args);
    let problems = if args.strict { problems.strict(&args.allow) } else { problems };
    let text = match if args.json { OutputFormat::Json } else { args.format } {
        OutputFormat::Text => for_people(&problems, &rules),
        OutputFormat::Json => {
            let answer = CheckReport { ok: !problems.has_errors(), problems: &problems, count: rules.count() };
            visible::json(&serde_json::to_string_pretty(&answer)?).into_owned() + "\n"
        }
        OutputFormat::Github => found(&problems).iter().map(findings::github).collect(),
        OutputFormat::Junit => findings::junit(&findings::junit_of_check(&found(&problems), "rules")),
        OutputFormat::Sarif => findings::sarif(&found(&problems))?,
    };
    print(&text)?;
    Ok(if problems.has_errors() { Exit::Failed } else { Exit::Done })
}

fn found(problems: &Problems) -> Vec<Finding> {
    problems.iter().map(Finding::of).collect()
}

fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads may have read enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn check(args: &CheckArgs) -> (Problems, Rules) {
    let dot_files = if args.runtime_ignoredotfiles { DotFiles::Ignore } else { DotFiles::Read };
    let names = if args.any_name { FileNames::Any } else { FileNames::Yaml };
    let sources = Sources::read(&args.paths, Selection { dot_files, names });
    let sources = match sources.and_then(|sources| sources.require_rules().map(|()| sources)) {
        Ok(sources) => Sources { read_at: clock::now(), ..sources },
        Err(problems) => return (problems, Rules::default()),
    };
    let defaults = Defaults {
        algorithm: args.algorithm.unwrap_or_default(),
        count_denied: CountDenied::default(),
        merge_domains: args.merge_domain_config,
    };
    let LoadedRules { problems, rules, .. } = rules::load(&sources, &defaults, None);
    (problems, rules)
}

fn for_people(problems: &Problems, rules: &Rules) -> String {
    let mut text = problems.render();
    let (errors, warnings) = (problems.errors().count(), problems.warnings().count());
    if errors > 0 {
        text.push_str(&plural(errors, "error"));
    } else {
        let RuleCounts { files, domains, rules, tiers, overrides } = rules.count();
        let (files, domains, rules) = (plural(files, "file"), plural(domains, "domain"), plural(rules, "rule"));
        text.push_str(&format!("ok: {files}, {domains}, {rules}"));
        for (count, what) in [(tiers, "tier"), (overrides, "override")].into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!(", {}", plural(count, what)));
        }
    }
    if warnings > 0 {
        text.push_str(&format!(", {}", plural(warnings, "warning")));
    }
    text.push('\n');
    text
}

fn warning(name: &str) -> Result<Warning, String> {
    let names = || Warning::ALL.map(Warning::name).join(", ");
    Warning::parse(name).ok_or_else(|| format!("it is one of {}", names()))
}

/// An environment variable that is set but empty counts as unset, and so means the default.
fn algorithm(text: &str) -> Result<Algorithm, String> {
    if text.is_empty() {
        return Ok(Algorithm::default());
    }
    let names = || Algorithm::ALL.map(Algorithm::name).join(", ");
    Algorithm::parse(text).ok_or_else(|| format!("it is one of {}", names()))
}
