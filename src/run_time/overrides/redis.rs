//! Run-time overrides in Redis, next to the counters: the commands, and how their replies are read. `sync` decides when
//! they are sent; `row` knows what a record means.
//!
//! A domain has three keys in one slot, without a TTL. `<prefix>tg1:overrides:{<domain>}` is a hash of
//! `<version>:<record>` by id, and has three fields about all rows: `#generation` (the version of the last write),
//! `#born` (the first write of this hash: an older generation belongs to a hash that Redis lost) and `#restoring`
//! (which replica writes back what was lost, and until when no other may). `…:changes` is a bounded stream of the
//! changes with their generations; `…:audit` is a bounded stream of who changed what. No command ever reads all of a
//! hash. What all domains share is in `announcements`.

mod announcements;

use redis::{Pipeline, Value, from_redis_value, pipe};

pub(super) use self::announcements::Announcements;
use super::write::{CheckedWrite, Condition, WriteOutcome};
use crate::run_time::audit::{self, AuditEntry};
use crate::{
    limit::UnixMicros,
    store::{
        StoreError, key,
        redis::{CommandConnection, PATIENCE, RedisSettings},
    },
};

const WRITE: &str = include_str!("redis/write.lua");
const RESTORE: &str = include_str!("redis/restore.lua");
const SWEEP: &str = include_str!("redis/sweep.lua");

/// KEYS[1]: a domain's rows. ARGV: fields. Returns what they hold, and Redis' clock. (A proxy would answer TIME by its own.)
const FIELDS_AND_TIME: &str = "return {redis.call('HMGET', KEYS[1], unpack(ARGV)), redis.call('TIME')}";

/// Rows of one HSCAN and of one HMGET: a tenth of a millisecond of Redis' time, so that it stays far below 5 ms where Redis
/// shares its core or walks through the gaps of a hash that is growing.
pub(super) const PAGE: usize = 100;

/// Rows of one call that writes back.
pub(super) const BATCH: usize = 100;

/// Changes that a replica can catch up with one by one; who missed more reads everything.
const CHANGES_MAX: usize = 20_000;

/// For how long a replica that writes back keeps others from doing the same, from its last call on.
const RESTORING_MICROS: u64 = 10_000_000;

/// Fields of a hash that are no rows.
const META: [&str; 3] = ["#generation", "#born", "#restoring"];

/// A row as Redis has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawRecord {
    pub version: u64,
    pub record: Box<str>,
}

/// What Redis has about a domain's rows as a whole; zeros if there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub generation: u64,
    pub born: u64,
    /// Redis' clock.
    pub now: UnixMicros,
}

/// One write, or one call that wrote back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StreamChange {
    pub generation: u64,
    /// The ids that were set (true) or deleted.
    pub ids: Vec<(bool, Box<str>)>,
}

/// The result of a call that writes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RestoreOutcome {
    To(u64),
    /// Another replica is writing back.
    ByAnother,
}

/// A row that is written back; without a record, one that is deleted unless Redis has a newer version.
pub(super) struct LostRow<'a> {
    pub id: &'a str,
    pub version: u64,
    pub record: Option<&'a str>,
}

/// The storage of all domains' overrides in Redis.
pub(in crate::run_time) struct RedisStorage {
    connection: CommandConnection,
    /// A random id of this process among the replicas.
    replica_id: String,
}

impl RedisStorage {
    pub(super) fn new(connection: CommandConnection) -> RedisStorage {
        RedisStorage { connection, replica_id: format!("{:016x}", rand::random::<u64>()) }
    }

    /// The channel on which replicas hear of writes: a message is the domain, a line break and the generation.
    pub(super) fn channel(settings: &RedisSettings) -> String {
        format!("{}tg1:overrides", settings.key_prefix)
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.is_up()
    }

    /// Redis refuses a write that it comes to after `deadline`, by its own clock: its author no longer waits for it.
    pub(super) async fn write(
        &self,
        write: &CheckedWrite<'_>,
        known: u64,
        rows_max: usize,
        deadline: UnixMicros,
    ) -> Result<WriteOutcome, StoreError> {
        match self.write_until(write, known, rows_max, deadline).await? {
            Ok(outcome) => Ok(outcome),
            // The answer came in time, so its clock isn't where it was thought to be; nothing was written.
            Err(now) => {
                let again = self.write_until(write, known, rows_max, later(now)).await?;
                again.map_err(|_| StoreError::Timeout(PATIENCE))
            }
        }
    }

