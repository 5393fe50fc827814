//! Polls for a reply instead of sleeping until it comes, because waking a sleeping core takes as long as Redis takes
//! for a few requests. This is worth it only if the core has nothing else to do and Redis is near. So a large batch
//! isn't polled for, several replies in a row that don't come in time end it for a while, and it never takes more than
//! a share of a core, because a core that looks busy is a reason to start more of them.

use std::time::{Duration, Instant};

use tokio::task::yield_now;

use crate::clock;

/// Longest time to poll for one reply. A Redis that takes longer isn't near, and one that falls silent would be polled
/// for all of it.
pub const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

/// Largest batch that is polled for: with more requests the core has others to answer meanwhile.
const REQUESTS_MAX: usize = 4;

/// Polling takes at most one part in so many of a core's time.
const SHARE: u32 = 5;

/// Number of windows that a core may save up.
const SAVED_MAX: u32 = 8;

/// Number of replies in a row that were polled for in vain, which means that Redis is too far away.
const VAIN_MAX: u32 = 4;

/// Number of batches that are then not polled for, before one is again.
const RESTS: u32 = 255;

pub(super) struct BusyPoll {
    /// Longest time to poll for a reply.
    window: Duration,
    /// Since when it polls, if it does.
    since: Option<Instant>,
    /// Time that may be spent, and when it was last added to.
    saved: Duration,
    saved_at: Instant,
    vain: u32,
    rests: u32,
}

impl BusyPoll {
    /// A window of 0 never polls; one above [`BUSY_POLL_MAX`] counts as that.
    pub(super) fn new(window: Duration, now: Instant) -> BusyPoll {
        let window = window.min(BUSY_POLL_MAX);
        BusyPoll { window, since: None, saved: window, saved_at: now, vain: 0, rests: 0 }
    }

    /// Notes that a batch of so many requests leaves.
    pub(super) fn sent(&mut self, requests: usize, now: Instant) {
        self.ended(now);
        if self.window.is_zero() || requests > REQUESTS_MAX {
            return;
        }
        if self.rests > 0 {
            self.rests -= 1;
            return;
        }
        let earned = now.saturating_duration_since(self.saved_at) / SHARE;
        (self.saved, self.saved_at) = ((self.saved + earned).min(self.window * SAVED_MAX), now);
        if self.saved >= self.window {
            self.since = Some(now);
        }
    }

    /// Notes that the reply is there.
    pub(super) fn answered(&mut self, now: Instant) {
        if self.ended(now) {
            self.vain = 0;
        }
    }

    /// Notes that the window is over without a reply.
    pub(super) fn was_in_vain(&mut self, now: Instant) {
        if self.ended(now) {
            self.vain += 1;
        }
        if self.vain >= VAIN_MAX {
            // The next reply in vain is enough.
            (self.vain, self.rests) = (VAIN_MAX - 1, RESTS);
        }
    }

    /// Ends polling. Returns whether it was polling.
    fn ended(&mut self, now: Instant) -> bool {
        let Some(since) = self.since.take() else { return false };
        self.saved = self.saved.saturating_sub(now.saturating_duration_since(since));
        true
    }

    pub(super) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Polls until the window is over. Every other task goes first, and the sockets are polled before each further look
    /// at the clock, so that only the sleep is left out.
    pub(super) async fn watch(&self) {
        while self.since.is_some_and(|since| clock::instant() < since + self.window) {
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_micros(500);
    const PAUSE: Duration = Duration::from_secs(1);

    fn begun() -> (BusyPoll, Instant) {
        let now = clock::instant();
        (BusyPoll::new(WINDOW, now), now)
    }

    #[test]
    fn a_few_requests_are_watched_until_their_answer() {
        let (mut poll, now) = begun();
        assert!(!poll.is_on(), "nothing has left");
        poll.sent(REQUESTS_MAX, now);
        assert!(poll.is_on());
        poll.answered(now);
        assert!(!poll.is_on());
    }

    #[test]
    fn many_requests_are_not_watched() {
        let (mut poll, now) = begun();
        poll.sent(1, now);
        poll.sent(REQUESTS_MAX + 1, now);
        assert!(!poll.is_on());
    }

    #[test]
    fn without_a_window_nothing_is_watched() {
        let (_, now) = begun();
        let mut poll = BusyPoll::new(Duration::ZERO, now);
        poll.sent(1, now + PAUSE);
        assert!(!poll.is_on());
    }

    #[test]
    fn the_longest_window_is_one_of_milliseconds() {
        let (_, now) = begun();
        let mut poll = BusyPoll::new(Duration::MAX, now);
        poll.sent(1, now);
        poll.was_in_vain(now + BUSY_POLL_MAX);
        poll.sent(1, now + BUSY_POLL_MAX);
        assert!(!poll.is_on(), "what may be spent is spent");
    }

    #[test]
    fn where_answers_keep_coming_too_late_it_rests_then_tries_once() {
        let (mut poll, mut now) = begun();
        let mut ask = |poll: &mut BusyPoll| {
            now += PAUSE;
            poll.sent(1, now);
            let is_on = poll.is_on();
            poll.was_in_vain(now);
            is_on
        };
        assert!((0..VAIN_MAX).all(|_| ask(&mut poll)));
        for _ in 0..2 {
            assert!(!(0..RESTS).any(|_| ask(&mut poll)));
            assert!(ask(&mut poll));
        }
    }

    #[test]
    fn an_answer_in_time_forgives_those_that_were_late() {
        let (mut poll, mut now) = begun();
        for batch in 0..10 * VAIN_MAX {
            now += PAUSE;
            poll.sent(1, now);
            assert!(poll.is_on(), "batch {batch}");
            if batch % VAIN_MAX == 0 {
                poll.answered(now);
            } else {
                poll.was_in_vain(now);
            }
        }
    }

    #[test]
    fn it_takes_no_more_than_its_share_of_a_core() {
        let (mut poll, start) = begun();
        let (mut now, mut watched) = (start, Duration::ZERO);
        // A batch is always under way.
        for _ in 0..10_000 {
            poll.sent(1, now);
            let took = Duration::from_micros(100);
            watched += if poll.is_on() { took } else { Duration::ZERO };
            now += took;
            poll.answered(now);
        }
        let share = watched.as_secs_f64() / (now - start).as_secs_f64();
        assert!((0.19..=0.21).contains(&share), "{share}");
    }

    #[tokio::test]
    async fn watching_ends_with_the_window_and_lets_others_go_first() {
        let (mut poll, now) = begun();
        poll.sent(1, now);
        let other = tokio::spawn(async { clock::instant() });
        poll.watch().await;
        let ended = clock::instant();
        assert!(ended >= now + WINDOW);
        assert!(other.await.expect("it has no reason to panic") < ended);
    }
}
