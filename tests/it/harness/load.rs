//! Steady load in the background while a test changes something, and every answer that it got.

use std::{future::Future, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Ends a load that a test forgot to stop.
const ANSWERS_MAX: usize = 20_000;

/// Leaves the two cores some room for what is being tested.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) struct Load<T> {
    stop: CancellationToken,
    workers: JoinSet<Vec<T>>,
}

impl<T: Send + 'static> Load<T> {
    /// `ask` is called again and again by each of `workers`, one call at a time.
    pub(crate) fn start<A, F>(workers: usize, ask: A) -> Load<T>
    where
        A: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = T> + Send,
    {
        let stop = CancellationToken::new();
        let mut set = JoinSet::new();
        for _ in 0..workers {
            let (ask, stop) = (ask.clone(), stop.clone());
            set.spawn(async move {
                let mut answers = Vec::new();
                while !stop.is_cancelled() && answers.len() < ANSWERS_MAX {
                    answers.push(ask().await);
                    tokio::time::sleep(PAUSE).await;
                }
                answers
            });
        }
        Load { stop, workers: set }
    }

    /// Lets each worker finish its call; every answer of every worker.
    pub(crate) async fn stop(self) -> Vec<T> {
        self.stop.cancel();
        self.workers.join_all().await.into_iter().flatten().collect()
    }
}
