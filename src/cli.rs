//! The command line: one function per subcommand, printing and exit codes. Uses the library as anyone would.

mod ask;
mod bench;
mod call;
mod capacity;
mod changes;
mod check;
mod completions;
mod diff;
mod entries;
pub(crate) mod envoyproxy_tools;
mod exit;
mod explain;
mod findings;
mod git;
mod limits;
mod offline;
mod overrides;
mod replay;
mod reset;
mod schema;
mod serve;
mod show;
mod status;
mod tail;
mod test;
mod top;

use std::{ffi::OsString, process::ExitCode};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use self::exit::Exit;
use crate::{
    settings::{self, Environment, Flags, Invalid, Settings, secrets_in_arguments},
    visible,
};

#[derive(Parser)]
#[command(
    name = "tollgate",
    version,
    about = "A rate limit service for Envoy, Istio and anything that speaks gRPC or HTTP",
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        tollgate                                      serve ./config, counting in memory\n  \
        tollgate --rules rules/ --redis-url redis:6379\n  \
        tollgate check rules/                         find every problem of rule files\n  \
        tollgate check --settings                     find every mistake of the environment and the flags\n  \
        tollgate test rules/                          run the test cases beside them\n  \
        tollgate call --domain api --descriptor user=alice\n  \
        tollgate capacity --requests 100k --users 1m  what that load takes"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Answer rate limit requests (the default command)
    Serve(Box<Flags>),
    /// Load rule files as the service would, and print every problem
    Check(check::CheckArgs),
    /// Read the environment and the flags of `tollgate serve`, start nothing, and print every mistake
    #[command(name = check::settings::NAME, hide = true)]
    CheckSettings(Box<check::settings::SettingsArgs>),
    /// Run test cases against rules, and print each answer that is not as expected
    Test(test::TestArgs),
    /// Compare two sets of rules: what would change, and for whom
    Diff(Box<diff::DiffArgs>),
    /// Play recorded requests through rules: whom they would refuse, and what that changes
    Replay(Box<replay::ReplayArgs>),
    /// Print the JSON Schema of rule files, test cases or override rows, for editors
    Schema(schema::SchemaArgs),
    /// Explain what a request would be answered, and why: its rule, override and counters
    Explain(Box<explain::ExplainArgs>),
    /// Send one request to a running service
    Call(call::CallArgs),
    /// List who is refused most, hit most, or would be refused most, by a running service
    Top(top::TopArgs),
    /// Show decisions as they happen, on all replicas
    Tail(tail::TailArgs),
    /// Get, set, list, delete, import and export overrides of a running service
    Overrides(overrides::OverridesArgs),
    /// Show the replicas of the fleet, what they serve and how they fare
    Status(status::StatusArgs),
    /// Switch a limit to shadow, off or another size, on all replicas, until it ends by itself
    Limits(limits::LimitsArgs),
    /// Tell what changed of late: rules, overrides, switches, counters
    Changes(changes::ChangesArgs),
    /// Let a descriptor that is denied begin afresh, on all replicas
    Reset(reset::ResetArgs),
    /// Put load on a running service, and measure it
    Bench(bench::BenchArgs),
    /// Estimate what a load takes: cores, memory, network, and what breaks first
    Capacity(capacity::CapacityArgs),
    /// Print the completion script of a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the program; errors are for standard error, and mean exit code 1. They may repeat what others wrote, and are fit for
/// a terminal.
pub fn run(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let done = match envoyproxy_tools::run(&args) {
        Some(done) => done,
        None => run_command(args),
    };
    match done.map_err(|error| (exit::of_error(&error), visible::lines(&format!("{error:#}")).into_owned())) {
        Ok(code) => Ok(code),
        Err((Exit::Usage, text)) => {
            eprintln!("tollgate: {text}");
            Ok(Exit::Usage.into())
        }
        Err((_, text)) => Err(anyhow::Error::msg(text)),
    }
}

fn run_command(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let cli = match parse(check::settings::arguments(args)) {
        Ok(cli) => cli,
        Err(refusal) => return Ok(refusal.print()),
    };
    let exit = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(flags)) => serve::run(&flags),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::CheckSettings(args)) => check::settings::run(&args),
        Some(Command::Test(args)) => test::run(&args),
        Some(Command::Diff(args)) => diff::run(&args),
        Some(Command::Replay(args)) => replay::run(&args),
        Some(Command::Schema(args)) => schema::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Call(args)) => call::run(&args),
        Some(Command::Top(args)) => top::run(&args),
        Some(Command::Tail(args)) => tail::run(&args),
        Some(Command::Overrides(args)) => overrides::run(args),
        Some(Command::Status(args)) => status::run(&args),
        Some(Command::Limits(args)) => limits::run(args),
        Some(Command::Changes(args)) => changes::run(&args),
        Some(Command::Reset(args)) => reset::run(&args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Capacity(args)) => Ok(capacity::run(&args)),
        Some(Command::Completions(args)) => completions::run(&args, Cli::command()),
    };
    exit.map(ExitCode::from)
}

