//! Which decisions a decision log holds, and how that is written.

#[cfg(test)]
mod tests;

use std::fmt;

use super::EnforcedShare;

/// What a decision log holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogSample {
    All,
    /// All decisions about this share of clients, and, if `denied`, of all other clients as [`LogSample::Denied`].
    Share {
        share: EnforcedShare,
        denied: bool,
    },
    /// The first refusal of a counter in its window, and one in a hundred of its others.
    Denied,
}

impl LogSample {
    /// Reads `all`, `1%`, `denied` or `denied,1%`.
    pub fn parse(text: &str) -> Result<LogSample, String> {
        let text = text.trim();
        let wrong = || "expected all, a share such as 1%, denied, or denied,1%".to_owned();
        let share = |text: &str| match EnforcedShare::parse(text) {
            Ok(share) if share.is_partial() => Ok(share),
            _ => Err(wrong()),
        };
        match text.split_once(',') {
            None if text == "all" => Ok(LogSample::All),
            None if text == "denied" => Ok(LogSample::Denied),
            None => Ok(LogSample::Share { share: share(text)?, denied: false }),
            Some((first, second)) => match (first.trim(), second.trim()) {
                ("denied", text) | (text, "denied") => Ok(LogSample::Share { share: share(text)?, denied: true }),
                _ => Err(wrong()),
            },
        }
    }
}

impl fmt::Display for LogSample {
    /// As [`LogSample::parse`] reads it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogSample::All => out.write_str("all"),
            LogSample::Denied => out.write_str("denied"),
            LogSample::Share { share, denied: false } => share.fmt(out),
            LogSample::Share { share, denied: true } => write!(out, "denied,{share}"),
        }
    }
}
