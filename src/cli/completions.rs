//! `tollgate completions`: the script that makes a shell complete our commands and flags.

use std::io::{self, Write as _};

use clap::Args;
use clap_complete::Shell;

use super::exit::Exit;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate completions bash > /etc/bash_completion.d/tollgate\n  \
    tollgate completions zsh > \"${fpath[1]}/_tollgate\"\n  \
    tollgate completions fish > ~/.config/fish/completions/tollgate.fish")]
pub(super) struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, mut command: clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "tollgate", &mut script);
    match io::stdout().write_all(&script) {
        // Whoever reads may have read enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}
