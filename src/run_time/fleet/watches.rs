//! Watches on the blackboard: who wants to see the decisions of all replicas, and until when. A replica reads them with
//! each beat; a watch ends unless who began it renews it.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// Watches under way at once, over the fleet.
pub const WATCHES_MAX: usize = 4;

/// Lines that a watch is sent in a second, over the fleet.
pub const LINES_PER_SECOND: u32 = 500;

/// How often a replica sends what a watch is for.
pub const PUBLISH_EVERY: Duration = Duration::from_millis(200);

/// How often that is in a second.
pub const LOOKS_PER_SECOND: u32 = 5;

/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Lines that each of so many replicas may send each time.
pub fn lines_per_look(replicas: u32) -> f64 {
    f64::from(LINES_PER_SECOND) / f64::from(LOOKS_PER_SECOND) / f64::from(replicas.max(1))
}

/// What a replica sends for a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Decisions as JSON, without line breaks.
    pub lines: Vec<Arc<str>>,
    /// Lines that had no room.
    pub left_out: u64,
}

impl Published {
    /// The number of lines left out, and a line for each decision. Lines that don't fit are left out too.
    pub fn encode(&self) -> Vec<u8> {
        // Room for the number.
        let mut bytes = 24;
        let fits = |line: &&Arc<str>| {
            bytes += line.len() + 1;
            bytes <= MESSAGE_BYTES_MAX
        };
        let lines: Vec<&Arc<str>> = self.lines.iter().take_while(fits).collect();
        let mut text = (self.left_out + (self.lines.len() - lines.len()) as u64).to_string();
        for line in lines {
            let _ = write!(text, "\n{line}");
        }
        text.into_bytes()
    }

    /// What is no such message is taken for an empty one.
    pub fn decode(message: &[u8]) -> Published {
        let Ok(text) = std::str::from_utf8(message) else { return Published::default() };
        let mut lines = text.split('\n');
        match lines.next().map(str::parse) {
            Some(Ok(left_out)) => Published { lines: lines.map(Arc::from).collect(), left_out },
            _ => Published::default(),
        }
    }
}

/// Which decisions a watch wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchFilter {
    /// Of these domains; `None` is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domains: Option<Vec<Box<str>>>,
    /// That met the limit with this id; empty for any.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub limit: Box<str>,
    /// With a descriptor that has this key and value. A value that is hashed for privacy stands here as its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<(Box<str>, Box<str>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<WatchedKind>,
}

/// What decisions can be watched alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchedKind {
    /// Requests that were denied.
    Denied,
    /// Requests that a limit would have refused that isn't enforced.
    Shadow,
    /// Requests that a failure policy answered.
    Degraded,
}

impl WatchedKind {
    pub const ALL: [WatchedKind; 3] = [WatchedKind::Denied, WatchedKind::Shadow, WatchedKind::Degraded];

    pub const fn name(self) -> &'static str {
        match self {
            WatchedKind::Denied => "denied",
            WatchedKind::Shadow => "shadow",
            WatchedKind::Degraded => "degraded",
        }
    }

    pub fn parse(text: &str) -> Option<WatchedKind> {
        WatchedKind::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

/// A watch as it stands on the blackboard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostedWatch {
    pub id: Box<str>,
    /// The id of the replica that was asked for it.
    pub by: Box<str>,
    pub filter: WatchFilter,
    /// Whether its lines go by a shard channel, which only its node of a Cluster passes on.
    pub sharded: bool,
}

impl PostedWatch {
    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).expect("plain fields have a JSON form")
    }

    pub(super) fn read(text: &[u8]) -> Option<PostedWatch> {
        serde_json::from_slice(text).ok()
    }
}
