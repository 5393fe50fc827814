//! Whether a limit of a rule refuses only what another limit of that rule refuses anyway. It says so only where that holds
//! for every sequence of requests, so not where it holds for usual ones.

use std::collections::HashSet;

use crate::{
    limit::{Algorithm, CountDenied, EnforcedShare, Limit},
    rules::RuleLimit,
};

/// The position of a limit without which the one at `position` would decide something; `None` if it decides something
/// itself. Of two that are alike the first counts.
pub(super) fn decider(limits: &[RuleLimit], position: usize, replaced: &HashSet<&str>) -> Option<usize> {
    let own = &limits[position];
    // One that only counts is there to be looked at.
    if own.enforce != EnforcedShare::ALL {
        return None;
    }
    let decides = |(other, limit): &(usize, &RuleLimit)| {
        let is_always_there = limit.enforce == EnforcedShare::ALL
            && limit.name.as_deref().is_none_or(|name| !replaced.contains(name))
            && (limit.count_denied, limit.on_store_failure) == (own.count_denied, own.on_store_failure);
        is_always_there
            && *other != position
            && refuses_all(&limit.limit, &own.limit, own.count_denied)
            && (*other < position || !refuses_all(&own.limit, &limit.limit, own.count_denied))
    };
    limits.iter().enumerate().find(decides).map(|(other, _)| other)
}

/// Whether `strict` refuses, at every moment and whatever came before, every hit that `loose` refuses.
fn refuses_all(strict: &Limit, loose: &Limit, count_denied: CountDenied) -> bool {
    use Algorithm::{FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket};
    let (requests, window) = (|limit: &Limit| u128::from(limit.requests), |limit: &Limit| u128::from(limit.window.0));
    let charges_denied = matches!(count_denied, CountDenied::Always | CountDenied::Reported);
    let is_at_most = strict.requests <= loose.requests;
    match (strict.algorithm, loose.algorithm) {
        // The strict one's window holds the whole of the loose one's, whenever it is looked at.
        (SlidingWindow | SlidingLog, FixedWindow | SlidingLog) => is_at_most && strict.window >= loose.window,
        (SlidingWindow | SlidingLog, SlidingWindow) => {
            let same = strict.algorithm == SlidingWindow
                && (strict.window, strict.sub_windows) == (loose.window, loose.sub_windows);
            let sub_window = loose.window.0.div_ceil(u64::from(loose.sub_windows.max(1)));
            // What ends in the loose one's oldest sub-window counts whole there.
            let longest = (u64::from(loose.sub_windows.max(1)) + 1) * sub_window;
            is_at_most && (same || strict.window.0 >= longest)
        }
        // Both begin at multiples of their windows.
        (FixedWindow, FixedWindow) => is_at_most && strict.window.0.is_multiple_of(loose.window.0),
        // What is charged for nothing puts a bucket in debt, and some deeper than others.
        (TokenBucket | LeakyBucket, _) if charges_denied => false,
        // A bucket admits at most its burst and what flows through it in the time that the loose one remembers.
        (TokenBucket, FixedWindow | SlidingLog | SlidingWindow) => {
            let remembered = match loose.algorithm {
                SlidingWindow => {
                    let sub_windows = u64::from(loose.sub_windows.max(1));
                    u128::from((sub_windows + 1) * loose.window.0.div_ceil(sub_windows))
                }
                _ => window(loose),
            };
            let most = u128::from(strict.burst) * window(strict) + requests(strict) * remembered;
            most <= requests(loose) * window(strict)
        }
        (TokenBucket, TokenBucket) | (LeakyBucket, LeakyBucket) => {
            strict.burst <= loose.burst && requests(strict) * window(loose) <= requests(loose) * window(strict)
        }
        _ => false,
    }
}