    /// The inner error is Redis' clock, which is beyond the deadline.
    async fn write_until(
        &self,
        write: &CheckedWrite<'_>,
        known: u64,
        rows_max: usize,
        deadline: UnixMicros,
    ) -> Result<Result<WriteOutcome, UnixMicros>, StoreError> {
        let keys = self.keys(write.domain);
        let condition = match write.condition {
            Condition::None => String::new(),
            Condition::Exists => "*".to_owned(),
            Condition::Absent => "-".to_owned(),
            Condition::Version(version) => version.to_string(),
        };
        let mut pipe = pipe();
        pipe.cmd("EVAL").arg(WRITE).arg(3).arg(&keys.rows).arg(&keys.changes).arg(&keys.audit);
        pipe.arg(if write.record.is_some() { "set" } else { "delete" })
            .arg(write.id)
            .arg(write.record.unwrap_or_default())
            .arg(condition)
            .arg(known)
            .arg(rows_max + META.len())
            .arg(RedisStorage::channel(self.connection.settings()))
            .arg(write.domain)
            .arg(write.audit)
            .arg(audit::ENTRIES_MAX)
            .arg(CHANGES_MAX)
            .arg(deadline.0);
        let answer = self.run(write.domain, &pipe).await?;
        let (status, version, before): (String, u64, String) = read(answer)?;
        let before = raw(&before);
        Ok(Ok(match status.as_str() {
            "ok" => WriteOutcome::Done { version, before: before.map(|raw| raw.record) },
            "changed" => WriteOutcome::Changed { version: before.map(|raw| raw.version) },
            "missing" => WriteOutcome::Missing,
            "full" => WriteOutcome::Full,
            "restoring" => WriteOutcome::Restoring,
            "lost" => WriteOutcome::Lost,
            "late" => return Ok(Err(UnixMicros(version))),
            other => return Err(unexpected_reply(other)),
        }))
    }

    pub(super) async fn meta(&self, domain: &str) -> Result<Meta, StoreError> {
        let mut pipe = pipe();
        pipe.cmd("EVAL").arg(FIELDS_AND_TIME).arg(1).arg(self.keys(domain).rows).arg(&META[..2]);
        let ((generation, born), (seconds, micros)): ((Option<u64>, Option<u64>), (u64, u64)) =
            read(self.run(domain, &pipe).await?)?;
        let now = UnixMicros(seconds * 1_000_000 + micros);
        Ok(Meta { generation: generation.unwrap_or_default(), born: born.unwrap_or_default(), now })
    }

    /// The changes from `since` on, with that of `since` itself, at most `count`.
    pub(super) async fn changes(
        &self,
        domain: &str,
        since: u64,
        count: usize,
    ) -> Result<Vec<StreamChange>, StoreError> {
        let mut pipe = pipe();
        pipe.cmd("XRANGE").arg(self.keys(domain).changes).arg(since).arg("+").arg("COUNT").arg(count);
        let entries: Vec<(String, Vec<(String, String)>)> = read(self.run(domain, &pipe).await?)?;
        let change = |(id, fields): (String, Vec<(String, String)>)| {
            let generation = id.strip_suffix("-0")?.parse().ok()?;
            let named = fields.into_iter().filter(|(op, _)| op != "begin");
            Some(StreamChange { generation, ids: named.map(|(op, id)| (op == "set", id.into())).collect() })
        };
        entries.into_iter().map(|entry| change(entry).ok_or_else(|| unexpected_reply("a change"))).collect()
    }

    /// The rows of these ids, in order, and the generation at which the hash that they come from was born.
    pub(super) async fn rows(&self, domain: &str, ids: &[&str]) -> Result<(u64, Vec<Option<RawRecord>>), StoreError> {
        let mut pipe = pipe();
        pipe.cmd("HMGET").arg(self.keys(domain).rows).arg("#born").arg(ids);
        let found: Vec<Option<String>> = read(self.run(domain, &pipe).await?)?;
        let mut found = found.into_iter();
        let born = found.next().flatten().and_then(|born| born.parse().ok());
        Ok((born.unwrap_or_default(), found.map(|row| row.as_deref().and_then(raw)).collect()))
    }

