//! What ends when: requests first, within the shutdown timeout, and then what they needed.

use std::time::Duration;

use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{cores, listen::core::Core, tasks::Tasks};

/// What is no request, such as spans that wait for their collector, has at least so long at the end.
const LAST: Duration = Duration::from_millis(500);

/// The tasks of the process, in the two groups that end one after the other.
pub(super) struct Lifecycle {
    /// What answers requests. Asked to stop, connections finish the requests that they have (GOAWAY).
    pub connections: Tasks,
    /// What requests need, such as the connections to the store, and what shows how these fare. Stopped after the last
    /// request.
    pub support: Tasks,
}

impl Lifecycle {
    pub(super) fn new() -> Lifecycle {
        let support = Tasks::default();
        Lifecycle { connections: support.another(), support }
    }

    /// Waits until a task of either group, or a core's thread, ends although nobody asked it to, and says which.
    pub(super) async fn ended_early(&self) -> anyhow::Error {
        self.support.ended_early().await
    }

    /// Lets what was begun be finished, and then all end that it needed. Takes no longer than `timeout` and [`LAST`],
    /// whatever peers do.
    pub(super) async fn finish(self, cores: Vec<Core>, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.connections.stop();
        let abandon: Vec<CancellationToken> = cores.iter().map(Core::abandon).collect();
        let requests = async { tokio::join!(cores::finish(cores), self.connections.ended()) };
        let complete = match time::timeout_at(deadline, requests).await {
            Ok((finished, ())) => finished,
            Err(_) => {
                warn!(?timeout, "the shutdown timeout has passed: open connections are abandoned");
                abandon.iter().for_each(CancellationToken::cancel);
                false
            }
        };
        self.support.stop();
        let _ = time::timeout_at(deadline.max(Instant::now() + LAST), self.support.ended()).await;
        info!(complete, "stopped");
    }
}
