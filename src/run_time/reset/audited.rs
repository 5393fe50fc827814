//! Resets and refunds with their audit entries. It decides neither which counters are reset nor how.

use std::sync::Arc;

use tracing::info;

use crate::{
    blocking::try_blocking,
    limit::UnixMicros,
    run_time::{
        RunTime,
        audit::{self, Action, Draft},
        overrides::{Home, OverridesError, local::Noted},
    },
    store::{Ask, redis::Entry},
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
        asks: &[Ask<'_>],
        author: Author<'_>,
        now: UnixMicros,
    ) -> Result<(), OverridesError> {
        self.write_down((domain, Action::ResetCounter), asks, author, now).await
    }

    /// Writes the audit entry of a refund in a domain, which a decision makes only afterwards.
    pub async fn note_return(&self, domain: &str, author: Author<'_>, now: UnixMicros) -> Result<(), OverridesError> {
        self.write_down((domain, Action::ReturnHits), &[], author, now).await
    }

    async fn write_down(
        &self,
        (domain, action): (&str, Action),
        asks: &[Ask<'_>],
        author: Author<'_>,
        now: UnixMicros,
    ) -> Result<(), OverridesError> {
        let Author { token, target, reason } = author;
        let draft = Draft { token: token.to_owned(), action, target: target.to_owned(), reason: reason.to_owned() };
        let draft = draft.write();
        match &self.overrides.home {
            Home::Redis(remote) => {
                let stream = remote.audit_key(domain);
                let entry = Entry { stream: &stream, text: &draft, kept: audit::KEPT };
                self.resets.reset(asks, Some(entry)).await?;
            }
            Home::Local(local) => {
                let (local, domain) = (Arc::clone(local), domain.into());
                let note = move || {
                    let mut local = local.lock();
                    let id = local.next_note(now);
                    local.note(Noted { id, domain, draft, before: None, after: None });
                };
                try_blocking(note).await.map_err(|panic| OverridesError::Disk(panic.to_string()))?;
                self.resets.reset(asks, None).await?;
            }
        }
        info!(token, action = action.name(), domain, target, reason, "audit");
        Ok(())
    }
}
