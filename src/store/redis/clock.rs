//! Redis' clock as seen from here, learned from the time in each reply. It turns a deadline of ours into one that Redis
//! can check, and tells when overrides end; no count rests on it.

use tokio::time::Instant;

use crate::limit::UnixMicros;

/// Bounds on how far Redis' clock is ahead of the instants since `anchor`, in µs.
pub(super) struct RedisClock {
    anchor: Instant,
    least: i64,
    most: i64,
}

impl RedisClock {
    /// From a time that Redis said, and an instant before it was asked.
    pub(super) fn new((redis_now, asked): (u64, Instant)) -> RedisClock {
        RedisClock { anchor: asked, least: i64::MIN, most: redis_now as i64 }
    }

    /// Each reply bounds the offset from both sides, for Redis read its clock between the two instants. Bounds that
    /// contradict each other mean that a clock was set: then only the newest count.
    pub(super) fn learn(&mut self, redis_now: u64, sent: Instant, received: Instant) {
        let least = redis_now as i64 - self.since(received);
        let most = redis_now as i64 - self.since(sent);
        (self.least, self.most) = (self.least.max(least), self.most.min(most));
        if self.least > self.most {
            (self.least, self.most) = (least, most);
        }
    }

    /// `deadline` on Redis' clock, rather late than early: early would refuse what could still be answered.
    pub(super) fn at(&self, deadline: Instant) -> u64 {
        self.since(deadline).saturating_add(self.most).max(1) as u64
    }

    /// How far Redis' clock is ahead of the one that said `now` at `instant`: by the middle of what is possible.
    pub(super) fn ahead_us(&self, instant: Instant, now: UnixMicros) -> i64 {
        let middle = self.least.midpoint(self.most);
        self.since(instant).saturating_add(middle).saturating_sub(now.0 as i64)
    }

    fn since(&self, instant: Instant) -> i64 {
        match instant.checked_duration_since(self.anchor) {
            Some(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX / 2),
            None => -i64::try_from((self.anchor - instant).as_micros()).unwrap_or(i64::MAX / 2),
        }
    }
}

#[cfg(test)]
mod tests;
