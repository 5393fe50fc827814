//! Exit codes, the same of every subcommand; `docs/src/reference/exit-codes.md` has the table.

use std::{fmt, process::ExitCode};

/// How a command ended. In the order of what is worse, so that of several services the worst counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exit {
    /// It was done.
    #[default]
    Done,
    /// It was answered, and the answer is no or wants attention.
    Attention,
    /// It failed, or `check` and `test` found problems.
    Failed,
    /// The command line can't be meant so.
    Usage,
}

impl Exit {
    pub(super) const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Attention => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// The error of a command line that can't be meant so, which clap can't see.
#[derive(Debug)]
pub(super) struct BadUsage(pub(super) String);

impl fmt::Display for BadUsage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

/// The exit code of a command that ended with an error.
pub(super) fn of_error(error: &anyhow::Error) -> Exit {
    if error.chain().any(|cause| cause.is::<BadUsage>()) { Exit::Usage } else { Exit::Failed }
}
