//! From the settings to what follows requests, and the task that tells a collector of them.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    metrics::Metrics,
    trace::{Protocol, TraceSettings, Tracer},
};

/// `None` where nothing is followed. Spans are sent until `stop`, and once more then.
pub(super) fn start(
    settings: Option<&TraceSettings>,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Option<Arc<Tracer>> {
    let settings = settings?;
    let (tracer, exporter) = Tracer::new(settings);
    metrics.trace(Arc::clone(&tracer));
    let protocol = match settings.destination.protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http",
    };
    info!(to = %settings.destination.uri, protocol, ratio = settings.sampler.ratio, "requests are traced");
    tasks.spawn(exporter.run(stop.clone()));
    Some(tracer)
}
