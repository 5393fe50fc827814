//! The audit: who changed what. One entry for each write; the newest ones are kept. This is how entries are written and
//! read back; each storage knows where they are.

use serde::{Deserialize, Serialize};

use crate::limit::UnixMicros;

/// Number of entries that are kept: for each domain in Redis, for all domains together in the state directory or in
/// memory.
pub(super) const ENTRIES_MAX: usize = 10_000;

/// The entry of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// `<ms>-<number>`; ids are in the order of time.
    pub id: String,
    pub at: UnixMicros,
    /// Name of the token that the write was made with.
    pub token: String,
    pub action: AuditAction,
    /// The override's id, or the entries whose counters were reset or refunded.
    pub target: String,
    pub reason: String,
    /// The record before the write.
    pub before: Option<Box<str>>,
    pub after: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditAction {
    #[serde(rename = "override.set")]
    SetOverride,
    #[serde(rename = "override.delete")]
    DeleteOverride,
    #[serde(rename = "limit.switch")]
    SwitchLimit,
    #[serde(rename = "limit.restore")]
    RestoreLimit,
    #[serde(rename = "counter.reset")]
    ResetCounter,
    #[serde(rename = "hits.return")]
    ReturnHits,
}

impl AuditAction {
    pub const fn name(self) -> &'static str {
        match self {
            AuditAction::SetOverride => "override.set",
            AuditAction::DeleteOverride => "override.delete",
            AuditAction::SwitchLimit => "limit.switch",
            AuditAction::RestoreLimit => "limit.restore",
            AuditAction::ResetCounter => "counter.reset",
            AuditAction::ReturnHits => "hits.return",
        }
    }
}

/// The part of an entry that is known before it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AuditDraft {
    pub token: String,
    pub action: AuditAction,
    pub target: String,
    pub reason: String,
}

impl AuditDraft {
    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).expect("plain fields have a JSON form")
    }
}

impl AuditEntry {
    /// Reads an entry; `None` if something else wrote it.
    pub(super) fn read(id: String, draft: &str, before: Option<&str>, after: Option<&str>) -> Option<AuditEntry> {
        let AuditDraft { token, action, target, reason } = serde_json::from_str(draft).ok()?;
        let (ms, _) = entry_order(&id)?;
        let owned = |record: Option<&str>| record.map(Into::into);
        let at = UnixMicros(ms.saturating_mul(1_000));
        Some(AuditEntry { id, at, token, action, target, reason, before: owned(before), after: owned(after) })
    }
}

/// An id as numbers that can be compared: milliseconds, then a number among the entries of the same millisecond.
pub(super) fn entry_order(id: &str) -> Option<(u64, u64)> {
    let (ms, number) = id.split_once('-')?;
    Some((ms.parse().ok()?, number.parse().ok()?))
}

/// The smallest id after this one.
pub(super) fn following(id: &str) -> Option<String> {
    entry_order(id).map(|(ms, number)| format!("{ms}-{}", number.saturating_add(1)))
}
