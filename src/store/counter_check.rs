//! What a store is asked: the counters of a request, what is put to each, until when an answer is waited for, and whether
//! the answers deny the request. Plain values: nothing here counts.

use tokio::time::Instant;

use crate::limit::{Cost, Entry, Limit};

/// Identity of a counter: domain, entries, and the limit's name if several limits of the rule would share a key. The
/// number of hits that the limit admits isn't part of it, so a raised limit goes on with the count that it has.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub domain: &'a str,
    pub entries: &'a [Entry<'a>],
    /// For each entry the pattern that replaces its value, if the rule shares one counter over all values
    /// (`share_threshold`).
    pub shared: &'a [Option<Box<str>>],
    /// Name or number of the limit if several limits of one rule would share a key, else empty.
    pub limit_name: &'a str,
    /// Position of the first entry that a key-only or wildcard rule matched. It chooses the bucket: counters of one
    /// user share a slot.
    pub variable: usize,
}

/// What a refusal by a limit does to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Denies the request.
    Enforced,
    /// Denies it only if every quota limit of the request refuses.
    Quota,
    /// Counted and reported, never denies (`shadow_mode`, `enforce: false`).
    Shadow,
}

/// A check of one counter by a limit and a cost. Its fields lie in this order, with no gap before the limit: next to a
/// gap the compiler copies gap and limit in pieces that cross the pieces in which they were written, and the processor
/// then delays the counter's hash until all earlier writes are done.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CounterCheck<'a> {
    pub key: Key<'a>,
    pub limit: Limit,
    pub cost: Cost,
    /// Hash of the rule's id, so that it stays the same over reloads. A bounded store divides its capacity by it; rules
    /// with the same hash share capacity, and nothing else.
    pub rule: u32,
    pub role: Role,
}

/// What decides about the request as a whole, besides its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// The request has a quota descriptor without a limit (global QUOTA_MODE), so quotas can't deny it.
    pub quota_open: bool,
    /// Global SHADOW_MODE: the request is charged as if it were not denied.
    pub never_deny: bool,
}

/// Whether the request is denied, from the role of each of its checks and whether it was admitted (docs/src/why/design.md). The
/// stores decide by it what to charge, the limiter what to answer.
pub fn denied(gate: Gate, answers: impl IntoIterator<Item = (Role, bool)>) -> bool {
    let (mut enforced_refused, mut quotas, mut quotas_refused) = (false, 0u32, 0u32);
    for (role, admitted) in answers {
        match role {
            Role::Enforced => enforced_refused |= !admitted,
            Role::Quota => {
                quotas += 1;
                quotas_refused += u32::from(!admitted);
            }
            Role::Shadow => {}
        }
    }
    !gate.never_deny && (enforced_refused || (!gate.quota_open && quotas > 0 && quotas == quotas_refused))
}

/// Until when an answer is waited for, as two instants.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// A request that has not been sent by then isn't sent any more.
    pub at: Instant,
    /// The reply to a request that was sent is waited for until then. Not before `at`.
    pub sent: Instant,
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Deadline {
        Deadline { at, sent: at }
    }
}

/// The check with a cost that charges nothing in a request that is denied, whether or not it is refused.
pub(super) fn uncharged<'a>(check: &CounterCheck<'a>) -> CounterCheck<'a> {
    CounterCheck { cost: Cost { charge_denied: false, ..check.cost }, ..*check }
}

/// A check of a limit of 0, which denies the request that it is added to, so that of its other checks only those with
/// `charge_denied` are charged. It has the place of `beside`, one of these checks, so that one script can decide them
/// all.
pub(crate) fn refusing<'a>(beside: &CounterCheck<'a>) -> CounterCheck<'a> {
    CounterCheck {
        key: Key { limit_name: "denied elsewhere", ..beside.key },
        limit: Limit { requests: 0, burst: 0, ..beside.limit },
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
        ..*beside
    }
}
