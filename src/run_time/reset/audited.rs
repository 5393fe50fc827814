//! Resets of counters and hits that are given back, with the entry that says who asked for them. Which counters is not
//! decided here, nor how they begin afresh.

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

/// On whose word counters begin afresh, or are given hits back.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The name of the token.
    pub token: &'a str,
    /// What was named: `(user=alice)`.
    pub target: &'a str,
    pub reason: &'a str,
}

impl RunTime {
    /// Begins the counters of these asks of one domain afresh. Not without an entry in the audit, which Redis writes in the
    /// same step; where that can't be, it is written first.
    pub async fn reset(
        &self,
        domain: &str,
        asks: &[Ask<'_>],
        author: Author<'_>,
        now: UnixMicros,
    ) -> Result<(), OverridesError> {
        self.write_down((domain, Action::ResetCounter), asks, author, now).await
    }

    /// Writes down that hits are given back in a domain, which is done by a decision and only after this.
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
