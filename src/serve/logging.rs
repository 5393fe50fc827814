//! Where log lines go, and how they look.

use tracing_subscriber::{EnvFilter, fmt, fmt::format::FmtSpan};

use crate::settings::{LogFormat, ProcessSettings};

/// Logs to standard error for the rest of the process. Libraries speak only from WARN on: at `debug`, h2 alone
/// would drown the rest. h2 and hyper not even then: a line for each client that misbehaves is a flood by another name, and
/// they are counted.
pub fn start(settings: &ProcessSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("warn,h2=error,hyper=error,tollgate={}", settings.log_level))?;
    let subscriber = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    let started = match settings.log_format {
        LogFormat::Text => subscriber.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_target(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging can't be started: {error}"))
}
