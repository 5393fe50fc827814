//! A write of an override and what became of it, in the words that both homes share.

/// One write, checked and ready.
pub(super) struct Write<'a> {
    pub domain: &'a str,
    pub id: &'a str,
    /// `None` deletes.
    pub record: Option<&'a str>,
    pub condition: Condition,
    /// As [`crate::run_time::audit::AuditEntry::write`] gives it.
    pub audit: &'a str,
}

/// On what a write depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    None,
    /// There is one already.
    Exists,
    Absent,
    /// It is still the one that its writer has seen.
    Version(u64),
}

impl Condition {
    /// Whether it holds, given the version that is there.
    pub fn holds(self, version: Option<u64>) -> bool {
        match self {
            Condition::None => true,
            Condition::Exists => version.is_some(),
            Condition::Absent => version.is_none(),
            Condition::Version(wanted) => version == Some(wanted),
        }
    }
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done {
        version: u64,
        /// The record that it replaced or deleted.
        before: Option<Box<str>>,
    },
    /// The condition doesn't hold.
    Changed { version: Option<u64> },
    /// There is nothing to delete.
    Missing,
    /// There are as many rows as there may be.
    Full,
    /// A replica is just writing back what Redis lost.
    Restoring,
    /// Redis has forgotten rows that this replica knows.
    Lost,
}
