//! Where rules come from, when they are trusted, and how they are swapped. Knows nothing of who asks.

pub mod files;
pub(crate) mod last_good;
pub(crate) mod publish;
pub mod xds;
