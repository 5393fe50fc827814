//! How far a replay is, on one line of a terminal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use super::report::text::number;
use crate::clock;

/// Requests between two looks at the clock.
const LOOK_EVERY: u64 = 16 << 10;

const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Characters of the bar.
const BAR: usize = 30;

pub(super) struct Progress {
    /// `None`: nobody looks.
    started: Option<Instant>,
    shown: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { started: io::stderr().is_terminal().then(clock::instant), shown: None }
    }

    /// Called for each request. `share` is how much of the logs was read, from 0 to 1, if that is known.
    #[inline]
    pub(super) fn played(&mut self, requests: u64, share: impl FnOnce() -> Option<f64>) {
        if let Some(started) = self.started.filter(|_| requests.is_multiple_of(LOOK_EVERY)) {
            self.show(requests, started, share());
        }
    }

    fn show(&mut self, requests: u64, started: Instant, share: Option<f64>) {
        let now = clock::instant();
        if self.shown.is_some_and(|shown| now - shown < SHOW_EVERY) {
            return;
        }
        self.shown = Some(now);
        let a_second = requests as f64 / (now - started).as_secs_f64().max(1e-3);
        let line = line(requests, a_second as u64, share);
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
    }

    /// Clears the line.
    pub(super) fn end(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(requests: u64, a_second: u64, share: Option<f64>) -> String {
    let played = format!("{} requests, {} a second", number(requests), number(a_second));
    match share {
        None => played,
        Some(share) => {
            let full = ((share.min(1.0) * BAR as f64) as usize).min(BAR);
            let bar = "█".repeat(full) + &"░".repeat(BAR - full);
            format!("{bar} {:>3.0} %  {played}", 100.0 * share.min(1.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_line_has_a_bar_where_the_length_is_known() {
        assert_eq!(line(16_384, 500_000, None), "16,384 requests, 500,000 a second");
        let half = format!("{}{}  50 %  1 requests, 2 a second", "█".repeat(15), "░".repeat(15));
        assert_eq!(line(1, 2, Some(0.5)), half);
    }
}
