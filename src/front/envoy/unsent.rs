//! Answers that clients have not read yet: their bytes are limited for each connection and each core, and so is their
//! age. An answer counts from the moment it is made until its last byte is on its way, or its stream is gone. Knows
//! connections as numbers and tokens, not as sockets.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bytes of a stream whose answer waits, besides the answer: 1,600 were measured.
const STREAM_BYTES: u64 = 2_048;

/// Largest number of bytes of one connection: as many streams as it may have, with twice the bytes of a stream.
const CONNECTION_BYTES_MAX: u64 = 16 << 20;

/// Largest number of bytes of all connections of a core.
const CORE_BYTES_MAX: u64 = 64 << 20;

/// Number of steps in the timeout. An answer is overdue after one more step, so its age is known to one step.
const STEPS: u32 = 4;

/// Answers are counted by the step in which they were made; overdue ones end their connection before a place comes again.
const PLACES: usize = 8;

/// An answer is counted in the upper bits of a number, and its bytes in the lower ones.
const ONE: u64 = 1 << 40;

/// An answer that most have room in without a second allocation.
const USUAL_BYTES: usize = 128;

/// The unsent answers of one core's connections.
pub struct CoreAnswers {
    step: AtomicUsize,
    bytes: AtomicU64,
    /// Number of answers made, by which the connection that has waited longest is found.
    made: AtomicU64,
    connections: Mutex<Vec<Arc<ConnectionAnswers>>>,
    registered: Notify,
    timeout: Duration,
}

/// The unsent answers of one connection.
pub struct ConnectionAnswers {
    core: Arc<CoreAnswers>,
    by_step: [AtomicU64; PLACES],
    /// The core's number of answers when it last had none.
    none_until: AtomicU64,
    is_over: AtomicBool,
    /// Cancelled to ask the connection to close, as at the end of the process; a second token ends it even if it is
    /// closing.
    close: CancellationToken,
    end: CancellationToken,
}

/// One connection's part of its core, until it is dropped.
pub struct RegisteredConnection(Arc<ConnectionAnswers>);

/// An answer's share of both, until it is dropped.
struct UnsentShare {
    of: Arc<ConnectionAnswers>,
    bytes: u64,
    place: u8,
}

/// An answer's bytes, and their share. The h2 library drops them once they are on their way.
struct Unsent {
    bytes: SmallVec<[u8; USUAL_BYTES]>,
    _share: Option<UnsentShare>,
}

/// Bytes of another service's answer.
struct OtherAnswer {
    bytes: Bytes,
    _share: Option<UnsentShare>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for OtherAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl CoreAnswers {
    /// `timeout` is how long an answer may wait.
    pub fn new(timeout: Duration) -> Arc<CoreAnswers> {
        let (step, bytes, made) = Default::default();
        Arc::new(CoreAnswers { step, bytes, made, connections: Mutex::default(), registered: Notify::new(), timeout })
    }

    /// A connection that is to go by `stop` at the latest.
    pub fn register(self: &Arc<CoreAnswers>, stop: &CancellationToken) -> RegisteredConnection {
        let answers = Arc::new(ConnectionAnswers {
            core: Arc::clone(self),
            by_step: Default::default(),
            none_until: AtomicU64::new(self.made.load(Relaxed)),
            is_over: AtomicBool::new(false),
            close: stop.child_token(),
            end: CancellationToken::new(),
        });
        self.connections.lock().push(Arc::clone(&answers));
        self.registered.notify_one();
        RegisteredConnection(answers)
    }

    /// Waits until there is a connection: without one there is nothing to step for.
    pub async fn in_use(&self) {
        while self.connections.lock().is_empty() {
            self.registered.notified().await;
        }
    }

    /// Period in which [`CoreAnswers::step`] must be called.
    pub fn pace(&self) -> Duration {
        self.timeout / STEPS
    }

    /// Ends the connections that have an answer which is overdue.
    pub fn step(&self) {
        let step = self.step.load(Relaxed).wrapping_add(1);
        self.step.store(step, Relaxed);
        // Made in the step before the last `STEPS` whole ones.
        let overdue = step.wrapping_sub(STEPS as usize + 1) % PLACES;
        for answers in &*self.connections.lock() {
            if answers.by_step[overdue].load(Relaxed) != 0 {
                answers.end();
            }
        }
    }

    /// Ends the connection that has gone longest without having sent all that it had.
    fn relieve(&self) {
        let connections = self.connections.lock();
        let holding = connections.iter().filter(|answers| !answers.is_over.load(Relaxed) && answers.sum() != 0);
        if let Some(oldest) = holding.min_by_key(|answers| answers.none_until.load(Relaxed)) {
            oldest.end();
        }
    }
}

impl ConnectionAnswers {
    /// For answers without a connection.
    pub(crate) fn detached() -> Arc<ConnectionAnswers> {
        let core = CoreAnswers::new(Duration::from_secs(1));
        Arc::clone(&core.register(&CancellationToken::new()).0)
    }

