//! Where a part of a request is decided in one step. It knows neither lanes nor slots.

/// In the order in which parts are asked, which is the same for all replicas that know the same nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// By a script over all counters of a node, which is this one in the order of addresses. Outside a Cluster there is
    /// one.
    Node(u16),
    /// By a script over the counters of a bucket, wherever its slot lies.
    Bucket(u32),
    /// As [`Place::Bucket`], for the check of this number alone: while a slot moves, no script may touch two counters.
    Check(u32, u16),
}

impl Place {
    /// Where a smaller part asks for the counter of the `nth` check, which is in `bucket`.
    pub(super) fn finer(self, bucket: u32, nth: usize) -> Option<Place> {
        match self {
            Place::Node(_) => Some(Place::Bucket(bucket)),
            Place::Bucket(_) => Some(Place::Check(bucket, u16::try_from(nth).ok()?)),
            Place::Check(..) => None,
        }
    }
}
