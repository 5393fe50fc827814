//! The fleet's blackboard: what each replica says of itself, so that any replica can answer for all, and none connects
//! to another. With Redis it lies there beside the counters; with the memory store the fleet is this process. It knows
//! how records are kept, not where their numbers come from.
//!
//! | key | value | ends |
//! |---|---|---|
//! | `<prefix>tg1:{0}:fleet` | sorted set: the ids of replicas by the second of their last beat | with the last replica |
//! | `<prefix>tg1:{0}:fleet:<id>` | the record of a replica as JSON, at most [`RECORD_MAX`] bytes | [`LIFE`] after its last beat |
//! | `<prefix>tg1:{0}:fleet:asked` | there while somebody asks for lists | [`ASKED_FOR`] after the last question |
//! | `<prefix>tg1:{0}:fleet:watches` | hash: watches of decisions by id, each its last second and its JSON | with the last |
//! | `<prefix>tg1:{0}:fleet:asked:limits` | sorted set: limits whose own lists somebody asks for, by the second; a few | the same |
//! | `<prefix>tg1:{0}:fleet:lists:<id>` | a replica's lists, at most its share of [`LISTS_MAX`] | [`LIFE`] after its last beat |
//!
//! A beat is one command, whatever the number of domains and nodes, and a page of records another. All keys lie in one
//! slot of a Cluster.

mod board;
mod record;
#[cfg(test)]
mod tests;
mod watches;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub(crate) use board::CALL;
pub use board::{ASKED_FOR, Board, Heard, LIFE, LISTS_MAX, PostError, WATCH_LIFE, why_partial};
pub use record::{RECORD_MAX, RatesSeen, ReplicaRecord, RulesSeen, StoreSeen};

pub use crate::store::redis::Listening;
pub use watches::{
    LINES_PER_SECOND, LOOKS_PER_SECOND, PUBLISH_EVERY, PostedWatch, Published, WATCHES_MAX, WatchFilter, WatchedKind,
    lines_per_look,
};

use crate::{
    clock,
    store::{StoreError, redis::CommandConnection},
};

/// Time between beats.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);

/// This replica among the replicas of its fleet.
pub struct Fleet {
    name: Box<str>,
    /// A random id of this process.
    id: Box<str>,
    /// Where records are; `None`: this process is the fleet.
    board: Option<Board>,
    /// The record of the last beat, which is shown even where nothing can be written.
    own: Mutex<Option<ReplicaRecord>>,
    /// Of the last beat.
    heard: Mutex<Heard>,
    /// The watches that the last beat heard of; changes where they do.
    watches_heard: watch::Sender<Vec<PostedWatch>>,
    wake: Notify,
}

/// What is known of the fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetView {
    pub name: Box<str>,
    /// By name.
    pub replicas: Vec<ReplicaRecord>,
    /// Why these are not all replicas, in words for people; `None` if they are.
    pub partial: Option<Box<str>>,
}

impl Fleet {
    /// A fleet that is this process alone.
    pub fn of_one(name: &str) -> Fleet {
        Fleet::with(name, None)
    }

    /// A fleet whose replicas share a Redis.
    pub fn in_redis(name: &str, connection: CommandConnection) -> Fleet {
        Fleet::with(name, Some(Board::new(connection)))
    }

