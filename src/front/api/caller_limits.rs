//! Limits that a caller sends with its check, and hits that it gives back: who may send them, how many new counters
//! they may create, and what the audit records. Envoy's own service doesn't come through here: its routes are
//! configured by whoever runs it.

#[cfg(test)]
mod tests;

use std::{
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use parking_lot::Mutex;

use super::{Api, ApiError, Scope, bounds, overrides};
use crate::{
    clock,
    limit::{self, Micros, UnixMicros},
    limiter::Modes,
    metrics::RefusedCheck,
    run_time::reset::Author,
};

/// Bounds on limits that callers bring without a token.
pub struct CallerLimits {
    /// Longest window.
    window_max: Micros,
    new_counters: Mutex<NewCounters>,
    hasher: RandomState,
}

/// Number of counters that began in the current second, and the counters that began lately.
struct NewCounters {
    /// Largest number in each second of the clock.
    at_most: u32,
    second: u64,
    begun: u32,
    recent: Recent,
}

/// Sets of counters, which are identified by 64 bits each: a mebibyte, of which only the used part takes memory.
const SETS: usize = 32_768;

/// Counters in a set: the ones that were used last.
const WAYS: usize = 4;

/// Counters of callers' own limits that were used lately. One that is forgotten just counts as new again.
struct Recent(Box<[[u64; WAYS]]>);

/// A counter of a limit that a request brings.
#[derive(Clone, Copy)]
struct CallerCounter {
    window: Micros,
    /// Fingerprint of its key: equal for equal counters, different for others.
    fingerprint: u64,
}

impl CallerLimits {
    /// Windows of at most `window_max`, and `new_counters` new counters in each second.
    pub fn new(window_max: Duration, new_counters: u32) -> CallerLimits {
        let recent = Recent(vec![[0; WAYS]; SETS].into());
        CallerLimits {
            window_max: Micros(u64::try_from(window_max.as_micros()).unwrap_or(u64::MAX)),
            new_counters: Mutex::new(NewCounters { at_most: new_counters, second: 0, begun: 0, recent }),
            hasher: RandomState::new(),
        }
    }

    /// The counters of a request's own limits.
    fn counters(&self, request: &limit::Request<'_>) -> Vec<CallerCounter> {
        let counted = request.descriptors.iter().enumerate().filter_map(|(index, descriptor)| {
            let is_last = index + 1 == request.descriptors.len();
            let window = match (request.caller_limit.filter(|_| is_last), descriptor.limit) {
                (Some(limit), _) => limit.window,
                (None, Some((_, unit))) => unit.window(),
                (None, None) => return None,
            };
            let entries: Vec<_> = descriptor.entries.iter().map(|entry| (entry.key, entry.value)).collect();
            Some(CallerCounter { window, fingerprint: self.hasher.hash_one((request.domain, window, entries)) })
        });
        counted.collect()
    }

    /// Whether these counters may be used now: `false` if too many of them are new in this second.
    fn admits(&self, counters: &[CallerCounter], now: UnixMicros) -> bool {
        self.new_counters.lock().admit(counters, now.0 / limit::SECOND.0)
    }
}

impl NewCounters {
    /// All of them, or none.
    fn admit(&mut self, counters: &[CallerCounter], second: u64) -> bool {
        if second != self.second {
            (self.second, self.begun) = (second, 0);
        }
        let recent = &mut self.recent;
        let new: Vec<u64> = counters.iter().map(|it| it.fingerprint).filter(|it| !recent.knows(*it)).collect();
        let begun = u32::try_from(new.len()).unwrap_or(u32::MAX).saturating_add(self.begun);
        if !new.is_empty() && begun > self.at_most {
            return false;
        }
        self.begun = begun;
        new.into_iter().for_each(|fingerprint| recent.learn(fingerprint));
        true
    }
}

impl Recent {
    fn set(&mut self, fingerprint: u64) -> &mut [u64; WAYS] {
        &mut self.0[fingerprint as usize % SETS]
    }

    /// Whether it was used lately; if so, it is now the one that was used last.
    fn knows(&mut self, fingerprint: u64) -> bool {
        let set = self.set(fingerprint);
        let Some(place) = set.iter().position(|known| *known == fingerprint) else { return false };
        set[..=place].rotate_right(1);
        true
    }

    /// Replaces the one that wasn't used for the longest time.
    fn learn(&mut self, fingerprint: u64) {
        let set = self.set(fingerprint);
        set.rotate_right(1);
        set[0] = fingerprint;
    }
}

impl Api {
    /// Whether a caller may bring what its request brings. Costs a usual request, which brings nothing, a look at its
    /// descriptors.
    ///
    /// # Errors
    ///
    /// What the caller may not, with what would allow it; nothing was counted then.
    pub(crate) async fn permit(
        &self,
        authorization: Option<&str>,
        request: &limit::Request<'_>,
    ) -> Result<(), ApiError> {
        if request.caller_limit.is_some() || request.descriptors.iter().any(|it| it.limit.is_some()) {
            self.permit_caller_limits(authorization, request)?;
        }
        if request.descriptors.iter().any(is_refund) {
            self.permit_return(authorization, request).await?;
        }
        Ok(())
    }

    /// A refund lifts a limit for everybody, so a token must allow it, and the audit has an entry about it.
    async fn permit_return(&self, authorization: Option<&str>, request: &limit::Request<'_>) -> Result<(), ApiError> {
        let caller = self.authenticator.authenticate(authorization);
        let caller = caller.and_then(|it| it.require(Scope::HitsReturn, Some(request.domain)).map(|()| it));
        let caller = caller.inspect_err(|_| self.limiter.metrics().refused_check(RefusedCheck::Return));
        let caller = caller.map_err(|refusal| match refusal {
            ApiError::Unauthenticated(why) => ApiError::Unauthenticated(format!("negative hits give back: {why}")),
            other => other,
        })?;
        // In a domain without rules nothing is counted.
        if self.limiter.snapshot().rules.domain(request.domain).is_none() {
            return Ok(());
        }
        let target = describe_refunds(request);
        let author = Author { token: &caller.name, target: &target, reason: "" };
        Ok(overrides::run_time(self)?.note_return(request.domain, author, clock::now()).await?)
    }

    fn permit_caller_limits(&self, authorization: Option<&str>, request: &limit::Request<'_>) -> Result<(), ApiError> {
        // Where checks are closed, the token that let this one in has the scope.
        if !self.authenticator.checks_are_open() {
            return Ok(());
        }
        let token = authorization
            .map(|_| self.authenticator.authenticate(authorization)?.require(Scope::Check, Some(request.domain)));
        if let Some(Ok(())) = token {
            return Ok(());
        }
        let metrics = self.limiter.metrics();
        let counters = self.caller_limits.counters(request);
        if let Some((reason, refusal)) =
            refusal(request, &counters, self.caller_limits.window_max, self.limiter.modes())
        {
            metrics.refused_check(reason);
            // If there is a token, then what is wrong is that it doesn't allow this.
            return Err(token.and_then(Result::err).unwrap_or(refusal));
        }
        if !self.caller_limits.admits(&counters, clock::now()) {
            metrics.refused_check(RefusedCheck::NewCounters);
            return Err(ApiError::TooMany(
                "nothing was decided: limits that callers bring without a token have begun as many new counters in this \
                 second as TOLLGATE_CHECK_NEW_COUNTERS allows; ask again in a second, send a token with the scope \
                 `check`, or raise that setting"
                    .into(),
            ));
        }
        Ok(())
    }
}

fn is_refund(descriptor: &limit::Descriptor<'_>) -> bool {
    descriptor.hits.is_some_and(|hits| hits < 0)
}

/// Number of descriptors that the audit entry of one request names.
const NAMED_MAX: usize = 16;

/// `(user=alice) -5`, for each descriptor that is given hits back.
fn describe_refunds(request: &limit::Request<'_>) -> String {
    let mut target = String::new();
    let mut descriptors = request.descriptors.iter().filter(|it| is_refund(it));
    for descriptor in descriptors.by_ref().take(NAMED_MAX) {
        for entry in descriptor.entries.iter().take(NAMED_MAX) {
            let _ = write!(target, "({}={})", bounds::shown(entry.key), bounds::shown(entry.value));
        }
        let _ = write!(target, " {} ", descriptor.hits.unwrap_or_default());
    }
    match descriptors.count() {
        0 => target.truncate(target.trim_end().len()),
        more => {
            let _ = write!(target, "and {more} more");
        }
    }
    target
}

/// Why a caller without a token may not bring these limits, if so.
fn refusal(
    request: &limit::Request<'_>,
    counters: &[CallerCounter],
    window_max: Micros,
    modes: Modes,
) -> Option<(RefusedCheck, ApiError)> {
    let place = if request.caller_limit.is_some() { "window_seconds" } else { "descriptors" };
    if let Some(long) = counters.iter().find(|counter| counter.window > window_max) {
        let seconds = |window: Micros| window.as_duration().as_secs_f64();
        let what = format!(
            "a window of {} seconds is longer than {}, the most for a limit that a caller brings without a token",
            seconds(long.window),
            seconds(window_max)
        );
        let hint = "send a token with the scope `check`, make a rule of it, or raise TOLLGATE_CHECK_WINDOW_MAX";
        return Some((RefusedCheck::Window, ApiError::invalid(place, what, hint)));
    }
    // A bucket drains at the rate of the limit that reads it, so with a limit of their own callers could empty a rule's
    // bucket.
    if request.caller_limit.is_none() && modes.algorithm.has_burst() {
        let what = "a bucket's limit (TOLLGATE_ALGORITHM) can't come with a request that has no token";
        let hint = "send a token with the scope `check`, or make a rule of it";
        return Some((RefusedCheck::Bucket, ApiError::invalid(place, what, hint)));
    }
    None
}
