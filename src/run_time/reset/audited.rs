//! Resets and refunds with their audit entries. It decides neither which counters are reset nor how.

use std::sync::Arc;

use tracing::info;

use crate::{
    blocking::try_blocking,
    limit::UnixMicros,
    run_time::{
        RunTime,
        audit::{self, AuditAction, AuditDraft},
        overrides::{OverridesError, Storage, local::AuditLine},
    },
    store::{CounterCheck, redis::AuditStreamEntry},
};

/// The author of a reset or a refund.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// Name of the token.
    pub token: &'a str,
    /// The entries that were named: `(user=alice)`.
    pub target: &'a str,
    pub reason: &'a str,
}

impl RunTime {
    /// Resets the counters of these checks of one domain, never without an audit entry. Redis writes it in the same
    /// step; if that can't be, it is written first.
    pub async fn reset(
        &self,
        domain: &str,
        checks: &[CounterCheck<'_>],
        author: Author<'_>,
        now: UnixMicros,
    ) -> Result<(), OverridesError> {
        self.write_down((domain, AuditAction::ResetCounter), checks, author, now).await
    }

    /// Writes the audit entry of a refund in a domain, which a decision makes only afterwards.
    pub async fn note_return(&self, domain: &str, author: Author<'_>, now: UnixMicros) -> Result<(), OverridesError> {
        self.write_down((domain, AuditAction::ReturnHits), &[], author, now).await
    }

    async fn write_down(
        &self,
        (domain, action): (&str, AuditAction),
        checks: &[CounterCheck<'_>],
        author: Author<'_>,
        now: UnixMicros,
    ) -> Result<(), OverridesError> {
        let Author { token, target, reason } = author;
        let draft =
            AuditDraft { token: token.to_owned(), action, target: target.to_owned(), reason: reason.to_owned() };
        let draft = draft.write();
        match &self.overrides.storage {
            Storage::Redis(remote) => {
                let stream = remote.audit_key(domain);
                let entry = AuditStreamEntry { stream: &stream, text: &draft, kept: audit::ENTRIES_MAX };
                self.resets.reset(checks, Some(entry), Some(self.overrides.write_deadline())).await?;
            }
            Storage::Local(local) => {
                let (local, domain) = (Arc::clone(local), domain.into());
                let note = move || {
                    let mut local = local.lock();
                    let id = local.next_audit_id(now);
                    local.append_audit(AuditLine { id, domain, draft, before: None, after: None });
                };
                try_blocking(note).await.map_err(|panic| OverridesError::Disk(panic.to_string()))?;
                self.resets.reset(checks, None, None).await?;
            }
        }
        info!(token, action = action.name(), domain, target, reason, "audit");
        Ok(())
    }
}
