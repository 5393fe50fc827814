//! `tollgate diff`: two sets of rules, from files, a revision of git or a running service, and what would change from the one
//! to the other, for people, programs or a pull request.

mod json;
mod markdown;
mod report;
mod sides;

use clap::{Args, ValueEnum};

use self::report::Report;
use super::{ask::AskArgs, exit::Exit, offline::DefaultsArgs, show, switch};
use crate::{
    clock,
    limit::{UnixMicros, moment},
    rules::{Defaults, DotFiles, FileNames, RulesDiff, Selection},
    sources::defaults,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate diff config/ new/\n  \
    tollgate diff git:main:config config/                            what this branch changes\n  \
    tollgate diff config/                                            what the service here has, and what it would get\n  \
    tollgate diff --addr https://limits.example --token-file token config/\n  \
    tollgate diff https://eu.limits.example https://us.limits.example\n  \
    tollgate diff --format markdown git:origin/main:config config/ > comment.md\n  \
    tollgate diff --exit-code config/ new/                           exit code 3 where anything differs\n  \
    tollgate diff --json config/ new/ | jq -r '.limits[].text'\n\n\
    A side is a file, a directory, git:REVISION:PATH, or the http:// or https:// address of a service's API (with a token\n\
    that has the scope rules.read) or of the /rules of its admin listener.\n\n\
    Exit code: 0 compared, 1 rules that can't be read, 2 a command line that can't be meant so; with --exit-code 3 where\n\
    there is a difference.")]
pub(super) struct DiffArgs {
    /// The rules as they are [default: those of the service at --addr, or of the one on this machine], and as they would be
    #[arg(value_names = ["OLD", "NEW"], num_args = 1..=2, required = true)]
    sides: Vec<String>,
    /// How differences are printed
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    format: DiffFormat,
    /// Print one object with every difference, as --format json does
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// End with exit code 3 where there is a difference
    #[arg(long)]
    exit_code: bool,
    /// How many override rows of each kind are named; all are counted
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    top: usize,
    /// The moment at which overrides have ended or not, such as 2026-12-24T00:00:00Z [default: now]
    #[arg(long, value_name = "MOMENT", value_parser = at)]
    at: Option<UnixMicros>,
    /// Merge files that name the same domain instead of refusing them
    #[arg(long, env = "MERGE_DOMAIN_CONFIG", value_parser = switch)]
    merge_domain_config: bool,
    /// Skip files and directories whose names begin with a dot ("..*" always are)
    #[arg(long, env = "RUNTIME_IGNOREDOTFILES", value_parser = switch)]
    runtime_ignoredotfiles: bool,
    /// Take every file of a directory for rules, as serving does with RUNTIME_* [default: *.yaml and *.yml]
    #[arg(long)]
    any_name: bool,
    #[command(flatten)]
    defaults: DefaultsArgs,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    /// For people, a line for each difference
    Text,
    /// One object with every difference
    Json,
    /// A comment for a pull request, of at most 60,000 characters
    Markdown,
}

pub(super) fn run(args: &DiffArgs) -> anyhow::Result<Exit> {
    let settings = args.defaults.settings(args.merge_domain_config)?;
    let selection = Selection {
        dot_files: if args.runtime_ignoredotfiles { DotFiles::Ignore } else { DotFiles::Read },
        names: if args.any_name { FileNames::Any } else { FileNames::Yaml },
    };
    let now = args.at.unwrap_or_else(clock::now);
    let sides = sides::of(&args.sides, &args.ask)?;
    let own = defaults(&settings);
    let [old, new] = sides::load(&sides, selection, |of_service| match of_service {
        Some(of_service) if args.defaults.is_empty() => {
            Defaults { merge_domains: own.merge_domains || of_service.merge_domains, ..of_service }
        }
        _ => own,
    })?;
    let names = sides.each_ref().map(sides::Side::name);
    let diff = RulesDiff::new(&old, &new, now, args.top);
    let text = match args.format {
        DiffFormat::Text if !args.json => Report::of(&diff).text(),
        DiffFormat::Markdown => markdown::write(&Report::of(&diff), &names[0], &names[1]),
        DiffFormat::Text | DiffFormat::Json => show::json(&json::of(&diff, (&names[0], &names[1]), now))?,
    };
    show::print(&text)?;
    Ok(if args.exit_code && !diff.is_empty() { Exit::Attention } else { Exit::Done })
}

fn at(text: &str) -> Result<UnixMicros, String> {
    moment::parse(text).map_err(|why| why.to_string())
}