    fn with(name: &str, board: Option<Board>) -> Fleet {
        let id = format!("{:016x}", rand::random::<u64>()).into();
        let (own, heard) = (Mutex::default(), Mutex::new(Heard { replicas: 1, ..Heard::default() }));
        Fleet { name: name.into(), id, board, own, heard, watches_heard: watch::Sender::default(), wake: Notify::new() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of this replica.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the last beat heard.
    pub fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }

    /// Writes a beat: what this replica says of itself, and its lists where they are wanted.
    pub async fn beat(&self, record: ReplicaRecord, lists: Option<Vec<u8>>) -> Result<Heard, StoreError> {
        let text = record.write(self.heard().replicas);
        *self.own.lock() = Some(record);
        let heard = match &self.board {
            None => Heard { replicas: 1, ..Heard::default() },
            Some(board) => board.beat(&self.id, &text, lists.as_deref()).await?,
        };
        *self.heard.lock() = heard.clone();
        self.watches_heard.send_if_modified(|known| {
            let is_news = *known != heard.watches;
            if is_news {
                known.clone_from(&heard.watches);
            }
            is_news
        });
        Ok(heard)
    }

    /// Takes this replica off the blackboard. If that fails its record ends by itself.
    pub async fn leave(&self) {
        if let Some(board) = &self.board {
            board.leave(&self.id).await;
        }
    }

    /// What every replica says of itself. Where the others' records can't be read, this replica's alone.
    pub async fn read(&self) -> FleetView {
        let own = self.own.lock().clone();
        let (mut replicas, partial) = match &self.board {
            None => (Vec::new(), None),
            Some(board) => match board.records().await {
                Ok(records) => (records, None),
                Err(error) => (Vec::new(), Some(why_partial(&error).into())),
            },
        };
        if let Some(own) = own
            && !replicas.iter().any(|record| record.id == own.id)
        {
            replicas.push(own);
        }
        replicas.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        FleetView { name: self.name.clone(), replicas, partial }
    }

    /// Whether others can be told of a change: Redis answers, be it with a refusal.
    pub async fn is_reached(&self) -> bool {
        match &self.board {
            None => true,
            Some(board) => !matches!(board.ids().await, Err(error) if !matches!(error, StoreError::Refused(_))),
        }
    }

    /// The lists of the other replicas, whom this asks to go on writing theirs, also those of one limit. Those that nobody has
    /// asked of late come with their next beats.
    pub async fn lists_of_others(&self, limit: Option<&str>) -> Result<Vec<Vec<u8>>, StoreError> {
        let Some(board) = &self.board else { return Ok(Vec::new()) };
        board.ask(limit).await?;
        board.lists_of_others(&self.id).await
    }

    /// The watches of the fleet; changes with what beats hear.
    pub fn watches(&self) -> watch::Receiver<Vec<PostedWatch>> {
        self.watches_heard.subscribe()
    }

    /// The blackboard, if others share it.
    pub fn board(&self) -> Option<&Board> {
        self.board.as_ref()
    }

    /// Beats soon, because something happened that others wait to see.
    pub fn beat_soon(&self) {
        self.wake.notify_one();
    }

    /// Waits until the next beat is due: after [`BEAT_EVERY`], or sooner if it is asked for.
    pub async fn until_next_beat(&self) {
        // A random part, so that replicas that started together don't beat together.
        let pause = BEAT_EVERY.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        let _ = tokio::time::timeout(pause, self.wake.notified()).await;
    }

    /// Waits up to `patience` until every replica that lives has the switches of `domain` in force up to `version`. A
    /// replica that doesn't know what was written doesn't have it in force: `knows` tells by its record. Returns the names
    /// of all, and of those that have not confirmed.
    pub async fn confirmed(
        self: &Arc<Self>,
        (domain, version): (&str, u64),
        knows: fn(&ReplicaRecord) -> bool,
        patience: Duration,
    ) -> Confirmation {
        let deadline = clock::instant() + patience;
        loop {
            let view = self.read().await;
            let is_missing = |record: &&ReplicaRecord| !(knows(record) && record.has_switches(domain, version));
            let missing: Vec<Box<str>> =
                view.replicas.iter().filter(is_missing).map(|record| record.name.clone()).collect();
            if missing.is_empty() || clock::instant() >= deadline {
                let in_force = view.replicas.len() - missing.len();
                return Confirmation { replicas: view.replicas.len(), in_force, missing, partial: view.partial };
            }
            tokio::time::sleep(CONFIRM_EVERY).await;
        }
    }
}

/// Time between looks for confirmations.
const CONFIRM_EVERY: Duration = Duration::from_millis(50);

/// How many replicas have a change in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    pub replicas: usize,
    pub in_force: usize,
    /// The names of those that haven't confirmed.
    pub missing: Vec<Box<str>>,
    /// Why others may be missing here.
    pub partial: Option<Box<str>>,
}
