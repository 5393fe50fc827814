//! What is counted for dashboards, and where it goes. Knows the variables' names, not what is counted.

use std::path::PathBuf;

use clap::Args;

use super::{Flags, Reader, parse, set};

/// Flags of the metrics that envoyproxy/ratelimit has too.
#[derive(Args, Clone, Debug, Default)]
pub struct StatsFlags {
    /// From this part of a limit on, hits are counted as near it [default: 0.8]
    #[arg(long, value_name = "RATIO", env = "NEAR_LIMIT_RATIO", help_heading = "Metrics")]
    pub near_limit_ratio: Option<String>,
    /// Series whose names carry values of requests (detailed_metric, value_to_metric); more are counted as `other` [default: 100000]
    #[arg(long, value_name = "N", env = "TOLLGATE_MAX_METRIC_SERIES", help_heading = "Metrics")]
    pub max_metric_series: Option<String>,
    /// A mapping for statsd_exporter; not applied, the names are those of envoyproxy/ratelimit's own mapping
    #[arg(long, value_name = "FILE", env = "PROMETHEUS_MAPPER_YAML", help_heading = "Metrics")]
    pub prometheus_mapper_yaml: Option<String>,
    /// ratelimit_service_response_time_seconds is in milliseconds [default: false]
    #[arg(long, value_name = "BOOL", env = "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", help_heading = "Metrics")]
    pub prometheus_response_time_as_milliseconds: Option<String>,
}

#[derive(Clone, Debug)]
pub struct StatsSettings {
    /// The metrics page has envoyproxy/ratelimit's names beside ours: USE_PROMETHEUS was asked for.
    pub on_page: bool,
    pub near_limit_ratio: f32,
    pub series_max: usize,
    pub mapper: Option<PathBuf>,
    pub response_time_in_ms: bool,
}

pub(super) fn stats(flags: &Flags, read: &mut Reader) -> StatsSettings {
    let stats = &flags.stats;
    StatsSettings {
        on_page: read.or("USE_PROMETHEUS", &flags.use_prometheus, false, parse::boolean),
        near_limit_ratio: read.or("NEAR_LIMIT_RATIO", &stats.near_limit_ratio, 0.8, ratio),
        series_max: read.or("TOLLGATE_MAX_METRIC_SERIES", &stats.max_metric_series, 100_000, parse::at_least(1))
            as usize,
        mapper: set(&stats.prometheus_mapper_yaml).map(PathBuf::from),
        response_time_in_ms: read.or(
            "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS",
            &stats.prometheus_response_time_as_milliseconds,
            false,
            parse::boolean,
        ),
    }
}

fn ratio(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|ratio: &f32| (0.0..=1.0).contains(ratio));
    number.ok_or_else(|| "expected a number from 0 to 1 such as 0.8".into())
}
