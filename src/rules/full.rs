//! Everything that rules say, as JSON that can be read into the same rules again: defaults, tiers, each rule with its whole
//! limits, override rows. It is written piece by piece, because there may be a million rows.
//!
//! Nothing is left to defaults: a limit that is read again is the same, whatever the reader's own defaults are.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{FullRules, FullRulesError};
pub use write::FullPieces;
