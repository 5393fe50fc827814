//! Keeps the run-time overrides of one domain in this process equal to those in Redis: by the changes since the last
//! time, or by reading all of them in pages; and writes back what Redis has lost. Each domain is kept by itself.
//!
//! Every write has a *generation*, a number that only grows (µs of Redis' clock). Three of them decide what one step
//! does: `generation` is Redis' last write, `born` the first write of the hash that Redis holds, and `known` the write
//! up to which this process has all (0: it never has had).
//!
//! | state | meaning | step |
//! |---|---|---|
//! | `generation` 0, no rows here | there are no overrides | done |
//! | `known` 0, `generation` > 0 | this process is new | read all |
//! | `known` 0, `generation` 0, rows here | Redis lost them before the first read | write back |
//! | `generation` = `known` | nothing has changed | done |
//! | `generation` < `known` | Redis came back with an older copy | write back |
//! | `known` < `born` | Redis lost all, and the hash began anew | write back, or read all if the stream has lost change `born` |
//! | else, change `known` is in the stream | the normal case | read the rows of the changes behind it |
//! | else, an older change is in the stream, but not `known` | Redis has another history | write back |
//! | else | more changes than the stream keeps | read all |
//!
//! Invariants: (1) rows that are known stay in force whatever happens to Redis; (2) a row is only removed here if it
//! ended long ago, if the stream says that it was deleted, or if a full read of one hash (`born` is the same before and
//! after) doesn't have it; (3) of two versions of a row the newer one wins, on both sides; (4) one replica at a time
//! writes back, because each call of the script claims that for 10 s.
//!
//! Example, with short numbers: this process knows generation 7, and Redis has `born` 1 and `generation` 9. The changes
//! from 7 on are 7, 8 (alice was set) and 9 (bob was deleted). Change 7 is there, so alice's and bob's rows are read as
//! they are by now: alice's is put, bob's is gone, and 9 is known. If Redis restarts from a copy of generation 6, then 6
//! < 9: what this process has and Redis doesn't is written back with its versions, under a new generation above 9.

use std::{collections::HashMap, collections::HashSet, sync::Arc, time::Duration};

use tracing::{info, warn};

use super::{
    DomainProgress, Overrides,
    redis::{BATCH, LostRow, Meta, PAGE, RawRecord, RedisStorage, RestoreOutcome},
    resolved::ResolvedOverride,
    set::SetChange,
};
use crate::{clock, store::StoreError};

/// Number of changes that one step reads. Each may name as many rows as one call writes back.
const CHANGES: usize = 20;

/// Time to wait before the next step while another replica writes back.
const ANOTHER_RESTORES: Duration = Duration::from_millis(200);

/// Keeps the overrides of one domain up to date.
pub(super) struct DomainSync {
    pub overrides: Arc<Overrides>,
    pub remote: Arc<RedisStorage>,
    pub domain: Arc<str>,
}

/// The result of one step.
enum SyncStep {
    Done,
    /// There may be more to do.
    Again,
    Wait,
}