    /// Makes an answer of `length` bytes, which `write` writes.
    pub(super) fn answer(self: &Arc<ConnectionAnswers>, length: usize, write: impl FnOnce(&mut [u8])) -> Bytes {
        let mut bytes = SmallVec::from_elem(0, length);
        write(&mut bytes);
        Bytes::from_owner(Unsent { bytes, _share: self.share(length) })
    }

    /// Counts the bytes of another service's answer.
    pub(super) fn count_other(self: &Arc<ConnectionAnswers>, bytes: Bytes) -> Bytes {
        let share = self.share(bytes.len());
        Bytes::from_owner(OtherAnswer { bytes, _share: share })
    }

    /// The share of an answer; `None` if the connection is ending anyway.
    fn share(self: &Arc<ConnectionAnswers>, length: usize) -> Option<UnsentShare> {
        if self.is_over.load(Relaxed) {
            return None;
        }
        let core = &self.core;
        let permit = core.step.load(Relaxed) % PLACES;
        let bytes = STREAM_BYTES + length as u64;
        let made = core.made.fetch_add(1, Relaxed);
        let held = self.sum();
        if held == 0 {
            self.none_until.store(made, Relaxed);
        }
        self.by_step[permit].fetch_add(ONE + bytes, Relaxed);
        let in_all = core.bytes.fetch_add(bytes, Relaxed) + bytes;
        let share = UnsentShare { of: Arc::clone(self), bytes, place: permit as u8 };
        if held % ONE + bytes > CONNECTION_BYTES_MAX {
            self.end();
        } else if in_all > CORE_BYTES_MAX {
            core.relieve();
        }
        Some(share)
    }

    /// The number of answers in the upper bits, and their bytes.
    fn sum(&self) -> u64 {
        self.by_step.iter().map(|held| held.load(Relaxed)).sum()
    }

    /// Ends the connection. What it holds is as good as gone, or the next answer would end another one.
    fn end(&self) {
        if !self.is_over.swap(true, Relaxed) {
            self.core.bytes.fetch_sub(self.sum() % ONE, Relaxed);
            self.end.cancel();
            self.close.cancel();
        }
    }
}

impl RegisteredConnection {
    pub fn answers(&self) -> &Arc<ConnectionAnswers> {
        &self.0
    }

    /// Waits until the connection must close; [`RegisteredConnection::untaken`] says whether it must end at once.
    pub async fn close_requested(&self) {
        self.0.close.cancelled().await;
    }

    /// Waits until the connection must end at once.
    pub async fn end_requested(&self) {
        self.0.end.cancelled().await;
    }

    /// Number of answers that the client didn't take, if the connection ends because of them.
    pub fn untaken(&self) -> Option<u64> {
        self.0.is_over.load(Relaxed).then(|| (self.0.sum() / ONE).max(1))
    }
}

impl Drop for RegisteredConnection {
    fn drop(&mut self) {
        let mut connections = self.0.core.connections.lock();
        if let Some(at) = connections.iter().position(|answers| Arc::ptr_eq(answers, &self.0)) {
            connections.swap_remove(at);
        }
    }
}

impl Drop for UnsentShare {
    fn drop(&mut self) {
        self.of.by_step[usize::from(self.place)].fetch_sub(ONE + self.bytes, Relaxed);
        if !self.of.is_over.load(Relaxed) {
            self.of.core.bytes.fetch_sub(self.bytes, Relaxed);
        }
    }
}
