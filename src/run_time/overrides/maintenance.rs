//! The background tasks: one for each domain that keeps its overrides up to date with Redis, and one that removes rows
//! which ended a while ago. `poll` knows when a domain must be looked at, `sync` how it is brought up to date.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time,
};
use tracing::warn;

use super::{
    DomainStats, Overrides, ResolvedOverride, Storage,
    poll::{DomainWake, pause},
    redis::RedisStorage,
    set::SetChange,
    sync::DomainSync,
};
use crate::{clock, limit::UnixMicros, run_time::fleet::CALL, store::redis::ChannelEvent};

/// Time between removals of ended rows, and how many are removed at once.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const SWEPT_AT_ONCE: usize = 100;

/// Rows that are read again at once, while writes wait.
const READ_AT_ONCE: usize = 500;

/// Time in µs for which an override that has ended can still be read.
const ENDED_STAYS: u64 = 3_600 * 1_000_000;

impl Overrides {
    /// Keeps the rows of all domains with rules up to date. `heard` has the events of the channel. Never ends.
    pub async fn run(self: Arc<Self>, heard: Option<mpsc::UnboundedReceiver<ChannelEvent>>) {
        let keeping = async {
            match (&self.storage, heard) {
                (Storage::Redis(remote), Some(heard)) => {
                    let asking =
                        async { tokio::join!(self.poll(remote), self.look_at_due(), self.keep_announcing(remote)) };
                    tokio::join!(self.keep_up_with(remote, heard), asking, self.sweep_redis(remote));
                }
                _ => self.sweep_local().await,
            }
        };
        tokio::join!(keeping, self.read_again());
    }

