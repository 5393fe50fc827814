//! Refusals of a control plane's sets: what was refused last, and how fast refusals may follow each other. Some control
//! planes answer a refusal at once with the same set, and send a corrected one only in answer to a request: so a refusal
//! must be neither sent at once for ever nor held back for long.

use crate::proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tokio::time::{self, Duration, Instant};

use super::set::{self, Digest, digest};
use crate::rules::Problems;

/// Refusals are sent this far apart where they follow each other without an end. A corrected set that waits for a
/// refusal waits no longer than this: it is in force within a second.
const EVERY: Duration = Duration::from_millis(800);

/// Refusals that are sent at once before that. What operators send by hand, and what go-control-plane repeats, needs no
/// more.
const AT_ONCE: u32 = 4;

/// The set that was refused last.
pub(super) struct RefusedSet {
    version: String,
    digest: Digest,
    problems: Problems,
}

impl RefusedSet {
    pub(super) fn new(response: &DiscoveryResponse, problems: Problems) -> RefusedSet {
        RefusedSet { version: response.version_info.clone(), digest: digest(response), problems }
    }

    /// Whether a response contains the set that was refused last.
    pub(super) fn is_same_set(&self, response: &DiscoveryResponse) -> bool {
        self.digest == digest(response)
    }

    /// Whether a set of this version was refused, whatever is in it this time.
    pub(super) fn has_version(&self, version: &str) -> bool {
        self.version == version
    }

    /// Every mistake, in words for the control plane.
    pub(super) fn text(&self) -> String {
        set::summary(&self.problems)
    }
}

/// Bounds the rate of refusals, whatever the sets are that are refused.
#[derive(Default)]
pub(super) struct NackPace {
    /// When the refusals that were sent are paid for, at one each [`EVERY`].
    paid: Option<Instant>,
}

impl NackPace {
    /// When the next refusal may be sent.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.paid.and_then(|paid| paid.checked_sub(EVERY * (AT_ONCE - 1))).map_or(now, |earliest| earliest.max(now))
    }

    /// One is sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + EVERY);
    }
}

/// A refusal that is held back until its time.
pub(super) struct DelayedNack {
    pub(super) request: DiscoveryRequest,
    pub(super) until: Instant,
}

/// Waits until what is held back may be sent; for ever, where nothing is.
pub(super) async fn due(held: Option<&DelayedNack>) {
    match held {
        Some(held) => time::sleep_until(held.until).await,
        None => std::future::pending().await,
    }
}
