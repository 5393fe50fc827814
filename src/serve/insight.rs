//! Opens what the service keeps to explain itself: the lists of who is refused most, and how values are shown.

use std::{fs, path::Path, thread::available_parallelism};

use anyhow::Context;
use tracing::info;

use crate::{
    front::api::Insight,
    limiter::top::TopLists,
    privacy::Privacy,
    settings::{InsightSettings, Settings},
};

/// Longer is no secret.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// What answers about this process are made of. A file of the secret that is wrong ends the start.
pub(super) fn open(settings: &Settings) -> anyhow::Result<Insight> {
    let InsightSettings { fleet, top_max_bytes, hashed } = &settings.insight;
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
    Ok(Insight { fleet: fleet.as_str().into(), top, privacy })
}

fn privacy(keys: &[Box<str>], file: &Path) -> anyhow::Result<Privacy> {
    anyhow::ensure!(
        fs::metadata(file)?.len() <= SECRET_FILE_BYTES_MAX,
        "it has more than {SECRET_FILE_BYTES_MAX} bytes"
    );
    Ok(Privacy::new(keys.iter().cloned(), &fs::read(file)?)?)
}
