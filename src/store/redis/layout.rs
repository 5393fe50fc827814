//! The buckets that the replicas of a Redis use. How they are agreed on is `record`'s matter.

pub(super) mod record;

use std::sync::OnceLock;
use std::time::Duration;

use crate::store::key::Buckets;

/// Life in seconds of the record of the buckets, so that an intended change is reported for a day at most.
const LIFE_SECONDS: u64 = 86_400;

/// Time between renewals of the record: several can fail before it is gone.
pub(super) const LAYOUT_RENEWAL: Duration = Duration::from_secs(LIFE_SECONDS / 4);

/// Why nothing can be asked about counters of a Cluster yet.
pub(super) const BUCKETS_UNKNOWN: &str = "which buckets the Cluster uses is not known yet";

/// The buckets that were found to be in use. Once found they stay: counters can't move to others.
#[derive(Debug, Default)]
pub struct Layout(OnceLock<Buckets>);

impl Layout {
    pub(super) fn found(&self) -> Option<Buckets> {
        self.0.get().copied()
    }

    /// Uses these from now on, unless others were found.
    fn find(&self, buckets: Buckets) {
        self.0.get_or_init(|| buckets);
    }
}
