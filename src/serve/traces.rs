//! From the settings to the tracer of requests, and the task that sends its spans to a collector.

use std::sync::Arc;

use tracing::info;

use super::tasks::Tasks;
use crate::{
    metrics::Metrics,
    trace::{OtlpProtocol, TraceSettings, Tracer},
};

/// `None` where no request is traced. Spans are sent until the tasks stop, and once more then.
pub(super) fn start(settings: Option<&TraceSettings>, metrics: &Metrics, tasks: &Tasks) -> Option<Arc<Tracer>> {
    let settings = settings?;
    let (tracer, exporter) = Tracer::new(settings);
    metrics.trace(Arc::clone(&tracer));
    let protocol = match settings.destination.protocol {
        OtlpProtocol::Grpc => "grpc",
        OtlpProtocol::Http => "http",
    };
    info!(collector = %settings.destination.uri, protocol, ratio = settings.sampler.ratio, "tracing is on");
    tasks.spawn_to_finish("sending spans", exporter.run(tasks.stopping().clone()));
    Some(tracer)
}
