//! Opens what the service keeps to explain itself: the lists of who is refused most, the last hour, and how values are
//! shown.

use std::{fs, path::Path, sync::Arc, thread::available_parallelism, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::time;
use tracing::info;

use super::{decision_log::DecisionLog, tasks::Tasks};
use crate::{
    blocking::blocking,
    clock,
    front::api::Insight,
    limiter::{
        Snapshot,
        decision_feed::DecisionFeed,
        history::{HourHistory, SLOT},
        top::TopLists,
    },
    metrics::Metrics,
    privacy::Privacy,
    settings::{InsightSettings, Settings},
};

/// Longer is no secret.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// What answers about this process are made of, and the decision log, if there is one. A file of the secret that is wrong
/// ends the start, and so does a log that can't be written.
pub(super) fn open(settings: &Settings) -> anyhow::Result<(Insight, Option<DecisionLog>)> {
    let InsightSettings { fleet, top_max_bytes, hashed, decision_log } = &settings.insight;
    let privacy = match hashed {
        Some((keys, file)) => {
            let privacy = privacy(keys, file).with_context(|| format!("TOLLGATE_HASH_KEY_FILE: {}", file.display()))?;
            info!(keys = keys.join(","), "values of these keys are shown as a hash");
            privacy
        }
        None => Privacy::default(),
    };
    // One more than there are cores, for the HTTP listener.
    let workers = settings.process.workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let top = TopLists::new(*top_max_bytes, workers + 1, privacy.clone());
    let (feed, log) = match decision_log {
        None => (DecisionFeed::new(privacy.clone()), None),
        Some(log) => {
            let (feed, lines) = DecisionFeed::with_log(privacy.clone(), log.sample);
            let place = log.file.as_deref().map_or("-".into(), |file| file.display().to_string());
            let opened = DecisionLog::open(log, lines).with_context(|| format!("TOLLGATE_DECISION_LOG: {place}"))?;
            info!(file = place, sample = %log.sample, "decisions are logged");
            (feed, Some(opened))
        }
    };
    let (fleet, feed) = (fleet.as_str().into(), Arc::new(feed));
    Ok((Insight { fleet, history: Arc::default(), top, privacy, feed }, log))
}

/// Keeps the last hour for graphs: reads the counters at the start, and then when each slot begins.
pub(super) fn keep_history(
    history: Arc<HourHistory>,
    metrics: Arc<Metrics>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    tasks: &Tasks,
) {
    tasks.spawn("the last hour", async move {
        loop {
            let (history, metrics, snapshot) = (Arc::clone(&history), Arc::clone(&metrics), snapshot.load_full());
            // It goes through every limit.
            blocking(move || history.sample(clock::now(), &metrics, &snapshot)).await;
            let left = SLOT.0 - clock::now().0 % SLOT.0;
            time::sleep(Duration::from_micros(left)).await;
        }
    });
}

fn privacy(keys: &[Box<str>], file: &Path) -> anyhow::Result<Privacy> {
    anyhow::ensure!(
        fs::metadata(file)?.len() <= SECRET_FILE_BYTES_MAX,
        "it has more than {SECRET_FILE_BYTES_MAX} bytes"
    );
    Ok(Privacy::new(keys.iter().cloned(), &fs::read(file)?)?)
}
