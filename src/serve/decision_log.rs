//! Writes the decision log: a thread of its own, so that a disk that is slow or full costs lines and never a decision.

mod file;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write as _},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::file::LogFile;
use super::tasks::Tasks;
use crate::{
    clock::{self, log_throttle::LogThrottle},
    limiter::decision_feed::{DecisionFeed, LogLines},
    metrics::Metrics,
    settings::DecisionLogSettings,
};

/// How often lines are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bytes that are written at once, about.
const BATCH_BYTES: usize = 256 << 10;

/// A decision log that is open and isn't written yet.
pub(super) struct DecisionLog {
    lines: LogLines,
    sink: Sink,
}

enum Sink {
    Stdout,
    File(LogFile),
}

impl DecisionLog {
    pub(super) fn open(settings: &DecisionLogSettings, lines: LogLines) -> io::Result<DecisionLog> {
        let sink = match &settings.file {
            None => Sink::Stdout,
            Some(path) => Sink::File(LogFile::open(path, settings.bytes_max, settings.keep)?),
        };
        Ok(DecisionLog { lines, sink })
    }

    /// Writes until the process stops, and then what is left.
    pub(super) fn start(self, feed: Arc<DecisionFeed>, metrics: Arc<Metrics>, tasks: &Tasks) -> anyhow::Result<()> {
        let (ended, end) = oneshot::channel::<()>();
        let stop = tasks.stopping().clone();
        let writer = Writer { log: self, feed, metrics, slow_before: 0, refused: LogThrottle::default() };
        thread::Builder::new().name("decision-log".into()).spawn(move || {
            writer.run(&stop);
            drop(ended);
        })?;
        tasks.spawn_to_finish("the decision log", async move {
            let _ = end.await;
        });
        Ok(())
    }
}

struct Writer {
    log: DecisionLog,
    feed: Arc<DecisionFeed>,
    metrics: Arc<Metrics>,
    /// Lines lost in the queue that were counted.
    slow_before: u64,
    refused: LogThrottle,
}

impl Writer {
    fn run(mut self, stop: &CancellationToken) {
        loop {
            let is_last = stop.is_cancelled();
            while self.write_batch() {}
            let slow = self.feed.log_lines_lost();
            self.metrics.decision_log.slow.increment(slow - self.slow_before);
            self.slow_before = slow;
            if is_last {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Writes lines that wait; whether there were any.
    fn write_batch(&mut self) -> bool {
        let (mut batch, mut lines) = (Vec::new(), 0);
        while batch.len() < BATCH_BYTES
            && let Some(line) = self.log.lines.next()
        {
            batch.extend_from_slice(line.as_bytes());
            lines += 1;
        }
        if lines == 0 {
            return false;
        }
        let counts = &self.metrics.decision_log;
        match self.log.sink.write(&batch) {
            Ok(()) => counts.written.increment(lines),
            Err(error) => {
                counts.unwritable.increment(lines);
                if self.refused.is_due(clock::now()) {
                    warn!(%error, "can't write the decision log: its lines are lost until it can be written again");
                }
            }
        }
        true
    }
}

impl Sink {
    /// Whole lines, all or none where that can be had.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Sink::File(file) => file.write(lines),
            Sink::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
        }
    }
}
