//! The stream of announcements, `<prefix>tg1:overrides:announced`: it names each domain that was written to, whichever,
//! with its generation. So a replica that wants to know whether anything has changed reads one key, and not one for each
//! domain. It is no part of a write, because the two keys may lie in two slots of a Cluster: `poll` knows what follows.

use redis::pipe;

use super::{RedisStorage, read};
use crate::store::StoreError;

/// Announcements that are kept, at least. A replica that missed more looks at all domains.
const ANNOUNCEMENTS_MAX: usize = 1_000;

/// Announcements of one read.
const READ_AT_ONCE: usize = 200;

/// Name of the field of an announcement that names no domain. Such a one begins the stream.
const BEGIN: &str = "";

/// An announcement: its id in the stream, then its fields with their values.
type StreamEntry = (String, Vec<(String, String)>);

/// The position before the first announcement: of a replica that has seen that there is no stream.
const BEFORE_ALL: &str = "0";

/// What a replica that knew the stream up to some position learns of it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::run_time::overrides) struct Announcements {
    /// The domains that were written to since, and the generation of that write; `None` if that can't be told: this is the
    /// first read, Redis has lost the stream, or so many were written to that the position is gone.
    pub domains: Option<Vec<(Box<str>, u64)>>,
    /// The position of the last one.
    pub position: String,
    pub is_all: bool,
}

impl Announcements {
    /// Whether there is a stream.
    pub(in crate::run_time::overrides) fn is_there(position: &str) -> bool {
        position != BEFORE_ALL
    }
}

impl RedisStorage {
    /// Announces writes to these domains, with their generations, and returns the position of the announcement. Without any
    /// domain it only makes the stream.
    pub(in crate::run_time::overrides) async fn announce(&self, domains: &[(&str, u64)]) -> Result<String, StoreError> {
        let key = self.announcements_key();
        let mut pipe = pipe();
        pipe.cmd("XADD").arg(&key).arg("MAXLEN").arg("~").arg(ANNOUNCEMENTS_MAX).arg("*");
        for (domain, generation) in domains {
            pipe.arg(domain).arg(*generation);
        }
        if domains.is_empty() {
            pipe.arg(BEGIN).arg(0);
        }
        read(self.run_at(&key, &pipe).await?)
    }

    /// What was announced after `position`; without one, where the stream ends now.
    pub(in crate::run_time::overrides) async fn announced(
        &self,
        position: Option<&str>,
    ) -> Result<Announcements, StoreError> {
        let key = self.announcements_key();
        if let Some(position) = position {
            let mut pipe = pipe();
            pipe.cmd("XRANGE").arg(&key).arg(position).arg("+").arg("COUNT").arg(READ_AT_ONCE);
            let entries: Vec<StreamEntry> = read(self.run_at(&key, &pipe).await?)?;
            let is_all = entries.len() < READ_AT_ONCE;
            // The position itself must be there: otherwise this is another stream, or what came behind it is gone. A stream
            // that has just begun is whole if it is short.
            let known = if position == BEFORE_ALL {
                is_all.then_some(0)
            } else {
                entries.first().is_some_and(|(first, _)| first == position).then_some(1)
            };
            if let Some(known) = known {
                let position = entries.last().map_or_else(|| position.to_owned(), |(last, _)| last.clone());
                let fields = entries.into_iter().skip(known).flat_map(|(_, fields)| fields);
                let domains = fields.filter_map(|(domain, generation)| Some((domain.into(), generation.parse().ok()?)));
                return Ok(Announcements { domains: Some(domains.collect()), position, is_all });
            }
        }
        let mut pipe = pipe();
        pipe.cmd("XREVRANGE").arg(&key).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Vec<StreamEntry> = read(self.run_at(&key, &pipe).await?)?;
        let newest = newest.into_iter().next().map_or_else(|| BEFORE_ALL.to_owned(), |(id, _)| id);
        Ok(Announcements { domains: None, position: newest, is_all: true })
    }

    /// In a Cluster it lies where its whole name says, since it has no hash tag.
    fn announcements_key(&self) -> String {
        format!("{}tg1:overrides:announced", self.connection.settings().key_prefix)
    }
}
