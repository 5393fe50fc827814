//! What goes on in the background: a task for each domain that keeps up with Redis, and the removal of rows that ended a
//! while ago. What keeping up means is the business of `sync`.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rand::Rng as _;
use tokio::{
    sync::{Notify, mpsc},
    task::{AbortHandle, JoinSet},
    time::{self, Instant},
};
use tracing::warn;

use super::{Home, Overrides, Row, Shown, redis::Remote, set::Change, sync::DomainSync};
use crate::{clock, limit::UnixMicros, store::redis::Heard};

/// How often a replica asks whether it missed news: pub/sub promises nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often rows that ended are looked for, and how many go at once.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const SWEPT_AT_ONCE: usize = 100;

/// Rows that are read again at once, while writes wait.
const READ_AT_ONCE: usize = 500;

/// For so long an override that has ended can still be looked at, in µs.
const ENDED_STAYS: u64 = 3_600 * 1_000_000;

impl Overrides {
    /// Keeps the rows of the domains that have rules up to date; `heard` is of the side that they are kept on. Never ends.
    pub async fn run(self: Arc<Self>, heard: Option<mpsc::UnboundedReceiver<Heard>>) {
        let keeping = async {
            match (&self.home, heard) {
                (Home::Redis(remote), Some(heard)) => self.keep_up_with(remote, heard).await,
                _ => self.sweep_here().await,
            }
        };
        tokio::join!(keeping, self.read_again());
    }

    /// Rows whose limits came to something else by a reload: a part at a time, since there may be a million.
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

    fn read_rows_again(&self, domain: &str, rows: &[Arc<Row>]) {
        let mut sets = self.sets.lock();
        self.set(&mut sets, domain).read_again(domain, rows);
        self.publish(&mut sets, domain);
    }

    async fn keep_up_with(self: &Arc<Self>, remote: &Arc<Remote>, mut heard: mpsc::UnboundedReceiver<Heard>) {
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
                    let wake = Arc::new(Notify::new());
                    self.wakes.lock().insert(Arc::clone(domain), Arc::clone(&wake));
                    // It may never be reached: then the age is that of this.
                    self.synced.lock().entry(Arc::clone(domain)).or_insert_with(clock::now);
                    let (overrides, remote) = (Arc::clone(self), Arc::clone(remote));
                    tasks.spawn(keep_up(DomainSync { overrides, remote, domain: Arc::clone(domain) }, wake))
                });
            }
            tokio::select! {
                changed = domains.changed() => if changed.is_err() { return },
                news = heard.recv() => match news {
                    Some(news) => self.hear(&news),
                    None => return,
                },
            }
        }
    }

    fn hear(&self, news: &Heard) {
        match news {
            // What was said while nobody listened is lost.
            Heard::Begun => self.wakes.lock().values().for_each(|wake| wake.notify_one()),
            Heard::Ended => {}
            Heard::Message(message) => {
                let domain = message.split(|byte| *byte == b'\n').next().unwrap_or_default();
                if let Ok(domain) = std::str::from_utf8(domain) {
                    self.wake(domain);
                }
            }
        }
    }

    /// Has a domain looked at now.
    pub(super) fn wake(&self, domain: &str) {
        if let Some(wake) = self.wakes.lock().get(domain) {
            wake.notify_one();
        }
    }

    /// A domain without rules costs no memory; its rows stay where they are kept.
    fn forget(&self, domain: &str) {
        self.wakes.lock().remove(domain);
        self.synced.lock().remove(domain);
        let mut sets = self.sets.lock();
        let gone = sets.remove(domain);
        self.publish(&mut sets, domain);
        drop(sets);
        // A million rows take a while to drop: not while others wait.
        drop(gone);
    }

    pub(super) fn up_to_date(&self, domain: &Arc<str>) {
        self.synced.lock().insert(Arc::clone(domain), clock::now());
        self.read.lock().insert(Arc::clone(domain));
        self.looks.send_modify(|looks| *looks += 1);
    }

    pub(super) fn lost(&self) {
        self.losses.fetch_add(1, Relaxed);
    }

    /// Times that Redis had lost rows which this replica knew.
    pub fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }

    /// By domain, those of which there is something to tell.
    pub fn shown(&self, now: UnixMicros) -> Vec<Shown> {
        let synced = self.synced.lock().clone();
        let sets = self.sets.lock();
        let wall = self.wall(now);
        let mut shown: Vec<Shown> = synced
            .keys()
            .chain(sets.keys().filter(|domain| !synced.contains_key(*domain)))
            .map(|domain| {
                let set = sets.get(domain);
                let age = synced.get(domain).map_or(0, |at| now.0.saturating_sub(at.0));
                Shown {
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

    /// Rows that ended so long ago that nobody will ask about them.
    pub(super) fn long_ended(&self, domain: &str) -> Vec<(Box<str>, u64)> {
        let now = self.wall(clock::now());
        self.ended(domain, UnixMicros(now.0.saturating_sub(ENDED_STAYS)), SWEPT_AT_ONCE)
    }

    /// Where nobody else has to know: what is dropped here is left out when the journal is next written anew, and ends
    /// again after a restart until then.
    async fn sweep_here(&self) {
        loop {
            time::sleep(SWEEP_EVERY).await;
            let known: Vec<Arc<str>> = self.sets.lock().keys().cloned().collect();
            for domain in known {
                let gone = self.long_ended(&domain);
                self.apply(&domain, gone.into_iter().map(|(id, version)| Change::Gone(id, version)).collect());
            }
        }
    }
}

/// Looks when there is news, and now and then without.
async fn keep_up(sync: DomainSync, wake: Arc<Notify>) {
    // Each change of state is logged once.
    let mut said = false;
    let mut swept = Instant::now();
    loop {
        if sync.remote.is_up() {
            match sync.catch_up().await {
                Ok(()) => {
                    said = false;
                    sync.overrides.up_to_date(&sync.domain);
                }
                Err(error) if !said => {
                    warn!(domain = &*sync.domain, %error, "run-time overrides can't be read: the last known stay in force");
                    said = true;
                }
                Err(_) => {}
            }
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                // What fails now is tried again.
                let _ = sync.sweep().await;
            }
        }
        // Replicas that started together must not ask together.
        let pause = LOOK_EVERY.mul_f64(rand::rng().random_range(0.8..1.2));
        let _ = time::timeout(pause, wake.notified()).await;
    }
}
