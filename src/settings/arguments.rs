//! Secrets in arguments, which other users of the machine can see. It knows which flags may have one, and what replaces
//! it.

use clap::{Arg, ArgMatches, Args, parser::ValueSource};

use super::Flags;

/// One line for each flag of `serve` that puts a secret into the arguments; its value isn't repeated.
pub(crate) fn secrets(found: &ArgMatches) -> Vec<String> {
    let command = Flags::augment_args(clap::Command::new("tollgate"));
    let arguments: Vec<&Arg> = command.get_arguments().collect();
    let shown = arguments.iter().filter(|arg| holds_a_secret(arg, found));
    shown.filter_map(|arg| line(arg, &arguments)).collect()
}

fn holds_a_secret(arg: &Arg, found: &ArgMatches) -> bool {
    let id = arg.get_id().as_str();
    if !arg.is_hide_env_values_set() || found.value_source(id) != Some(ValueSource::CommandLine) {
        return false;
    }
    let is_address =
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| *name != "SECRET" && *name != "PAIRS"));
    // An address is a secret only if it has a user or a password in it.
    !is_address || found.get_one::<String>(id).is_some_and(|value| value.contains('@'))
}

fn line(arg: &Arg, all: &[&Arg]) -> Option<String> {
    let (flag, variable) = (arg.get_long()?, arg.get_env()?.to_str()?);
    let file = format!("{variable}_FILE");
    let has_file = all.iter().any(|other| other.get_env().is_some_and(|env| env == file.as_str()));
    let better = if has_file {
        format!("{file}, or {variable} in the environment")
    } else {
        format!("{variable} in the environment")
    };
    Some(format!(
        "--{flag} holds a secret, which everybody on this machine sees in the list of processes: use {better}"
    ))
}
