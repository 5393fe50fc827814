//! Groups of tasks, by name: a group is asked to stop as one and waited for as one, and a task that ends although nobody
//! asked it to is reported by its name, whether it returned or panicked. Knows nothing of what the tasks do.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Tasks that are needed until they are asked to stop. A clone is the same group.
#[derive(Clone, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The first task that ended early, in this group or in one that was made of it.
    ended_early: Arc<watch::Sender<Option<&'static str>>>,
}

/// A task, or a thread, that is needed until its group stops. Dropped before that, it has ended early.
pub(super) struct Needed {
    name: &'static str,
    stop: CancellationToken,
    ended_early: Arc<watch::Sender<Option<&'static str>>>,
}

impl Tasks {
    /// Another group, which stops by itself. A task of it that ends early is reported by both groups.
    pub(super) fn another(&self) -> Tasks {
        Tasks { ended_early: Arc::clone(&self.ended_early), ..Tasks::default() }
    }

    /// Runs a task that goes on for ever and has nothing to finish: it is dropped where it is when the group stops.
    pub(super) fn spawn(&self, name: &'static str, task: impl Future<Output: Send> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn_to_finish(name, async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    /// Runs a task that ends by itself once [`Tasks::stopping`] is cancelled, and may have something to finish then.
    pub(super) fn spawn_to_finish(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let needed = self.needed(name);
        self.tracker.spawn(async move {
            let _needed = needed;
            task.await;
        });
    }

    /// What is to be held by something that runs elsewhere, such as a thread, for as long as it runs.
    pub(super) fn needed(&self, name: &'static str) -> Needed {
        Needed { name, stop: self.stop.clone(), ended_early: Arc::clone(&self.ended_early) }
    }

    /// Cancelled when the group is to stop.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Where those put their tasks who look after them themselves.
    pub(super) fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Stops the group when it is dropped.
    pub(super) fn stop_when_dropped(&self) -> DropGuard {
        self.stop.clone().drop_guard()
    }

    /// Asks all tasks to end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until all tasks have ended.
    pub(super) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Waits until a task ends early, and says which.
    pub(super) async fn ended_early(&self) -> anyhow::Error {
        let mut ended_early = self.ended_early.subscribe();
        // The sender is `self`'s, so that the wait can't fail.
        let name = ended_early.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        anyhow::anyhow!("{} ended early", name.unwrap_or("a task"))
    }
}

impl Drop for Needed {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            self.ended_early.send_if_modified(|first| first.is_none() && first.replace(self.name).is_none());
        }
    }
}
