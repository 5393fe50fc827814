//! Steady load in the background while a test changes something, and every answer that it got.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Tollgate, eventually};

/// Ends a load that a test forgot to stop.
const ANSWERS_MAX: usize = 20_000;

/// Leaves the two cores some room for what is being tested.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) struct Load<T> {
    stop: CancellationToken,
    workers: JoinSet<Vec<T>>,
    answers: Arc<AtomicUsize>,
}

impl<T: Send + 'static> Load<T> {
    /// `ask` is called again and again by each of `workers`, one call at a time.
    pub(crate) fn start<A, F>(workers: usize, ask: A) -> Load<T>
    where
        A: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = T> + Send,
    {
        let (stop, counter) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let mut set = JoinSet::new();
        for _ in 0..workers {
            let (ask, stop, counter) = (ask.clone(), stop.clone(), counter.clone());
            set.spawn(async move {
                let mut answers = Vec::new();
                while !stop.is_cancelled() && answers.len() < ANSWERS_MAX {
                    answers.push(ask().await);
                    counter.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                answers
            });
        }
        Load { stop, workers: set, answers: counter }
    }

    /// Waits for some more answers: asked and answered after whatever the test did last.
    pub(crate) async fn goes_on(&self) {
        let enough = self.answers.load(Ordering::Relaxed) + 10 * self.workers.len();
        eventually("the load goes on", || async { (self.answers.load(Ordering::Relaxed) >= enough).then_some(()) })
            .await;
    }

    /// Lets each worker finish its call; every answer of every worker.
    pub(crate) async fn stop(self) -> Vec<T> {
        self.stop.cancel();
        self.workers.join_all().await.into_iter().flatten().collect()
    }
}

/// Each answer is that over a new connection and that over a kept one: whether there was any.
impl Load<[bool; 2]> {
    /// Has new certificates mounted, twice, while it goes on, and ends it: no request failed.
    pub(crate) async fn bears_new_certificates(self, tollgate: &Tollgate, mount: impl Fn(&'static str)) {
        let in_use = || tollgate.process.log().matches("reloaded certificates: new connections use them").count();
        for version in ["second", "third"] {
            self.goes_on().await;
            let before = in_use();
            mount(version);
            eventually("the new certificates are in use", || async { (in_use() > before).then_some(()) }).await;
        }
        self.goes_on().await;
        let answers = self.stop().await;
        let failed = answers.iter().flatten().filter(|is_answered| !**is_answered).count();
        assert_eq!(failed, 0, "of {} requests", 2 * answers.len());
    }
}
