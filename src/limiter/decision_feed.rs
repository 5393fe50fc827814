//! Decisions for those who want to see them one by one: watches (`tollgate tail`) and the decision log. A decision costs
//! one load where nobody does. Whoever is slow loses lines, which are counted; no decision ever waits. It knows no file,
//! no connection and no clock.

mod line;
mod sample;
mod watch;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use watch::DecisionWatch;

use self::{line::encode, sample::Sampler};
use super::{
    decision::Decision,
    fallback::Policies,
    plan::{Plan, PlannedDescriptor},
};
use crate::{
    limit::{LogSample, Reading, Request, UnixMicros},
    privacy::Privacy,
    rules::Rule,
    store::Role,
};

/// Lines that wait for the decision log.
const WAITING_LINES_MAX: usize = 16_384;

/// Bytes of these.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The version of the decision log's lines.
pub const LOG_VERSION: u32 = 1;

/// What a request was answered, and why. Its log line is made of it.
pub(super) struct Decided<'a, 'r, 'p> {
    pub request: &'a Request<'r>,
    pub plan: &'a Plan<'p>,
    /// `None` where the failure policy `error` answered.
    pub outcome: Option<Outcome<'a>>,
    pub rules_version: u64,
    /// By the fleet's clock, so that lines of several replicas can be put in order.
    pub at: UnixMicros,
}

#[derive(Clone, Copy)]
pub(super) struct Outcome<'a> {
    pub decision: &'a Decision,
    pub readings: &'a [Reading],
    /// One for each check if the store failed, else none.
    pub policies: &'a Policies,
}

impl Decided<'_, '_, '_> {
    /// The rule of a descriptor.
    fn rule(&self, descriptor: usize) -> Option<&Rule> {
        match self.plan.descriptors.get(descriptor) {
            Some(PlannedDescriptor::Ruled { rule, .. }) => Some(rule),
            _ => None,
        }
    }

    /// Whether the check at `index` is refused, and whether that doesn't count.
    fn refusal(&self, index: usize) -> Option<Refused> {
        let reading = self.outcome?.readings.get(index)?;
        let is_shadow = self.plan.gate.never_deny || self.plan.checks[index].role == Role::Shadow;
        (!reading.admitted).then_some(if is_shadow { Refused::Shadow } else { Refused::Denied })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    Denied,
    /// Of a limit that isn't enforced.
    Shadow,
}

/// Where decisions go that somebody wants to see. There is one in the process.
pub struct DecisionFeed {
    is_wanted: AtomicBool,
    watches: ArcSwap<Vec<Arc<DecisionWatch>>>,
    /// Held by those who change the watches.
    changing: Mutex<()>,
    log: Option<LogQueue>,
    privacy: Privacy,
    replica: OnceLock<Box<str>>,
}

/// The decision log's side of the queue: lines in the order in which they were decided.
pub struct LogLines {
    lines: Receiver<Box<str>>,
    waiting_bytes: Arc<AtomicUsize>,
}

struct LogQueue {
    sampler: Sampler,
    lines: SyncSender<Box<str>>,
    waiting_bytes: Arc<AtomicUsize>,
    lost: AtomicU64,
}

impl DecisionFeed {
    /// A feed that nobody wants yet. Values are shown as `privacy` allows.
    pub fn new(privacy: Privacy) -> DecisionFeed {
        DecisionFeed {
            is_wanted: AtomicBool::new(false),
            watches: ArcSwap::default(),
            changing: Mutex::new(()),
            log: None,
            privacy,
            replica: OnceLock::new(),
        }
    }

    /// A feed with a decision log of this `sample`, and the lines to be written there.
    pub fn with_log(privacy: Privacy, sample: LogSample) -> (DecisionFeed, LogLines) {
        let (sender, lines) = sync_channel(WAITING_LINES_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let sampler = Sampler::new(sample);
        let queue =
            LogQueue { sampler, lines: sender, waiting_bytes: Arc::clone(&waiting_bytes), lost: AtomicU64::new(0) };
        let feed = DecisionFeed { log: Some(queue), is_wanted: AtomicBool::new(true), ..DecisionFeed::new(privacy) };
        (feed, LogLines { lines, waiting_bytes })
    }

    /// Names this replica, once, in the lines from now on.
    pub fn name_replica(&self, name: &str) {
        let _ = self.replica.set(name.into());
    }

    /// How values are shown.
    pub fn privacy(&self) -> &Privacy {
        &self.privacy
    }

    /// Begins to fill a watch, until [`DecisionFeed::end`].
    pub fn begin(&self, watch: Arc<DecisionWatch>) {
        self.change(|watches| watches.push(watch));
    }

    /// As [`DecisionFeed::begin`], unless there are `most` watches here already.
    pub fn begin_one_of(&self, watch: Arc<DecisionWatch>, most: usize) -> bool {
        let mut is_begun = false;
        self.change(|watches| {
            is_begun = watches.len() < most;
            if is_begun {
                watches.push(watch);
            }
        });
        is_begun
    }

    /// Ends the watch with this id, if there is one.
    pub fn end(&self, id: &str) {
        self.change(|watches| watches.retain(|watch| watch.id() != id));
    }

    /// The watches that are being filled.
    pub fn watches(&self) -> Arc<Vec<Arc<DecisionWatch>>> {
        self.watches.load_full()
    }

    /// Lines that the decision log lost because it was slower than decisions.
    pub fn log_lines_lost(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.lost.load(Relaxed))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<DecisionWatch>>)) {
        let _changing = self.changing.lock();
        let mut watches = Vec::clone(&self.watches.load());
        change(&mut watches);
        self.is_wanted.store(self.log.is_some() || !watches.is_empty(), Relaxed);
        self.watches.store(Arc::new(watches));
    }

    /// Whether anybody wants to see decisions.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Relaxed)
    }

    /// Hands a decision to all who want it.
    #[cold]
    pub(super) fn tell(&self, decided: &Decided<'_, '_, '_>) {
        let sampled = self.log.as_ref().and_then(|log| log.sampler.sample(decided));
        let watches = self.watches.load();
        let mut watching = watches.iter().filter(|watch| watch.admits(decided, &self.privacy) && watch.has_room());
        let first = watching.next();
        if sampled.is_none() && first.is_none() {
            return;
        }
        let line = encode(decided, self.replica.get().map_or("", |name| name), &self.privacy);
        for watch in first.into_iter().chain(watching) {
            watch.add(&line);
        }
        if let (Some(log), Some(sample)) = (&self.log, sampled) {
            log.push(sample.log_line(&line));
        }
    }
}

impl LogQueue {
    fn push(&self, line: Box<str>) {
        let bytes = line.len();
        if self.waiting_bytes.load(Relaxed) + bytes > WAITING_BYTES_MAX {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        // Counted before it can be taken.
        self.waiting_bytes.fetch_add(bytes, Relaxed);
        if self.lines.try_send(line).is_err() {
            self.waiting_bytes.fetch_sub(bytes, Relaxed);
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl LogLines {
    /// The next line, if one waits. It never blocks: a receiver that slept would have to be woken by a decision.
    pub fn next(&self) -> Option<Box<str>> {
        match self.lines.try_recv() {
            Ok(line) => {
                self.waiting_bytes.fetch_sub(line.len(), Relaxed);
                Some(line)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }
}
