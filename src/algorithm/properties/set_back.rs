//! A clock that goes back, by any amount, after any history: costs that were denied and charged all the same included.

use proptest::test_runner::TestCaseError;

use super::*;
use crate::algorithm::bucket;

/// The longest that a client of a counter in use waits for anything: its window, as it is rounded to sub-windows, or what
/// an empty bucket needs to fill up, where that is longer.
fn window(limit: &Limit) -> u64 {
    match limit.algorithm {
        SlidingWindow => limit.window.0.div_ceil(u64::from(limit.sub_windows)) * u64::from(limit.sub_windows),
        FixedWindow | SlidingLog => limit.window.0,
        TokenBucket | LeakyBucket => limit.window.0.max(bucket::fills_in(limit)),
    }
}

/// Sets the clock back from `now` to `then`, and asks for `hits`.
pub(super) fn grants_nothing_and_blocks_briefly(
    mut counter: Counter,
    now: u64,
    then: u64,
    hits: i64,
) -> Result<(), TestCaseError> {
    let (limit, room) = (counter.limit, counter.look(now, 0).remaining);
    let reading = counter.hit(then, hits);
    prop_assert!(reading.remaining <= room, "{} remain, and {room} did", reading.remaining);
    if reading.admitted || !can_pass(&limit, hits.unsigned_abs()) || !in_reach(then, 2 * window(&limit)) {
        return Ok(());
    }
    // A bucket's times are rounded up to whole µs: that of its debt and that of the cost.
    let longest = 2 * window(&limit) + if limit.algorithm.has_burst() { 2 } else { 0 };
    prop_assert!(reading.reset.0 <= longest, "{} µs to wait, of at most {longest}", reading.reset.0);
    prop_assert!(counter.look(then + longest, hits).admitted);
    kept(&counter, then, hits, reading.reset.0)
}