/// Why the command line wasn't taken: help that was asked for, or everything that is wrong with it.
enum UsageError {
    Clap(clap::Error),
    Wrong { lines: Vec<String>, usage: String },
}

impl UsageError {
    fn print(self) -> ExitCode {
        match self {
            UsageError::Clap(error) => {
                let _ = error.print();
                ExitCode::from(error.exit_code() as u8)
            }
            UsageError::Wrong { lines, usage } => {
                eprintln!("tollgate: {}\n\n{usage}\n\nFor more, try '--help'.", lines.join("\n"));
                Exit::Usage.into()
            }
        }
    }
}

/// clap stops at the first argument that it doesn't know; this goes on without it until all are found, and looks at
/// the settings' values besides.
fn parse(mut args: Vec<OsString>) -> Result<Cli, UsageError> {
    let mut wrong = Vec::new();
    loop {
        match Cli::command().try_get_matches_from(&args).and_then(|found| read(&found)) {
            Ok(cli) if wrong.is_empty() => return Ok(cli),
            Ok(cli) => {
                wrong.extend(wrong_settings(&cli));
                return Err(refuse(wrong, &args));
            }
            Err(error) => match unknown(&error, &args) {
                Some((line, found)) => {
                    wrong.push(line);
                    args.drain(found);
                }
                None if wrong.is_empty() => return Err(UsageError::Clap(error)),
                None => return Err(refuse(wrong, &args)),
            },
        }
    }
}

fn read(found: &ArgMatches) -> Result<Cli, clap::Error> {
    let mut cli = Cli::from_arg_matches(found)?;
    match &mut cli.command {
        None => cli.serve.secrets_in_arguments = secrets_in_arguments(found),
        Some(Command::Serve(flags)) => {
            let found = found.subcommand_matches("serve");
            flags.secrets_in_arguments = found.map(secrets_in_arguments).unwrap_or_default();
        }
        Some(_) => {}
    }
    Ok(cli)
}

/// What to say of an unknown argument, and where it stands, with the value that seems to belong to it.
fn unknown(error: &clap::Error, args: &[OsString]) -> Option<(String, std::ops::Range<usize>)> {
    let named = match error.kind() {
        ErrorKind::UnknownArgument => error.get(ContextKind::InvalidArg)?,
        ErrorKind::InvalidSubcommand => error.get(ContextKind::InvalidSubcommand)?,
        _ => return None,
    };
    let ContextValue::String(named) = named else { return None };
    let text = |arg: &OsString| arg.to_string_lossy().into_owned();
    // clap names the flag alone where the argument was flag=value.
    let is_it = |arg: &OsString| text(arg) == *named || text(arg).starts_with(&format!("{named}="));
    let start = args.iter().skip(1).position(is_it)? + 1;
    let takes_next = named.starts_with("--") && !text(&args[start]).contains('=');
    let value = args.get(start + 1).filter(|next| takes_next && !text(next).starts_with('-'));
    let suggestion = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(known)) => format!(" (did you mean {known}?)"),
        _ => String::new(),
    };
    Some((format!("'{named}' is not known{suggestion}"), start..start + 1 + usize::from(value.is_some())))
}

fn wrong_settings(cli: &Cli) -> Vec<String> {
    let flags = match &cli.command {
        None => &cli.serve,
        Some(Command::Serve(flags)) => flags,
        Some(Command::CheckSettings(args)) => &args.flags,
        Some(_) => return Vec::new(),
    };
    Settings::read(flags, &Environment::of_process()).err().map(|Invalid(lines)| lines).unwrap_or_default()
}

/// Of a switch that is in the environment: one that is empty counts as unset.
fn switch(text: &str) -> Result<bool, String> {
    if text.is_empty() { Ok(false) } else { settings::boolean(text) }
}

fn refuse(lines: Vec<String>, args: &[OsString]) -> UsageError {
    let mut command = Cli::command();
    command.build();
    let mut meant = &mut command;
    for name in args.iter().skip(1) {
        if meant.find_subcommand(name).is_none() {
            break;
        }
        meant = meant.find_subcommand_mut(name).expect("it was just found");
    }
    UsageError::Wrong { lines, usage: meant.render_usage().to_string() }
}
