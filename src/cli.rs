//! The command line: one function per subcommand, printing and exit codes. Uses the library as anyone would.

mod bench;
mod call;
mod check;
mod serve;

use std::{ffi::OsString, process::ExitCode};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::settings::{Flags, Invalid, Settings};

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
        tollgate call --domain api --descriptor user=alice"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Answer rate limit requests (what happens without a command)
    Serve(Box<Flags>),
    /// Load rule files as the service would, and print every problem
    Check(check::CheckArgs),
    /// Ask a running service once
    Call(call::CallArgs),
    /// Put load on a running service, and measure it
    Bench(bench::BenchArgs),
}

/// Runs the program; errors are for standard error, and mean exit code 1.
pub fn run(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let cli = match parse(args.into_iter().collect()) {
        Ok(cli) => cli,
        Err(refusal) => return Ok(refusal.print()),
    };
    match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(flags)) => serve::run(&flags),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Call(args)) => call::run(args),
        Some(Command::Bench(args)) => bench::run(args),
    }
}

/// Why the command line wasn't taken: help that was asked for, or everything that is wrong with it.
enum Refusal {
    Clap(clap::Error),
    Unknown { arguments: Vec<String>, settings: Option<Invalid>, usage: String },
}

impl Refusal {
    fn print(self) -> ExitCode {
        match self {
            Refusal::Clap(error) => {
                let _ = error.print();
                ExitCode::from(error.exit_code() as u8)
            }
            Refusal::Unknown { arguments, settings, usage } => {
                eprintln!("tollgate: not known: {}", arguments.join(", "));
                if let Some(invalid) = settings {
                    eprintln!("tollgate: {invalid}");
                }
                eprintln!("\n{usage}\n\nFor more, try '--help'.");
                ExitCode::from(2)
            }
        }
    }
}

/// clap stops at the first argument that it doesn't know; this goes on without it until all are found.
fn parse(mut args: Vec<OsString>) -> Result<Cli, Refusal> {
    let mut unknown = Vec::new();
    loop {
        let error = match Cli::command().try_get_matches_from(&args).and_then(|found| Cli::from_arg_matches(&found)) {
            Ok(cli) if unknown.is_empty() => return Ok(cli),
            Ok(cli) => return Err(refuse(unknown, wrong_settings(&cli))),
            Err(error) => error,
        };
        let Some(argument) = unknown_argument(&error) else {
            return Err(if unknown.is_empty() { Refusal::Clap(error) } else { refuse(unknown, None) });
        };
        // clap names the flag alone where the argument was flag=value.
        let is_it = |arg: &OsString| {
            arg.to_str().is_some_and(|arg| arg == argument || arg.starts_with(&format!("{argument}=")))
        };
        let Some(position) = args.iter().skip(1).position(is_it) else { return Err(Refusal::Clap(error)) };
        let suggestion = match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(known)) => format!(" (did you mean {known}?)"),
            _ => String::new(),
        };
        unknown.push(format!("'{argument}'{suggestion}"));
        args.remove(position + 1);
    }
}

fn unknown_argument(error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::UnknownArgument) {
        return None;
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument.clone()),
        _ => None,
    }
}

/// What would have been reported next, had every argument been known: one message says it all.
fn wrong_settings(cli: &Cli) -> Option<Invalid> {
    match &cli.command {
        None => Settings::resolve(&cli.serve).err(),
        Some(Command::Serve(flags)) => Settings::resolve(flags).err(),
        Some(Command::Check(_) | Command::Call(_)) => None,
    }
}

fn refuse(arguments: Vec<String>, settings: Option<Invalid>) -> Refusal {
    Refusal::Unknown { arguments, settings, usage: Cli::command().render_usage().to_string() }
}
