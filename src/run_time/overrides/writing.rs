//! Writes: from a change request to what is stored and in force. The record was checked before.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time;
use tracing::{info, warn};

use super::{
    Action, Home, Overrides, OverridesError, ROWS_MAX, Wish, Written,
    local::{Line, Local, Noted},
    redis::Remote,
    set::{Change, Set},
    write::{Outcome, Write},
};
use crate::run_time::audit::Draft;
use crate::{blocking::try_blocking, limit::UnixMicros, store::StoreError};

/// Longest time that a write waits for this replica to write back what Redis lost.
const WRITE_BACK_PATIENCE: Duration = Duration::from_secs(5);

impl Overrides {
    /// Writes an override, and returns once it is stored and in force here; other replicas hear of it within 100 ms.
    /// `now` is the wall clock's time.
    pub async fn write(self: &Arc<Self>, wish: &Wish<'_>, now: UnixMicros) -> Result<Written, OverridesError> {
        let action = if wish.record.is_some() { Action::SetOverride } else { Action::DeleteOverride };
        let (token, target, reason) = (wish.token.to_owned(), wish.id.to_owned(), wish.reason.to_owned());
        let draft = Draft { token, action, target, reason }.write();
        let outcome = match &self.home {
            Home::Redis(remote) => {
                let Wish { domain, id, record, condition, .. } = *wish;
                self.write_to_redis(remote, &Write { domain, id, record, condition, audit: &draft }).await?
            }
            Home::Local(local) => {
                if !self.is_kept() && !self.said_unkept.swap(true, Relaxed) {
                    warn!("run-time overrides are in memory only and end with this process; set TOLLGATE_STATE_DIR to keep them");
                }
                let line = Line {
                    domain: wish.domain.into(),
                    id: wish.id.into(),
                    version: 0,
                    record: wish.record.map(Into::into),
                };
                let (this, local, condition) = (Arc::clone(self), Arc::clone(local), wish.condition);
                let written = move || {
                    let Line { domain, id, record, .. } = &line;
                    let (domain, id, record) = (&**domain, &**id, record.as_deref());
                    this.write_here(&local, &Write { domain, id, record, condition, audit: &draft }, now)
                };
                try_blocking(written).await.map_err(|panic| OverridesError::Disk(panic.to_string()))??
            }
        };
        match outcome {
            Outcome::Done { version, before } => {
                let (before_text, after, reason) = (before.as_deref(), wish.record, wish.reason);
                let (token, action, domain, id) = (wish.token, action.name(), wish.domain, wish.id);
                info!(token, action, domain, id, before = before_text, after, reason, "audit");
                Ok(Written { version, before })
            }
            Outcome::Changed { version } => Err(OverridesError::Changed { version }),
            Outcome::Missing => Err(OverridesError::Missing),
            Outcome::Full => Err(OverridesError::Full),
            Outcome::Restoring | Outcome::Lost => Err(OverridesError::Restoring),
        }
    }

    /// Writes to Redis. If Redis has lost rows, they are written back first.
    async fn write_to_redis(&self, remote: &Remote, write: &Write<'_>) -> Result<Outcome, OverridesError> {
        let mut looks = self.looks.subscribe();
        let trying = async {
            loop {
                looks.mark_unchanged();
                let known = self.known(write.domain);
                // Before the first full read, only the rows that were written here are known.
                let newest = if known.rows > 0 { known.newest } else { 0 };
                let known = if known.generation > 0 { known.generation } else { newest };
                let outcome = remote.write(write, known, ROWS_MAX).await?;
                if !matches!(outcome, Outcome::Lost | Outcome::Restoring) {
                    return Ok::<_, StoreError>(outcome);
                }
                self.wake(write.domain);
                // The sender is in `self`, so it can't be gone.
                let _ = looks.changed().await;
            }
        };
        let outcome = time::timeout(WRITE_BACK_PATIENCE, trying).await.unwrap_or(Ok(Outcome::Restoring))?;
        if let Outcome::Done { version, .. } = outcome {
            self.take(write, version);
        }
        Ok(outcome)
    }

    /// Writes to the local storage. Blocks for as long as the disk takes, and other writes with it, so that writes are
    /// stored in the order in which they are in force.
    fn write_here(&self, local: &Mutex<Local>, write: &Write<'_>, now: UnixMicros) -> Result<Outcome, OverridesError> {
        let mut local = local.lock();
        let there = self.get(write.domain, write.id);
        let version = there.as_ref().map(|row| row.version);
        if !write.condition.holds(version) {
            return Ok(Outcome::Changed { version });
        }
        let rows = self.known(write.domain).rows;
        match (write.record, &there) {
            (None, None) => return Ok(Outcome::Missing),
            (Some(_), None) if rows >= ROWS_MAX => return Ok(Outcome::Full),
            _ => {}
        }
        let version = local.next_version(now);
        let before = there.map(|row| row.record.clone());
        let (domain, id, record) = (write.domain.into(), write.id.into(), write.record.map(Into::into));
        let line = Line { domain, id, version, record };
        let noted = Noted {
            id: local.next_note(now),
            domain: line.domain.clone(),
            draft: write.audit.to_owned(),
            before: before.clone(),
            after: line.record.clone(),
        };
        local.keep(&line, noted).map_err(|error| OverridesError::Disk(error.to_string()))?;
        self.take(write, version);
        self.shorten(&mut local);
        Ok(Outcome::Done { version, before })
    }

    /// Rewrites the journal once most of it is history.
    fn shorten(&self, local: &mut Local) {
        let rows: usize = self.sets.lock().values().map(Set::len).sum();
        if !local.is_long(rows) {
            return;
        }
        let sets = self.sets.lock();
        let kept: Vec<_> =
            sets.iter().flat_map(|(domain, set)| set.rows().map(|row| (domain.clone(), row.clone()))).collect();
        drop(sets);
        local.rewrite(kept.iter().map(|(domain, row)| Line {
            domain: (&**domain).into(),
            id: row.id.clone(),
            version: row.version,
            record: Some(row.record.clone()),
        }));
    }

    /// Puts a stored write in force.
    fn take(&self, write: &Write<'_>, version: u64) {
        let change = match write.record {
            Some(record) => Change::Put(write.id.into(), version, record.into()),
            None => Change::Gone(write.id.into(), version),
        };
        self.apply(write.domain, vec![change]);
    }
}
