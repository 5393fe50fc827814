//! Redis' clock as seen from here, learned from the time in each reply. It turns a deadline of ours into one that Redis
//! can check, and says when overrides end. No counter depends on it.

use tokio::time::Instant;

use crate::limit::UnixMicros;

/// Bounds on how far Redis' clock is ahead of the instants since `anchor`, in µs.
pub(super) struct RedisClock {
    anchor: Instant,
    least: i64,
    most: i64,
}

impl RedisClock {
    /// A clock that knows one time of Redis', and an instant before Redis was asked for it.
    pub(super) fn new((redis_now, asked): (u64, Instant)) -> RedisClock {
        RedisClock { anchor: asked, least: i64::MIN, most: redis_now as i64 }
    }

    /// Narrows the bounds by a reply: Redis read its clock between the two instants. If bounds contradict each other, a
    /// clock was set, and only the newest ones count.
    pub(super) fn learn(&mut self, redis_now: u64, sent: Instant, received: Instant) {
        let least = redis_now as i64 - self.since(received);
        let most = redis_now as i64 - self.since(sent);
        (self.least, self.most) = (self.least.max(least), self.most.min(most));
        if self.least > self.most {
            (self.least, self.most) = (least, most);
        }
    }

    /// `deadline` in µs by Redis' clock, rather late than early: early would refuse requests that could still be
    /// answered.
    pub(super) fn at(&self, deadline: Instant) -> u64 {
        self.since(deadline).saturating_add(self.most).max(1) as u64
    }

    /// How far Redis' clock is ahead of the clock that read `now` at `instant`, in µs: the middle of the bounds.
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
