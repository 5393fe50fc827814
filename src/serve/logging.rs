//! Where log lines go, and how they look.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets, fmt, fmt::format::FmtSpan, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::settings::{LogFormat, ProcessSettings};

/// Logs to standard error for the rest of the process. Libraries speak only from WARN on: at `debug`, h2 alone
/// would drown the rest. h2 and hyper not even then: a line for each client that misbehaves is a flood by another name, and
/// they are counted.
pub fn start(settings: &ProcessSettings) -> anyhow::Result<()> {
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets([("h2", LevelFilter::ERROR), ("hyper", LevelFilter::ERROR), ("aws", LevelFilter::ERROR)])
        .with_target("tollgate", settings.log_level);
    // The filter decides alone.
    let subscriber =
        fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    let started = match settings.log_format {
        LogFormat::Text => subscriber.with_ansi(false).with_target(false).finish().with(filter).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_target(false).finish().with(filter).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging can't be started: {error}"))
}
