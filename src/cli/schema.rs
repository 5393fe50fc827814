//! `tollgate schema`: prints the JSON Schema of rule files, test cases or override rows.

use clap::{Args, ValueEnum};

use super::{exit::Exit, show};
use crate::rules::{self, SchemaOf};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate schema rules > rules.schema.json\n  \
    tollgate schema tests > tests.schema.json\n  \
    tollgate schema overrides > overrides.schema.json\n\n\
    An editor with a language server for YAML reads the first line of a file:\n  \
    # yaml-language-server: $schema=rules.schema.json")]
pub(super) struct SchemaArgs {
    /// Which files it is for
    #[arg(value_enum)]
    files: Files,
}

#[derive(Clone, Copy, ValueEnum)]
enum Files {
    /// Rule files
    Rules,
    /// Files of test cases
    Tests,
    /// YAML lists of override rows
    Overrides,
}

pub(super) fn run(args: &SchemaArgs) -> anyhow::Result<Exit> {
    let of = match args.files {
        Files::Rules => SchemaOf::Rules,
        Files::Tests => SchemaOf::Tests,
        Files::Overrides => SchemaOf::Overrides,
    };
    show::print(&show::json(&rules::schema(of))?)?;
    Ok(Exit::Done)
}
