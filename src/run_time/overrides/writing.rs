//! Writes: from a change request to what is stored and in force. The record was checked before.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time;
use tracing::{info, warn};

use super::{
    AuditAction, ChangeRequest, Overrides, OverridesError, ROWS_MAX, Storage, WriteReceipt,
    local::{AuditLine, JournalLine, LocalStorage},
    redis::{self, RedisStorage},
    set::{OverrideSet, SetChange},
    write::{CheckedWrite, WriteOutcome},
};
use crate::run_time::{audit::AuditDraft, switches};
use crate::{blocking::try_blocking, clock, limit::UnixMicros, store::StoreError};

/// Longest time that a write waits for this replica to write back what Redis lost.
const WRITE_BACK_PATIENCE: Duration = Duration::from_secs(5);

impl Overrides {
    /// Writes an override, and returns once it is stored and in force here; other replicas hear of it within 100 ms.
    /// `now` is the wall clock's time.
    pub async fn write(
        self: &Arc<Self>,
        change: &ChangeRequest<'_>,
        now: UnixMicros,
    ) -> Result<WriteReceipt, OverridesError> {
        let switched = switches::target_of(change.id);
        let action = match (switched, change.record) {
            (None, Some(_)) => AuditAction::SetOverride,
            (None, None) => AuditAction::DeleteOverride,
            (Some(_), Some(_)) => AuditAction::SwitchLimit,
            (Some(_), None) => AuditAction::RestoreLimit,
        };
        let target = switched.unwrap_or(change.id).to_owned();
        let (token, reason) = (change.token.to_owned(), change.reason.to_owned());
        let draft = AuditDraft { token, action, target, reason }.write();
        let outcome = match &self.storage {
            Storage::Redis(remote) => {
                let ChangeRequest { domain, id, record, condition, .. } = *change;
                self.write_to_redis(remote, &CheckedWrite { domain, id, record, condition, audit: &draft }).await?
            }
            Storage::Local(local) => {
                if !self.is_kept() && !self.is_loss_logged.swap(true, Relaxed) {
                    warn!(
                        "run-time overrides are in memory only and end with this process; set TOLLGATE_STATE_DIR to keep them"
                    );
                }
                let line = JournalLine {
                    domain: change.domain.into(),
                    id: change.id.into(),
                    version: 0,
                    record: change.record.map(Into::into),
                };
                let (this, local, condition) = (Arc::clone(self), Arc::clone(local), change.condition);
                let written = move || {
                    let JournalLine { domain, id, record, .. } = &line;
                    let (domain, id, record) = (&**domain, &**id, record.as_deref());
                    this.write_local(&local, &CheckedWrite { domain, id, record, condition, audit: &draft }, now)
                };
                try_blocking(written).await.map_err(|panic| OverridesError::Disk(panic.to_string()))??
            }
        };
        match outcome {
            WriteOutcome::Done { version, before } => {
                let (before_text, after, reason) = (before.as_deref(), change.record, change.reason);
                let (token, action, domain, id) = (change.token, action.name(), change.domain, change.id);
                info!(token, action, domain, id, before = before_text, after, reason, "audit");
                Ok(WriteReceipt { version, before })
            }
            WriteOutcome::Changed { version } => Err(OverridesError::Changed { version }),
            WriteOutcome::Missing => Err(OverridesError::Missing),
            WriteOutcome::Full => Err(OverridesError::Full),
            WriteOutcome::Restoring | WriteOutcome::Lost => Err(OverridesError::Restoring),
        }
    }

    /// Until when a write that is sent now may be done, by Redis' clock. Where that isn't known yet, Redis says so.
    pub(in crate::run_time) fn write_deadline(&self) -> UnixMicros {
        redis::later(self.wall(clock::now()))
    }

    /// Writes to Redis. If Redis has lost rows, they are written back first.
    async fn write_to_redis(
        &self,
        remote: &RedisStorage,
        write: &CheckedWrite<'_>,
    ) -> Result<WriteOutcome, OverridesError> {
        let mut looks = self.syncs.subscribe();
        let trying = async {
            loop {
                looks.mark_unchanged();
                let known = self.known(write.domain);
                // Before the first full read, only the rows that were written here are known.
                let newest = if known.rows > 0 { known.newest } else { 0 };
                let known = if known.generation > 0 { known.generation } else { newest };
                let outcome = remote.write(write, known, ROWS_MAX, self.write_deadline()).await?;
                if !matches!(outcome, WriteOutcome::Lost | WriteOutcome::Restoring) {
                    return Ok::<_, StoreError>(outcome);
                }
                self.wake(write.domain);
                // The sender is in `self`, so it can't be gone.
                let _ = looks.changed().await;
            }
        };
        let outcome = time::timeout(WRITE_BACK_PATIENCE, trying).await.unwrap_or(Ok(WriteOutcome::Restoring))?;
        if let WriteOutcome::Done { version, .. } = outcome {
            self.take(write, version);
            self.announce(write.domain, version);
        }
        Ok(outcome)
    }

    /// Writes to the local storage. Blocks for as long as the disk takes, and other writes with it, so that writes are
    /// stored in the order in which they are in force.
    fn write_local(
        &self,
        local: &Mutex<LocalStorage>,
        write: &CheckedWrite<'_>,
        now: UnixMicros,
    ) -> Result<WriteOutcome, OverridesError> {
        let mut local = local.lock();
        let there = self.get(write.domain, write.id);
        let version = there.as_ref().map(|row| row.version);
        if !write.condition.holds(version) {
            return Ok(WriteOutcome::Changed { version });
        }
        let rows = self.known(write.domain).rows;
        match (write.record, &there) {
            (None, None) => return Ok(WriteOutcome::Missing),
            (Some(_), None) if rows >= ROWS_MAX => return Ok(WriteOutcome::Full),
            _ => {}
        }
        let version = local.next_version(now);
        let before = there.map(|row| row.record.clone());
        let (domain, id, record) = (write.domain.into(), write.id.into(), write.record.map(Into::into));
        let line = JournalLine { domain, id, version, record };
        let noted = AuditLine {
            id: local.next_audit_id(now),
            domain: line.domain.clone(),
            draft: write.audit.to_owned(),
            before: before.clone(),
            after: line.record.clone(),
        };
        local.append(&line, noted).map_err(|error| OverridesError::Disk(error.to_string()))?;
        self.take(write, version);
        self.shorten(&mut local);
        Ok(WriteOutcome::Done { version, before })
    }

    /// Rewrites the journal once most of it is history.
    fn shorten(&self, local: &mut LocalStorage) {
        let rows: usize = self.sets.lock().values().map(OverrideSet::len).sum();
        if !local.is_long(rows) {
            return;
        }
        let sets = self.sets.lock();
        let kept: Vec<_> =
            sets.iter().flat_map(|(domain, set)| set.rows().map(|row| (domain.clone(), row.clone()))).collect();
        drop(sets);
        local.rewrite(kept.iter().map(|(domain, row)| JournalLine {
            domain: (&**domain).into(),
            id: row.id.clone(),
            version: row.version,
            record: Some(row.record.clone()),
        }));
    }

    /// Puts a stored write in force.
    fn take(&self, write: &CheckedWrite<'_>, version: u64) {
        let change = match write.record {
            Some(record) => SetChange::Put(write.id.into(), version, record.into()),
            None => SetChange::Gone(write.id.into(), version),
        };
        self.apply(write.domain, vec![change]);
    }
}