    /// Some rows, and the cursor for the next ones; 0 is both the beginning and the end.
    pub(super) async fn scan(
        &self,
        domain: &str,
        cursor: u64,
    ) -> Result<(u64, Vec<(Box<str>, RawRecord)>), StoreError> {
        let mut pipe = pipe();
        pipe.cmd("HSCAN").arg(self.keys(domain).rows).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, fields): (u64, Vec<String>) = read(self.run(domain, &pipe).await?)?;
        let mut rows = Vec::with_capacity(fields.len() / 2);
        let mut fields = fields.into_iter();
        while let (Some(id), Some(value)) = (fields.next(), fields.next()) {
            if let (false, Some(raw)) = (id.starts_with('#'), raw(&value)) {
                rows.push((id.into(), raw));
            }
        }
        Ok((next, rows))
    }

    /// Writes back rows that Redis lost, at most [`BATCH`] in a call. The first call needs none; the last one has
    /// `last`.
    pub(super) async fn restore(
        &self,
        domain: &str,
        known: u64,
        lost: &[LostRow<'_>],
        last: bool,
    ) -> Result<RestoreOutcome, StoreError> {
        let keys = self.keys(domain);
        let mut pipe = pipe();
        pipe.cmd("EVAL").arg(RESTORE).arg(2).arg(&keys.rows).arg(&keys.changes).arg(&self.replica_id);
        pipe.arg(if last { 0 } else { RESTORING_MICROS })
            .arg(known)
            .arg(RedisStorage::channel(self.connection.settings()))
            .arg(domain)
            .arg(CHANGES_MAX);
        for row in lost {
            pipe.arg(row.id).arg(row.version).arg(row.record.unwrap_or_default());
        }
        let (status, generation, _changed): (String, u64, u64) = read(self.run(domain, &pipe).await?)?;
        Ok(if status == "ok" { RestoreOutcome::To(generation) } else { RestoreOutcome::ByAnother })
    }

    /// Removes rows that have ended, at most [`BATCH`] in a call.
    pub(super) async fn sweep(&self, domain: &str, expired: &[(Box<str>, u64)]) -> Result<(), StoreError> {
        let mut pipe = pipe();
        pipe.cmd("EVAL").arg(SWEEP).arg(1).arg(self.keys(domain).rows);
        for (id, version) in expired {
            pipe.arg(&**id).arg(*version);
        }
        self.run(domain, &pipe).await.map(drop)
    }

    /// The stream of a domain's audit entries, for entries that aren't about a write of an override.
    pub(crate) fn audit_key(&self, domain: &str) -> String {
        self.keys(domain).audit
    }

    /// Audit entries before `before` (an id; empty for the newest), newest first.
    pub(super) async fn audit(&self, domain: &str, before: &str, count: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let mut pipe = pipe();
        let from = if before.is_empty() { "+".to_owned() } else { format!("({before}") };
        pipe.cmd("XREVRANGE").arg(self.keys(domain).audit).arg(from).arg("-").arg("COUNT").arg(count);
        let entries: Vec<(String, Vec<(String, String)>)> = read(self.run(domain, &pipe).await?)?;
        Ok(entries.into_iter().filter_map(|(id, fields)| audit_entry(id, fields)).collect())
    }

    async fn run(&self, domain: &str, pipe: &Pipeline) -> Result<Value, StoreError> {
        self.run_at(&domain_key(self.connection.settings(), domain), pipe).await
    }

    /// Runs a command on the node of `key`.
    async fn run_at(&self, key: &str, pipe: &Pipeline) -> Result<Value, StoreError> {
        let answers = self.connection.run(key.as_bytes(), pipe).await?;
        answers.into_iter().next().ok_or_else(|| unexpected_reply("no answer"))
    }

    fn keys(&self, domain: &str) -> DomainKeys {
        let rows = domain_key(self.connection.settings(), domain);
        DomainKeys { changes: format!("{rows}:changes"), audit: format!("{rows}:audit"), rows }
    }
}

struct DomainKeys {
    rows: String,
    changes: String,
    audit: String,
}

/// Until when a write that is sent now may be done, by the clock that says `now`.
pub(super) fn later(now: UnixMicros) -> UnixMicros {
    UnixMicros(now.0.saturating_add(PATIENCE.as_micros() as u64))
}

fn domain_key(settings: &RedisSettings, domain: &str) -> String {
    key::of_domain(&settings.key_prefix, "overrides", domain)
}

/// Reads `<version>:<record>`; anything else was written by something else, and is no row.
fn raw(text: &str) -> Option<RawRecord> {
    let (version, record) = text.split_once(':')?;
    Some(RawRecord { version: version.parse().ok()?, record: record.into() })
}

fn audit_entry(id: String, fields: Vec<(String, String)>) -> Option<AuditEntry> {
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let before = field("before").and_then(raw).map(|raw| raw.record);
    AuditEntry::read(id, field("entry")?, before.as_deref(), field("after").filter(|after| !after.is_empty()))
}

fn read<T: redis::FromRedisValue>(value: Value) -> Result<T, StoreError> {
    from_redis_value(value).map_err(|error| unexpected_reply(&error.to_string()))
}

fn unexpected_reply(what: &str) -> StoreError {
    StoreError::Refused(format!("an answer that makes no sense: {what}"))
}
