//! Polling: how this replica learns which domains were written to, when no message says so. `sync` knows how one domain is
//! brought up to date, `redis/announcements` how the stream is read.
//!
//! A write changes its domain, publishes a message, and then is *announced* in a stream that all domains share. Each second
//! a replica reads that stream from where it was, which is one read however many domains there are, and looks at the
//! domains that it names. Domain and stream can't be changed in one step, since they may lie in two slots of a Cluster. So
//! an announcement may be missing; that is found without it:
//!
//! | an announcement is missing because | found by |
//! |---|---|
//! | its author ended between the two, or may not write the stream | each poll looks at one domain in turn; whoever finds a write there announces it to all others |
//! | its author is of a release that announces nothing | while such a replica is alive (`store::redis::Presence`), each poll looks at all domains, as those releases do |
//! | Redis lost the stream (FLUSHALL, a failover), or this replica missed more than are kept | this replica's position isn't in the stream: it looks at all domains once |
//! | the stream can't be read | each poll looks at all domains |
//!
//! A look at all domains is spread: [`LOOKS_AT_ONCE`] in [`LOOKS_PAUSE`].

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::Rng as _;
use tokio::{sync::Notify, time};
use tracing::warn;

use super::{
    Overrides,
    redis::{Announcements, RedisStorage},
};
use crate::{clock, limit::UnixMicros, store::StoreError};

/// Time between polls.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Domains that are looked at together where all are, and the time until the next ones.
const LOOKS_AT_ONCE: usize = 50;
const LOOKS_PAUSE: Duration = Duration::from_millis(50);

/// Domains that one announcement names at most, and the time between two announcements of a replica: an import writes
/// thousands of rows a second, and needs no more of them for it.
const ANNOUNCED_AT_ONCE: usize = 100;
const ANNOUNCEMENT_PAUSE: Duration = Duration::from_millis(50);

/// What polling and the tasks of the domains know of each other.
#[derive(Default)]
pub(super) struct Polling {
    /// Writes that are yet to be announced: the domain, and the generation of the last one.
    unannounced: Mutex<HashMap<Arc<str>, u64>>,
    has_unannounced: Notify,
    /// Domains that are looked at in the next moments.
    due: Mutex<VecDeque<Arc<str>>>,
    is_due: Notify,
    /// Wakes the poll before its time.
    soon: Notify,
    /// Whether the stream's position is known, so that whatever is read of a domain from now on is at least as new.
    has_begun: AtomicBool,
    /// Whether every live replica announces its writes.
    all_announce: AtomicBool,
    /// The last poll that told which domains were written to, by this process' clock in µs; 0 before the first.
    polled: AtomicU64,
    /// Domains of which this replica knows that it doesn't have all.
    behind: Mutex<HashSet<Arc<str>>>,
}

/// How to wake the task of a domain.
#[derive(Default)]
pub(super) struct DomainWake {
    notify: Notify,
    /// It is looked at because it is its turn: what is found was not announced.
    is_turn: AtomicBool,
}

impl DomainWake {
    pub(super) fn wake(&self) {
        self.notify.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether it was woken because it was its turn; asked once.
    pub(super) fn take_turn(&self) -> bool {
        self.is_turn.swap(false, Relaxed)
    }
}

impl Polling {
    pub(super) fn soon(&self) {
        self.soon.notify_one();
    }

    pub(super) fn behind(&self) -> Vec<Arc<str>> {
        self.behind.lock().iter().cloned().collect()
    }

    pub(super) fn falls_behind(&self, domain: &Arc<str>) {
        self.behind.lock().insert(Arc::clone(domain));
    }

    pub(super) fn caught_up(&self, domain: &str) {
        self.behind.lock().remove(domain);
    }

    /// The last moment at which a domain was known to be up to date, if its task last knew that at `synced`.
    pub(super) fn known_at(&self, domain: &str, synced: UnixMicros) -> UnixMicros {
        if self.behind.lock().contains(domain) { synced } else { synced.max(UnixMicros(self.polled.load(Relaxed))) }
    }

    /// A new domain, which is behind until its first look.
    pub(super) fn begin(&self, domain: &Arc<str>) {
        self.falls_behind(domain);
        // Before the first poll its position isn't known, and that poll has all domains looked at.
        if self.has_begun.load(Relaxed) {
            self.look_at([Arc::clone(domain)]);
        }
    }

    /// Has domains looked at, each once.
    fn look_at(&self, domains: impl IntoIterator<Item = Arc<str>>) {
        let mut due = self.due.lock();
        let known: HashSet<Arc<str>> = due.iter().cloned().collect();
        due.extend(domains.into_iter().filter(|domain| !known.contains(domain)));
        drop(due);
        self.is_due.notify_one();
    }
}

impl Overrides {
    /// Notes whether every live replica announces its writes. Until that is known, and while it isn't so, each poll looks
    /// at every domain.
    pub fn all_announce(&self, all: bool) {
        self.polling.all_announce.store(all, Relaxed);
    }

    /// Has other replicas told of a write to a domain, soon.
    pub(super) fn announce(&self, domain: &str, generation: u64) {
        let mut unannounced = self.polling.unannounced.lock();
        let last = unannounced.entry(domain.into()).or_default();
        *last = generation.max(*last);
        drop(unannounced);
        self.polling.has_unannounced.notify_one();
    }