impl DomainSync {
    /// Takes steps until this replica knows all that Redis has.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            match self.step().await? {
                SyncStep::Done => return Ok(()),
                SyncStep::Again => {}
                SyncStep::Wait => tokio::time::sleep(ANOTHER_RESTORES).await,
            }
        }
    }

    async fn step(&self) -> Result<SyncStep, StoreError> {
        let asked = clock::now();
        let meta = self.remote.meta(&self.domain).await?;
        self.overrides.clock.learn(meta.now, asked, clock::now());
        let DomainProgress { generation: known, newest, rows } = self.overrides.known(&self.domain);
        if meta.generation == 0 && rows == 0 {
            self.overrides.reached(&self.domain, 0);
            return Ok(SyncStep::Done);
        }
        if known == 0 {
            // Rows that are here before the first full read were written by this process.
            return if meta.generation == 0 { self.write_back(meta, newest).await } else { self.read_all(meta).await };
        }
        if meta.generation == known {
            return Ok(SyncStep::Done);
        }
        if meta.generation < known || known < meta.born {
            return self.write_back(meta, known).await;
        }
        let changes = self.remote.changes(&self.domain, known, CHANGES).await?;
        if changes.first().is_some_and(|change| change.generation == known) {
            let Some(to) = changes.last().map(|change| change.generation) else { return Ok(SyncStep::Done) };
            let ids: Vec<&str> = changes[1..].iter().flat_map(|change| &change.ids).map(|(_, id)| &**id).collect();
            if !self.read(&ids, to, meta.born).await? {
                return Ok(SyncStep::Again);
            }
            self.overrides.reached(&self.domain, to);
            return Ok(if to == known { SyncStep::Done } else { SyncStep::Again });
        }
        match self.remote.changes(&self.domain, 0, 1).await?.first() {
            // The last write that this replica knows isn't in the stream, though older ones are: Redis has another
            // history since.
            Some(oldest) if oldest.generation <= known => self.write_back(meta, known).await,
            _ => self.read_all(meta).await,
        }
    }

    /// Reads the rows of these ids as they are by now. `false` if Redis has just lost its rows: then a missing row was
    /// not deleted.
    async fn read(&self, ids: &[&str], to: u64, born: u64) -> Result<bool, StoreError> {
        for ids in ids.chunks(PAGE) {
            let (of, rows) = self.remote.rows(&self.domain, ids).await?;
            if of != born {
                return Ok(false);
            }
            let changes = ids.iter().zip(rows).map(|(id, row)| match row {
                Some(RawRecord { version, record }) => SetChange::Put((*id).into(), version, record),
                None => SetChange::Gone((*id).into(), to),
            });
            self.overrides.apply(&self.domain, changes.collect());
        }
        Ok(true)
    }

    /// Reads all rows, a page at a time, and puts each page in force. Rows that Redis doesn't have are removed at the
    /// end.
    async fn read_all(&self, meta: Meta) -> Result<SyncStep, StoreError> {
        let mut there = HashSet::new();
        let mut cursor = 0;
        loop {
            let (next, rows) = self.remote.scan(&self.domain, cursor).await?;
            there.extend(rows.iter().map(|(id, _)| id.clone()));
            let changes = rows.into_iter().map(|(id, raw)| SetChange::Put(id, raw.version, raw.record));
            self.overrides.apply(&self.domain, changes.collect());
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let after = self.remote.meta(&self.domain).await?;
        if after.born != meta.born || after.generation < meta.generation {
            // Redis has just lost its rows: a missing row was not deleted.
            return Ok(SyncStep::Again);
        }
        self.each_page(|rows| {
            let gone = rows.iter().filter(|row| row.version <= meta.generation && !there.contains(&row.id));
            self.overrides
                .apply(&self.domain, gone.map(|row| SetChange::Gone(row.id.clone(), meta.generation)).collect());
        })
        .await;
        self.overrides.reached(&self.domain, meta.generation);
        info!(domain = &*self.domain, overrides = there.len(), "run-time overrides were read");
        Ok(SyncStep::Again)
    }

    /// Writes back what Redis has lost: all rows, or, if it restarted from an older copy, the last ones. Rows that are
    /// known stay in force. The newer version of a row wins on both sides.
    async fn write_back(&self, meta: Meta, known: u64) -> Result<SyncStep, StoreError> {
        if known < meta.born {
            let first = self.remote.changes(&self.domain, meta.born, 1).await?;
            if first.first().is_none_or(|first| first.generation != meta.born) {
                // So much has changed that lost rows can't be told from deleted ones.
                return self.read_all(meta).await;
            }
        }
        let claimed = self.remote.restore(&self.domain, known, &[], false).await?;
        if claimed == RestoreOutcome::ByAnother {
            return Ok(SyncStep::Wait);
        }
        let rows = self.overrides.known(&self.domain).rows;
        self.overrides.lost();
        warn!(
            domain = &*self.domain,
            overrides = rows,
            "Redis has lost run-time overrides: this replica keeps its copy in force and writes it back"
        );
        let (there, stale) = self.compare(known).await?;
        let deleted = self.deleted(meta, known).await?;
        let mut written = 0;
        for ids in stale.chunks(BATCH) {
            let gone: Vec<LostRow<'_>> = ids.iter().map(|id| LostRow { id, version: known, record: None }).collect();
            self.restore(known, &gone).await?;
        }
        let mut after: Option<Box<str>> = None;
        loop {
            let page = self.overrides.rows_after(&self.domain, after.as_deref(), BATCH);
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            let now = self.overrides.clock.wall(clock::now());
            let mut gone = Vec::new();
            let missing = page.iter().filter(|row| there.get(&row.id).is_none_or(|version| *version < row.version));
            let missing: Vec<LostRow<'_>> = missing
                .filter(|row| row.expires.is_none_or(|expires| now < expires))
                .filter(|row| match deleted.get(&row.id) {
                    Some(generation) if *generation > row.version => {
                        gone.push(SetChange::Gone(row.id.clone(), *generation));
                        false
                    }
                    _ => true,
                })
                .map(|row| LostRow { id: &row.id, version: row.version, record: Some(&row.record) })
                .collect();
            if !missing.is_empty() {
                self.restore(known, &missing).await?;
                written += missing.len();
            }
            self.overrides.apply(&self.domain, gone);
        }
        let RestoreOutcome::To(generation) = self.remote.restore(&self.domain, known, &[], true).await? else {
            return Ok(SyncStep::Wait);
        };
        self.overrides.reached(&self.domain, generation);
        self.overrides.announce(&self.domain, generation);
        warn!(domain = &*self.domain, overrides = written, "run-time overrides were written back to Redis");
        Ok(SyncStep::Again)
    }

    /// Reads all rows that Redis has by now, and takes the newer ones. Returns their versions, and the ids that Redis
    /// has again though this replica knows them to be deleted.
    async fn compare(&self, known: u64) -> Result<(HashMap<Box<str>, u64>, Vec<Box<str>>), StoreError> {
        let (mut there, mut stale, mut cursor) = (HashMap::new(), Vec::new(), 0);
        loop {
            let (next, rows) = self.remote.scan(&self.domain, cursor).await?;
            let mut changes = Vec::new();
            for (id, raw) in rows {
                there.insert(id.clone(), raw.version);
                if raw.version <= known && self.overrides.get(&self.domain, &id).is_none() {
                    stale.push(id);
                } else {
                    changes.push(SetChange::Put(id, raw.version, raw.record));
                }
            }
            self.overrides.apply(&self.domain, changes);
            cursor = next;
            if cursor == 0 {
                return Ok((there, stale));
            }
        }
    }

    /// The rows that were deleted since the loss, which must not come back.
    async fn deleted(&self, meta: Meta, known: u64) -> Result<HashMap<Box<str>, u64>, StoreError> {
        let mut deleted = HashMap::new();
        let mut since = meta.born.max(known);
        loop {
            let changes = self.remote.changes(&self.domain, since, CHANGES).await?;
            let Some(last) = changes.last().map(|change| change.generation) else { return Ok(deleted) };
            for change in changes {
                let ids = change.ids.into_iter().filter(|(is_set, _)| !is_set);
                deleted.extend(ids.map(|(_, id)| (id, change.generation)));
            }
            if last <= since {
                return Ok(deleted);
            }
            since = last;
        }
    }

    async fn restore(&self, known: u64, rows: &[LostRow<'_>]) -> Result<(), StoreError> {
        match self.remote.restore(&self.domain, known, rows, false).await? {
            RestoreOutcome::To(_) => Ok(()),
            // This replica took too long between two calls: it goes on when the other one has finished.
            RestoreOutcome::ByAnother => Err(StoreError::Overloaded),
        }
    }

    /// Visits all rows, a page at a time, without delaying others for long.
    async fn each_page(&self, mut look: impl FnMut(&[Arc<ResolvedOverride>])) {
        let mut after: Option<Box<str>> = None;
        loop {
            let page = self.overrides.rows_after(&self.domain, after.as_deref(), PAGE);
            let Some(last) = page.last() else { return };
            after = Some(last.id.clone());
            look(&page);
            tokio::task::yield_now().await;
        }
    }

    /// Removes rows that ended a while ago, from Redis and from here.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        let ended = self.overrides.long_ended(&self.domain);
        if ended.is_empty() {
            return Ok(());
        }
        self.remote.sweep(&self.domain, &ended).await?;
        let gone = ended.into_iter().map(|(id, version)| SetChange::Gone(id, version)).collect();
        self.overrides.apply(&self.domain, gone);
        Ok(())
    }
}
