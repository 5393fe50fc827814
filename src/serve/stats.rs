//! From the settings to the metrics of envoyproxy/ratelimit: which are counted, and what a mapping file comes to.

use std::{fs, path::Path};

use tracing::warn;

#[cfg(test)]
mod tests;

use crate::{
    metrics::{Dialect, ReferenceSettings, Rewriting, Sink, SinkProtocol},
    settings::{Mogrifier, StatsSettings},
};

/// What is counted. Says what becomes of a mapping.
pub(super) fn reference(settings: &StatsSettings) -> ReferenceSettings {
    if let Some(path) = &settings.mapper {
        check_mapper(path);
    }
    ReferenceSettings {
        is_on: settings.on_page || settings.statsd || settings.dog_statsd,
        on_page: settings.on_page,
        near_limit_ratio: settings.near_limit_ratio,
        series_max: settings.series_max,
        local_cache: settings.local_cache,
        response_time_in_ms: settings.response_time_in_ms,
    }
}

/// The StatsD servers that metrics are sent to; any number of them.
pub(super) fn sinks(settings: &StatsSettings) -> Vec<Sink> {
    let address = || (settings.host.clone(), settings.port);
    let statsd = settings.statsd.then(|| {
        let protocol = if settings.udp { SinkProtocol::Udp } else { SinkProtocol::Tcp };
        Sink::new("statsd", address(), protocol, Dialect::StatsD { tags: settings.tags.clone() })
    });
    let dog_statsd = settings.dog_statsd.then(|| {
        let rewritings = settings.mogrifiers.iter().cloned().map(rewriting).collect();
        let dialect = Dialect::DogStatsD { tags: settings.tags.clone(), rewritings };
        Sink::new("dogstatsd", address(), SinkProtocol::Udp, dialect)
    });
    statsd.into_iter().chain(dog_statsd).collect()
}

fn rewriting(mogrifier: Mogrifier) -> Rewriting {
    let Mogrifier { pattern, name, tags } = mogrifier;
    Rewriting { pattern, name, tags }
}

/// The file may be absent: Envoy Gateway names one that is optional.
fn check_mapper(path: &Path) {
    match fs::read_to_string(path) {
        Err(error) => {
            warn!(file = %path.display(), %error, "PROMETHEUS_MAPPER_YAML: the mapping can't be read; it would not be applied anyway")
        }
        Ok(text) => {
            if let Some(name) = foreign_name(&text) {
                warn!(
                    file = %path.display(),
                    name,
                    "PROMETHEUS_MAPPER_YAML: the mapping is not applied; metrics have the names of envoyproxy/ratelimit's default mapping"
                );
            }
        }
    }
}

/// The first name that a mapping gives and that isn't one of the reference's own mapping, which is always applied.
fn foreign_name(mapping: &str) -> Option<&str> {
    let lines = mapping.lines().map(|line| line.trim().trim_start_matches("- "));
    let names = lines.filter_map(|line| line.strip_prefix("name:"));
    names.map(|name| name.trim().trim_matches(['"', '\''])).find(|name| !OWN_NAMES.contains(name))
}

const OWN_NAMES: [&str; 10] = [
    "ratelimit_service_rate_limit_near_limit",
    "ratelimit_service_rate_limit_over_limit",
    "ratelimit_service_rate_limit_shadow_mode",
    "ratelimit_service_rate_limit_total_hits",
    "ratelimit_service_rate_limit_within_limit",
    "ratelimit_service_should_rate_limit_error",
    "ratelimit_service_total_requests",
    "ratelimit_service_response_time_seconds",
    "ratelimit_service_config_load_success",
    "ratelimit_service_config_load_error",
];