    /// Announces writes. What fails is tried again.
    pub(super) async fn keep_announcing(&self, remote: &RedisStorage) {
        let mut said = false;
        loop {
            let some: Vec<(Arc<str>, u64)> = {
                let mut unannounced = self.polling.unannounced.lock();
                let names: Vec<Arc<str>> = unannounced.keys().take(ANNOUNCED_AT_ONCE).cloned().collect();
                names.iter().filter_map(|name| unannounced.remove_entry(name)).collect()
            };
            if some.is_empty() {
                self.polling.has_unannounced.notified().await;
                continue;
            }
            let named: Vec<(&str, u64)> = some.iter().map(|(domain, generation)| (&**domain, *generation)).collect();
            match remote.announce(&named).await {
                Ok(_) => {
                    said = false;
                    time::sleep(ANNOUNCEMENT_PAUSE).await;
                }
                Err(error) => {
                    if !said {
                        warn!(%error, "can't announce a write of run-time overrides: replicas that miss its message find it when they look at its domain");
                        said = true;
                    }
                    named.iter().for_each(|(domain, generation)| self.announce(domain, *generation));
                    time::sleep(POLL_EVERY).await;
                }
            }
        }
    }

    /// Wakes the tasks of domains that are due, a few at a time.
    pub(super) async fn look_at_due(&self) {
        loop {
            let some: Vec<Arc<str>> = {
                let mut due = self.polling.due.lock();
                let count = due.len().min(LOOKS_AT_ONCE);
                due.drain(..count).collect()
            };
            if some.is_empty() {
                self.polling.is_due.notified().await;
                continue;
            }
            some.iter().for_each(|domain| self.wake(domain));
            time::sleep(LOOKS_PAUSE).await;
        }
    }

    /// Reads announcements, regularly and when told to.
    pub(super) async fn poll(&self, remote: &RedisStorage) {
        // Replicas take their turns in different orders, so that together they have soon looked at all domains.
        let mut poller =
            Poller { overrides: self, remote, position: None, turn: rand::rng().random_range(0..1 << 20), said: false };
        loop {
            if remote.is_up() {
                poller.poll().await;
            }
            // A random pause, so that replicas that started together don't ask together.
            let _ = time::timeout(pause(), self.polling.soon.notified()).await;
        }
    }
}

/// Time until the next poll, or until what failed is tried again.
pub(super) fn pause() -> Duration {
    POLL_EVERY.mul_f64(rand::rng().random_range(0.8..1.2))
}

struct Poller<'a> {
    overrides: &'a Overrides,
    remote: &'a RedisStorage,
    /// The last announcement that was read; `None` before the first read.
    position: Option<String>,
    turn: usize,
    /// Each change of state is logged once.
    said: bool,
}

impl Poller<'_> {
    async fn poll(&mut self) {
        let polling = &self.overrides.polling;
        match self.read().await {
            Ok(()) => {
                self.said = false;
                self.look_in_turn();
                let has_stream = self.position.as_deref().is_some_and(Announcements::is_there);
                if !has_stream && self.overrides.has_read_rows() {
                    // They are of an older release, or Redis has lost both within a second. The stream is made, and this
                    // replica's position is its beginning, so that from now on its loss is seen, even if somebody makes
                    // another before the next poll. What was written before it is found by looking. A failure is tried
                    // again by the next poll.
                    if let Ok(beginning) = self.remote.announce(&[]).await {
                        self.position = Some(beginning);
                    }
                    self.look_at_all();
                }
            }
            Err(error) => {
                if !self.said {
                    warn!(%error, "can't ask Redis which run-time overrides have changed: the last known ones stay in force");
                    self.said = true;
                }
                if matches!(error, StoreError::Refused(_)) {
                    polling.has_begun.store(true, Relaxed);
                    self.look_at_all();
                }
            }
        }
    }

    /// Reads all announcements since the last time, and has the domains looked at that they name.
    async fn read(&mut self) -> Result<(), StoreError> {
        let polling = &self.overrides.polling;
        let asked = clock::now();
        loop {
            let Announcements { domains, position, is_all } = self.remote.announced(self.position.as_deref()).await?;
            self.position = Some(position);
            polling.has_begun.store(true, Relaxed);
            match domains {
                Some(domains) => {
                    domains.iter().for_each(|(domain, generation)| self.overrides.hear(domain, *generation))
                }
                None => {
                    self.overrides.domains.borrow().iter().for_each(|domain| polling.falls_behind(domain));
                    self.look_at_all();
                }
            }
            if is_all {
                polling.polled.store(asked.0, Relaxed);
                return Ok(());
            }
        }
    }

    fn look_in_turn(&mut self) {
        let domains = Arc::clone(&self.overrides.domains.borrow());
        if !self.overrides.polling.all_announce.load(Relaxed) {
            self.look_at_all();
        } else if let Some(domain) = domains.get(self.turn % domains.len().max(1)) {
            self.turn = self.turn.wrapping_add(1);
            if let Some(wake) = self.overrides.wakes.lock().get(domain) {
                wake.is_turn.store(true, Relaxed);
                wake.wake();
            }
        }
    }

    fn look_at_all(&self) {
        let domains = Arc::clone(&self.overrides.domains.borrow());
        self.overrides.polling.look_at(domains.iter().cloned());
    }
}

impl Overrides {
    /// Has a domain looked at that was announced, unless this replica knows of that write.
    fn hear(&self, domain: &str, generation: u64) {
        if self.known(domain).generation >= generation {
            return;
        }
        let wakes = self.wakes.lock();
        if let Some((domain, wake)) = wakes.get_key_value(domain) {
            self.polling.falls_behind(domain);
            wake.wake();
        }
    }

    fn has_read_rows(&self) -> bool {
        self.sets.lock().values().any(|set| set.generation > 0)
    }
}
