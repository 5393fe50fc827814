//! A write of an override and its result, as both storages use them.

/// One write that was checked.
pub(super) struct CheckedWrite<'a> {
    pub domain: &'a str,
    pub id: &'a str,
    /// `None` deletes.
    pub record: Option<&'a str>,
    pub condition: Condition,
    /// As [`crate::run_time::audit::AuditEntry::write`] gives it.
    pub audit: &'a str,
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    None,
    /// The override exists.
    Exists,
    Absent,
    /// The override still has the version that its author has seen.
    Version(u64),
}

impl Condition {
    /// Whether the condition holds, given the version that is stored.
    pub fn holds(self, version: Option<u64>) -> bool {
        match self {
            Condition::None => true,
            Condition::Exists => version.is_some(),
            Condition::Absent => version.is_none(),
            Condition::Version(wanted) => version == Some(wanted),
        }
    }
}

/// The result of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Done {
        version: u64,
        /// The record that was replaced or deleted.
        before: Option<Box<str>>,
    },
    /// The condition doesn't hold.
    Changed { version: Option<u64> },
    /// There is nothing to delete.
    Missing,
    /// The domain has the largest number of rows.
    Full,
    /// A replica is writing back what Redis lost.
    Restoring,
    /// Redis has lost rows that this replica knows.
    Lost,
}