    /// Reads rows again whose limits mean something else after a reload: a part at a time, since there may be a
    /// million.
    async fn read_again(&self) {
        loop {
            self.is_stale.notified().await;
            let stale: Vec<Arc<str>> = self.stale.lock().drain(..).collect();
            for domain in stale {
                let mut after: Option<Box<str>> = None;
                loop {
                    let rows = self.rows_after(&domain, after.as_deref(), READ_AT_ONCE);
                    let Some(last) = rows.last() else { break };
                    after = Some(last.id.clone());
                    self.read_rows_again(&domain, &rows);
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn read_rows_again(&self, domain: &str, rows: &[Arc<ResolvedOverride>]) {
        let mut sets = self.sets.lock();
        self.set(&mut sets, domain).read_again(domain, rows);
        self.publish(&mut sets, domain);
    }

    async fn keep_up_with(
        self: &Arc<Self>,
        remote: &Arc<RedisStorage>,
        mut heard: mpsc::UnboundedReceiver<ChannelEvent>,
    ) {
        let mut domains = self.domains.subscribe();
        let mut tasks = JoinSet::new();
        let mut kept: HashMap<Arc<str>, AbortHandle> = HashMap::new();
        loop {
            let wanted = Arc::clone(&domains.borrow_and_update());
            kept.retain(|domain, task| {
                let is_wanted = wanted.contains(domain);
                if !is_wanted {
                    task.abort();
                    self.forget(domain);
                }
                is_wanted
            });
            for domain in wanted.iter() {
                kept.entry(Arc::clone(domain)).or_insert_with(|| {
                    let wake = Arc::new(DomainWake::default());
                    self.wakes.lock().insert(Arc::clone(domain), Arc::clone(&wake));
                    // Redis may never be reached: then the age counts from now.
                    self.synced.lock().entry(Arc::clone(domain)).or_insert_with(clock::now);
                    self.polling.begin(domain);
                    let (overrides, remote) = (Arc::clone(self), Arc::clone(remote));
                    tasks.spawn(keep_up(DomainSync { overrides, remote, domain: Arc::clone(domain) }, wake))
                });
            }
            tokio::select! {
                changed = domains.changed() => if changed.is_err() { return },
                news = heard.recv() => match news {
                    Some(news) => self.handle_event(&news),
                    None => return,
                },
            }
        }
    }

    fn handle_event(&self, news: &ChannelEvent) {
        match news {
            // Messages that were published while nothing listened are lost.
            ChannelEvent::Subscribed => {
                self.polling.soon();
                self.polling.behind().iter().for_each(|domain| self.wake(domain));
            }
            ChannelEvent::Unsubscribed => {}
            ChannelEvent::Message(message) => {
                if message == CALL {
                    return self.fleet_called.notify_one();
                }
                let domain = message.split(|byte| *byte == b'\n').next().unwrap_or_default();
                if let Ok(domain) = std::str::from_utf8(domain) {
                    self.wake(domain);
                }
            }
        }
    }

    /// Wakes the task of a domain.
    pub(super) fn wake(&self, domain: &str) {
        if let Some(wake) = self.wakes.lock().get(domain) {
            wake.wake();
        }
    }

    /// Drops a domain without rules from memory; its rows stay in the storage.
    fn forget(&self, domain: &str) {
        self.wakes.lock().remove(domain);
        self.synced.lock().remove(domain);
        self.polling.caught_up(domain);
        let mut sets = self.sets.lock();
        let gone = sets.remove(domain);
        self.publish(&mut sets, domain);
        drop(sets);
        // Dropping a million rows takes a while, so the lock is released before.
        drop(gone);
    }

    pub(super) fn up_to_date(&self, domain: &Arc<str>) {
        self.synced.lock().insert(Arc::clone(domain), clock::now());
        self.polling.caught_up(domain);
        self.read.lock().insert(Arc::clone(domain));
        self.syncs.send_modify(|looks| *looks += 1);
    }

    pub(super) fn lost(&self) {
        self.losses.fetch_add(1, Relaxed);
    }

    /// Number of times that Redis had lost rows which this replica knew.
    pub fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }

    /// Numbers of each domain that has something to report.
    pub fn shown(&self, now: UnixMicros) -> Vec<DomainStats> {
        let synced = self.synced.lock().clone();
        let sets = self.sets.lock();
        let wall = self.wall(now);
        let mut shown: Vec<DomainStats> = synced
            .keys()
            .chain(sets.keys().filter(|domain| !synced.contains_key(*domain)))
            .map(|domain| {
                let set = sets.get(domain);
                let age = synced.get(domain).map_or(0, |at| now.0.saturating_sub(self.polling.known_at(domain, *at).0));
                DomainStats {
                    domain: (&**domain).into(),
                    rows: set.map_or(0, |set| set.len()),
                    expired: set.map_or(0, |set| set.expired(wall)),
                    generation: set.map_or(0, |set| set.generation),
                    age: Duration::from_micros(age),
                }
            })
            .collect();
        shown.sort_by(|one, other| one.domain.cmp(&other.domain));
        shown
    }

    pub(super) fn ended(&self, domain: &str, by: UnixMicros, at_most: usize) -> Vec<(Box<str>, u64)> {
        self.sets.lock().get(domain).map_or_else(Vec::new, |set| set.ended(by, at_most))
    }

    /// Rows that ended so long ago that nobody needs them.
    pub(super) fn long_ended(&self, domain: &str) -> Vec<(Box<str>, u64)> {
        let now = self.wall(clock::now());
        self.ended(domain, UnixMicros(now.0.saturating_sub(ENDED_STAYS)), SWEPT_AT_ONCE)
    }

    /// Removes ended rows from Redis and from here. A failure is tried again the next time.
    async fn sweep_redis(self: &Arc<Self>, remote: &Arc<RedisStorage>) {
        loop {
            time::sleep(SWEEP_EVERY).await;
            let kept: Vec<Arc<str>> = self.wakes.lock().keys().cloned().collect();
            for domain in kept {
                let _ = DomainSync { overrides: Arc::clone(self), remote: Arc::clone(remote), domain }.sweep().await;
            }
        }
    }

    /// Removes ended rows of the local storage. No line is written for it: the journal leaves them out when it is next
    /// rewritten, and after a restart before that they end again.
    async fn sweep_local(&self) {
        loop {
            time::sleep(SWEEP_EVERY).await;
            let known: Vec<Arc<str>> = self.sets.lock().keys().cloned().collect();
            for domain in known {
                let gone = self.long_ended(&domain);
                self.apply(&domain, gone.into_iter().map(|(id, version)| SetChange::Gone(id, version)).collect());
            }
        }
    }
}

/// Brings a domain up to date whenever it is woken. What fails is tried again until it succeeds.
async fn keep_up(sync: DomainSync, wake: Arc<DomainWake>) {
    // Each change of state is logged once.
    let mut said = false;
    loop {
        wake.woken().await;
        let is_turn = wake.take_turn();
        let before = sync.overrides.known(&sync.domain).generation;
        loop {
            if sync.remote.is_up() {
                match sync.catch_up().await {
                    Ok(()) => break,
                    Err(error) => {
                        if !said {
                            warn!(domain = &*sync.domain, %error, "can't read run-time overrides from Redis: the last known ones stay in force");
                            said = true;
                        }
                        sync.overrides.polling.falls_behind(&sync.domain);
                    }
                }
            }
            let _ = time::timeout(pause(), wake.woken()).await;
        }
        said = false;
        sync.overrides.up_to_date(&sync.domain);
        let generation = sync.overrides.known(&sync.domain).generation;
        if is_turn && generation > before {
            sync.overrides.announce(&sync.domain, generation);
        }
    }
}
