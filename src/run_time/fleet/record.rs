//! What a replica says of itself, as JSON of at most [`RECORD_MAX`] bytes. Fields that a release doesn't know are skipped,
//! and those that it misses have their defaults, so that replicas of different releases read each other.

use serde::{Deserialize, Serialize};

use crate::limit::UnixMicros;

/// Bytes of a record.
pub const RECORD_MAX: usize = 2 << 10;

/// Bytes of all records together: a thousand have room for [`RECORD_MAX`] each.
const RECORDS_MAX: usize = 2 << 20;

/// Bytes of a record in the largest of fleets: what is always there takes no more.
const RECORD_LEAST: usize = 1 << 10;

/// Bytes of a name, of an address and of a place.
const TEXT_MAX: usize = 128;

/// Places of problems that are told.
const PLACES_MAX: usize = 3;

/// One replica at its last beat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaRecord {
    /// A random id of the process.
    pub id: Box<str>,
    /// The name of its pod, or its host with a port.
    pub name: Box<str>,
    /// The addresses of its gRPC and HTTP listeners.
    pub addresses: Vec<Box<str>>,
    pub version: Box<str>,
    /// In µs since the epoch, as is `at`.
    pub started: u64,
    /// When it beat, by the fleet's clock.
    pub at: u64,
    pub rules: RulesSeen,
    pub store: StoreSeen,
    pub rates: RatesSeen,
    /// The newest write of overrides or switches that is in force, over all domains.
    pub overrides_generation: u64,
    /// Up to which write the switches of a domain are in force; the domains that were switched last. Absent in releases
    /// that know no switches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched: Option<Vec<(Box<str>, u64)>>,
    /// Whether its release knows the mode `enforce` of switches.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub knows_shares: bool,
    /// Limits that this replica alone has switched.
    #[serde(skip_serializing_if = "is_zero")]
    pub switched_here: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulesSeen {
    pub hash: Box<str>,
    pub version: u64,
    /// When they came into force, in µs since the epoch.
    pub loaded: u64,
    /// Number of errors of the files as they are now.
    pub problems: u32,
    /// Where some of them are: `config/api.yaml:12`.
    pub places: Vec<Box<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreSeen {
    /// `memory` or `redis`.
    pub kind: Box<str>,
    /// Whether it answers.
    pub answers: bool,
    /// Circuit breakers that are open.
    pub breakers_open: u32,
}

/// A second, over the time since they were counted before: a second at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RatesSeen {
    pub requests: f64,
    pub refused: f64,
    /// Decided by a failure policy.
    pub degraded: f64,
}

impl ReplicaRecord {
    /// As it is written in a fleet of so many: texts are cut, and what is long is left out until it fits.
    pub(super) fn write(&self, replicas: u32) -> String {
        let bytes_max = (RECORDS_MAX / replicas.max(1) as usize).clamp(RECORD_LEAST, RECORD_MAX);
        let mut record = self.clone();
        for text in
            [&mut record.name, &mut record.rules.hash, &mut record.version].into_iter().chain(&mut record.addresses)
        {
            cut(text);
        }
        record.rules.places.truncate(PLACES_MAX);
        record.rules.places.iter_mut().for_each(cut);
        loop {
            let text = serde_json::to_string(&record).expect("plain fields have a JSON form");
            let is_long = text.len() > bytes_max;
            // Names of domains have no bound of their own. The oldest is needed least.
            match &mut record.switched {
                _ if !is_long => return text,
                _ if record.addresses.len() > 2 => record.addresses.truncate(2),
                _ if !record.rules.places.is_empty() => record.rules.places.clear(),
                Some(switched) if !switched.is_empty() => drop(switched.remove(0)),
                _ if !record.addresses.is_empty() => record.addresses.clear(),
                // Nothing is left but names and numbers.
                _ => return text,
            }
        }
    }

    pub(super) fn read(text: &[u8]) -> Option<ReplicaRecord> {
        serde_json::from_slice(text).ok()
    }

    /// Whether its release knows switches.
    pub fn knows_switches(&self) -> bool {
        self.switched.is_some()
    }

    /// Whether the switches of a domain are in force up to this write.
    pub fn has_switches(&self, domain: &str, version: u64) -> bool {
        let is_it = |(of, upto): &(Box<str>, u64)| **of == *domain && *upto >= version;
        self.switched.as_ref().is_some_and(|switched| switched.iter().any(is_it))
    }

    pub fn started(&self) -> UnixMicros {
        UnixMicros(self.started)
    }
}

fn cut(text: &mut Box<str>) {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        *text = text[..end].into();
    }
}
