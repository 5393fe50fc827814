//! Entries and descriptors, as they are written on a command line.

use crate::limit::written::{self, OwnedEntry};

/// A descriptor in one argument: `user=alice,endpoint=/login`.
#[derive(Clone)]
pub(super) struct GivenDescriptor(pub Vec<OwnedEntry>);

pub(super) fn descriptor(text: &str) -> Result<GivenDescriptor, String> {
    written::parse_entries(text).map(GivenDescriptor)
}

/// One entry in an argument of its own. Two in one would be one entry, whose value nobody has.
pub(super) fn one(text: &str) -> Result<OwnedEntry, String> {
    match written::parse_entries(text) {
        Ok(entries) if entries.len() > 1 => Err(format!(
            "these are {} entries, and each stands behind a flag of its own; a comma within a value is written `\\,`",
            entries.len()
        )),
        _ => written::parse_entry(text),
    }
}

/// The same as it is given, for a service that reads it.
pub(super) fn one_as_given(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { one(text).map(|_| text.to_owned()) }
}
