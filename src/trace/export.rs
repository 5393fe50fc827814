//! The queue of finished spans, which leave in batches. A collector that can't be reached costs requests nothing: the
//! queue is bounded, and spans that don't fit are dropped and counted.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Record, TraceSettings, message,
    send::{ExportFailure, Sender},
};

/// Longest time that the process waits for a collector at its end, when all waiting spans are sent.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// First wait before a collector that can't be reached is tried again; doubled each time.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Numbers of spans by what became of them.
#[derive(Default)]
pub struct UnmatchedCounts {
    pub sent: AtomicU64,
    /// Spans that were dropped because the queue was full or the collector refused them.
    pub dropped: AtomicU64,
}

/// The queue of spans.
pub(super) struct SpanQueue {
    spans: Mutex<VecDeque<Record>>,
    is_batch: Notify,
    queue_max: usize,
    batch_max: usize,
    counts: UnmatchedCounts,
}

impl SpanQueue {
    pub(super) fn new(queue_max: usize, batch_max: usize) -> SpanQueue {
        let counts = UnmatchedCounts::default();
        SpanQueue { spans: Mutex::default(), is_batch: Notify::new(), queue_max, batch_max, counts }
    }

    pub(super) fn counts(&self) -> &UnmatchedCounts {
        &self.counts
    }

    pub(super) fn put(&self, span: Record) {
        let waiting = {
            let mut waiting = self.spans.lock();
            if waiting.len() >= self.queue_max {
                self.counts.dropped.fetch_add(1, Relaxed);
                return;
            }
            waiting.push_back(span);
            waiting.len()
        };
        if waiting == self.batch_max {
            self.is_batch.notify_one();
        }
    }

    fn take(&self) -> Vec<Record> {
        let mut waiting = self.spans.lock();
        let some = waiting.len().min(self.batch_max);
        waiting.drain(..some).collect()
    }
}

/// Sends the queued spans.
pub struct Exporter {
    queue: Arc<SpanQueue>,
    sender: Sender,
    resource: Vec<(String, String)>,
    delay: Duration,
    /// The message that couldn't be sent yet, and how many spans are in it.
    unsent: Option<(Bytes, u64)>,
    is_away: bool,
    has_refused: bool,
    wait: Duration,
}

impl Exporter {
    pub(super) fn new(queue: Arc<SpanQueue>, settings: &TraceSettings) -> Exporter {
        Exporter {
            queue,
            sender: Sender::new(settings.destination.clone()),
            resource: settings.resource.clone(),
            delay: settings.delay,
            unsent: None,
            is_away: false,
            has_refused: false,
            wait: WAIT_FIRST,
        }
    }

    /// Sends spans regularly until `stop`, and once more at the end, which takes at most two seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut next = Instant::now() + self.delay;
        loop {
            let is_last = tokio::select! {
                () = time::sleep_until(next) => false,
                () = self.queue.is_batch.notified(), if !self.is_away => false,
                () = stop.cancelled() => true,
            };
            if is_last {
                break;
            }
            // A stop must not wait for a collector that hangs.
            if stop.run_until_cancelled(self.send_all()).await.is_none() {
                break;
            }
            next = Instant::now() + if self.is_away { self.wait } else { self.delay };
        }
        if time::timeout(LAST_PATIENCE, self.send_all()).await.is_err() || self.unsent.is_some() {
            let unsent = self.unsent.as_ref().map_or(0, |(_, spans)| *spans) + self.queue.spans.lock().len() as u64;
            warn!(spans = unsent, "the last spans were dropped: the collector didn't take them in time");
        }
    }

    /// Sends until the queue is empty or the collector can't be reached. An interrupted message stays in `unsent`.
    async fn send_all(&mut self) {
        loop {
            if self.unsent.is_none() {
                let batch = self.queue.take();
                if batch.is_empty() {
                    return;
                }
                let spans = batch.len() as u64;
                self.unsent = Some((message::encode(&self.resource, batch), spans));
            }
            let Some((message, spans)) = self.unsent.clone() else { return };
            match self.sender.send(message).await {
                Ok(refused) => self.arrived(spans, refused.as_ref()),
                Err(ExportFailure::Refused(why)) => self.refused(spans, &why),
                Err(ExportFailure::Away(why)) => {
                    if !std::mem::replace(&mut self.is_away, true) {
                        let to = self.sender.to();
                        warn!(
                            collector = to,
                            error = why,
                            "can't send spans: retrying; spans beyond the queue's limit are dropped"
                        );
                        self.wait = WAIT_FIRST;
                    } else {
                        self.wait = (self.wait * 2).min(WAIT_MAX);
                    }
                    return;
                }
            }
            self.unsent = None;
            if std::mem::take(&mut self.is_away) {
                info!(collector = self.sender.to(), "spans are sent again");
            }
        }
    }

    /// The collector may still have refused some.
    fn arrived(&mut self, spans: u64, refused: Option<&ExportTracePartialSuccess>) {
        let rejected = refused.map_or(0, |refused| u64::try_from(refused.rejected_spans).unwrap_or(0)).min(spans);
        self.queue.counts.sent.fetch_add(spans - rejected, Relaxed);
        if let Some(refused) = refused.filter(|_| rejected > 0) {
            self.refused(rejected, &refused.error_message);
        }
    }

    /// Counts spans that the collector refused: trying again would not help.
    fn refused(&mut self, spans: u64, why: &str) {
        self.queue.counts.dropped.fetch_add(spans, Relaxed);
        if !std::mem::replace(&mut self.has_refused, true) {
            warn!(collector = self.sender.to(), spans, error = why, "the collector refused spans (logged once)");
        }
    }
}
