//! What a store is asked: the counters of a request, what is put to each, until when an answer is waited for, and whether
//! the answers deny the request. Plain values: nothing here counts.

use tokio::time::Instant;

use crate::limit::{Cost, Entry, Limit};

/// What a counter is called: domain, entries, and the limit's name where a rule's limits share those.
/// Never the limit's number: a raised limit goes on with the count that it has.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub domain: &'a str,
    pub entries: &'a [Entry<'a>],
    /// By position: the pattern that stands in for the value where the rule shares one counter (`share_threshold`).
    pub shared: &'a [Option<Box<str>>],
    /// Name or ordinal of the limit where several of one rule would share a key, else empty.
    pub limit_name: &'a str,
    /// Position of the first entry matched by a key-only or wildcard rule: counters of one user share a slot.
    pub variable: usize,
}

/// What a refusal by this limit does to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Denies the request.
    Enforced,
    /// Denies it only if every quota limit of the request refuses.
    Quota,
    /// Counted and reported, never denies (`shadow_mode`, `enforce: false`).
    Shadow,
}

/// One counter of a request, and what is put to it. Its fields lie in this order, with no gap before the limit: beside
/// one the compiler copies gap and limit in pieces that cross the pieces they were written in, and the processor then
/// puts off the counter's hash until all that came before is done.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ask<'a> {
    pub key: Key<'a>,
    pub limit: Limit,
    pub cost: Cost,
    /// Which rule asks: a hash of its id, so that it stays the same over reloads. A bounded store shares its room out
    /// by it; rules that coincide share room, nothing else.
    pub rule: u32,
    pub role: Role,
}

/// What holds for the request as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// A quota descriptor without a limit is in the request (global QUOTA_MODE): quota can't deny.
    pub quota_open: bool,
    /// Global SHADOW_MODE: charged as if not denied.
    pub never_deny: bool,
}

/// Whether the request is denied, from the role and the answer of each of its limits: the verdict of docs/design.md.
/// The stores decide with it what to charge, the limiter what to answer.
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

/// Until when an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// By then a request is on its way, or it isn't sent any more.
    pub at: Instant,
    /// One that is on its way by then is waited for until this. Not before `at`.
    pub sent: Instant,
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Deadline {
        Deadline { at, sent: at }
    }
}

/// Refused or not, nothing is charged for it in a request that is denied.
pub(super) fn uncharged<'a>(ask: &Ask<'a>) -> Ask<'a> {
    Ask { cost: Cost { charge_denied: false, ..ask.cost }, ..*ask }
}

/// A limit of 0, which denies the request that it stands in: of its other asks only those are charged that count denied
/// hits. `beside` one of them, so that it is asked about in the same place.
pub(crate) fn refusing<'a>(beside: &Ask<'a>) -> Ask<'a> {
    Ask {
        key: Key { limit_name: "denied elsewhere", ..beside.key },
        limit: Limit { requests: 0, burst: 0, ..beside.limit },
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
        ..*beside
    }
}
