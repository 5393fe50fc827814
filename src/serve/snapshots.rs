//! When the memory store's counters go to disk: again and again while serving, and once more after the last request.

use std::sync::Arc;

use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    blocking::try_blocking,
    clock,
    store::memory::{Memory, snapshot::Snapshots},
};

/// Saves until `stop`, with pauses that keep it to a twentieth of a core, and a last time then. A disk that fails is
/// said once, and tried on.
pub(super) async fn keep(snapshots: Arc<Snapshots>, memory: Arc<Memory>, stop: CancellationToken) {
    let mut failing = false;
    let mut pause = Snapshots::pause(time::Duration::ZERO);
    loop {
        let last = tokio::select! {
            () = time::sleep(pause) => false,
            () = stop.cancelled() => true,
        };
        let began = clock::instant();
        let (snapshots, memory) = (Arc::clone(&snapshots), Arc::clone(&memory));
        let saved = match try_blocking(move || snapshots.save(&memory)).await {
            Ok(saved) => saved.map_err(|error| error.to_string()),
            Err(panic) => Err(panic.to_string()),
        };
        pause = Snapshots::pause(began.elapsed());
        match &saved {
            Ok(counters) if last => info!(counters, "counters are saved"),
            Ok(_) if failing => info!("counters can be saved again"),
            Ok(_) => {}
            Err(error) if last || !failing => {
                warn!(%error, "counters can't be saved: after a restart they would start empty")
            }
            Err(_) => {}
        }
        failing = saved.is_err();
        if last {
            return;
        }
    }
}
