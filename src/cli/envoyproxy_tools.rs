//! The names that envoyproxy/ratelimit's tools have: called by one of them, the binary behaves as that tool, so that the
//! commands of deployments and CI stay as they are. Flags are Go's: one dash or two, `=` or the next argument.

mod client;
mod config_check;

use std::{collections::BTreeMap, ffi::OsString, path::Path, process::ExitCode};

use crate::settings;

/// What a Go flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Text,
    /// Nothing, or `=true` and the like.
    Switch,
}

type Tool = fn(&GoFlags) -> anyhow::Result<ExitCode>;

type Flag = (&'static str, Takes, &'static str);

/// Runs the tool that the first argument names, if it names one.
pub(super) fn run(args: &[OsString]) -> Option<anyhow::Result<ExitCode>> {
    let name = Path::new(args.first()?).file_name()?.to_str()?;
    let (flags, tool): (&[Flag], Tool) = match name {
        "ratelimit_client" => (client::FLAGS, client::run),
        "ratelimit_config_check" => (config_check::FLAGS, config_check::run),
        _ => return None,
    };
    let args: Vec<String> = args[1..].iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    Some(match GoFlags::read(&args, flags) {
        Ok(given) => tool(&given),
        Err(wrong) => {
            eprintln!("{wrong}Usage of {name}:");
            for (flag, _, help) in flags {
                eprintln!("  -{flag}\n    \t{help}");
            }
            Ok(ExitCode::from(if wrong.is_empty() { 0 } else { 2 }))
        }
    })
}

/// The flags as given: each with its values, in order.
struct GoFlags(BTreeMap<&'static str, Vec<String>>);

impl GoFlags {
    /// The error is what to say before the usage; nothing where only help was asked for.
    fn read(args: &[String], flags: &[Flag]) -> Result<GoFlags, String> {
        let mut given = GoFlags(BTreeMap::new());
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|flag| !flag.is_empty())
            else {
                return Err(format!("'{arg}' is no flag\n"));
            };
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            if matches!(name, "h" | "help") {
                return Err(String::new());
            }
            let known = flags.iter().find(|(known, ..)| *known == name);
            let (name, takes, _) = known.ok_or_else(|| format!("flag provided but not defined: -{name}\n"))?;
            let value = match (takes, value) {
                (_, Some(value)) => value.to_string(),
                (Takes::Switch, None) => "true".to_string(),
                (Takes::Text, None) => {
                    rest.next().cloned().ok_or_else(|| format!("flag needs an argument: -{name}\n"))?
                }
            };
            if *takes == Takes::Switch && settings::boolean(&value).is_err() {
                return Err(format!("invalid boolean value \"{value}\" for -{name}\n"));
            }
            given.0.entry(name).or_default().push(value);
        }
        Ok(given)
    }

    /// The last value, as Go has it.
    fn text(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str).filter(|value| !value.is_empty())
    }

    fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn switch(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| settings::boolean(value) == Ok(true))
    }
}
