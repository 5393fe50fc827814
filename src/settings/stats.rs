//! Metrics for dashboards, and where they go. It knows the variables' names, not what is counted.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use regex::Regex;

use super::{
    Environment, Flags, SettingsReader, parse,
    partners::{self, RequiredSetting, idle, is_true, listed},
    set,
};

/// Flags of the metrics that envoyproxy/ratelimit has too.
#[derive(Args, Clone, Debug, Default)]
pub struct StatsFlags {
    /// Share of a limit from which hits are counted as near it [default: 0.8]
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
    /// Send metrics to a StatsD server [default: false]
    #[arg(long, value_name = "BOOL", env = "USE_STATSD", help_heading = "Metrics")]
    pub use_statsd: Option<String>,
    /// Host of the StatsD or DogStatsD server [default: localhost]
    #[arg(long, value_name = "HOST", env = "STATSD_HOST", help_heading = "Metrics")]
    pub statsd_host: Option<String>,
    /// Its port [default: 8125]
    #[arg(long, value_name = "PORT", env = "STATSD_PORT", help_heading = "Metrics")]
    pub statsd_port: Option<String>,
    /// tcp or udp; DogStatsD always gets UDP [default: tcp]
    #[arg(long, value_name = "NAME", env = "STATSD_PROTOCOL", help_heading = "Metrics")]
    pub statsd_protocol: Option<String>,
    /// How often metrics are sent [default: 10s]
    #[arg(long, value_name = "DURATION", env = "STATS_FLUSH_INTERVAL", help_heading = "Metrics")]
    pub stats_flush_interval: Option<String>,
    /// Tags of every metric that is sent: key:value,…
    #[arg(long, value_name = "TAGS", env = "EXTRA_TAGS", help_heading = "Metrics")]
    pub extra_tags: Option<String>,
    /// Send metrics to a DogStatsD server [default: false]
    #[arg(long, value_name = "BOOL", env = "USE_DOG_STATSD", help_heading = "Metrics")]
    pub use_dog_statsd: Option<String>,
    /// Names of rewritings of DogStatsD's names, each in DOG_STATSD_MOGRIFIER_<NAME>_PATTERN, _NAME and _TAGS
    #[arg(long, value_name = "NAMES", env = "USE_DOG_STATSD_MOGRIFIERS", help_heading = "Metrics")]
    pub use_dog_statsd_mogrifiers: Option<String>,
    /// Neither serve nor send metrics [default: false]
    #[arg(long, value_name = "BOOL", env = "DISABLE_STATS", help_heading = "Metrics")]
    pub disable_stats: Option<String>,
}

#[derive(Clone, Debug)]
pub struct StatsSettings {
    /// Whether the metrics page also has envoyproxy/ratelimit's names: USE_PROMETHEUS is set.
    pub on_page: bool,
    pub near_limit_ratio: f32,
    pub series_max: usize,
    pub mapper: Option<PathBuf>,
    pub response_time_in_ms: bool,
    /// Whether hits of envoyproxy/ratelimit's local cache are counted: with TOLLGATE_COMPAT only if it would have one.
    pub local_cache: bool,
    pub statsd: bool,
    pub dog_statsd: bool,
    pub host: String,
    pub port: u16,
    /// Whether StatsD is sent over UDP instead of TCP.
    pub udp: bool,
    pub flush_interval: Duration,
    /// Tags of every metric, sorted by key.
    pub tags: Vec<(String, String)>,
    pub mogrifiers: Vec<Mogrifier>,
}

/// A rewriting of DogStatsD's names.
#[derive(Clone, Debug)]
pub struct Mogrifier {
    pub pattern: Regex,
    pub name: String,
    pub tags: Vec<(String, String)>,
}

pub(super) fn stats(flags: &Flags, read: &mut SettingsReader) -> StatsSettings {
    let stats = &flags.stats;
    let disabled = read.or("DISABLE_STATS", &stats.disable_stats, false, parse::boolean);
    let mut tags = read.or("EXTRA_TAGS", &stats.extra_tags, Vec::new(), pairs);
    tags.sort();
    const PROTOCOLS: &[(&str, bool)] = &[("tcp", false), ("udp", true)];
    if !disabled {
        partners_of_servers(flags, read);
    }
    StatsSettings {
        // A wrong value is reported with the listener.
        on_page: !disabled && is_true(&flags.use_prometheus),
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
        local_cache: true,
        statsd: read.or("USE_STATSD", &stats.use_statsd, false, parse::boolean) && !disabled,
        dog_statsd: read.or("USE_DOG_STATSD", &stats.use_dog_statsd, false, parse::boolean) && !disabled,
        host: set(&stats.statsd_host).unwrap_or("localhost").to_string(),
        port: read.or("STATSD_PORT", &stats.statsd_port, 8125, parse::port),
        udp: read.or("STATSD_PROTOCOL", &stats.statsd_protocol, false, parse::word(PROTOCOLS)),
        flush_interval: read.or(
            "STATS_FLUSH_INTERVAL",
            &stats.stats_flush_interval,
            Duration::from_secs(10),
            parse::some_time,
        ),
        tags,
        mogrifiers: Vec::new(),
    }
}

/// Whether envoyproxy/ratelimit would have a local cache with these settings.
pub(super) fn local_cache(flags: &Flags, environment: &Environment) -> bool {
    let bytes = environment.get("LOCAL_CACHE_SIZE_IN_BYTES").and_then(|text| parse::int(text).ok());
    set(&flags.compat).is_none() || bytes.is_some_and(|bytes| bytes != 0)
}

/// Settings that are only for metrics that are sent need a server to send them to.
fn partners_of_servers(flags: &Flags, read: &mut SettingsReader) {
    let stats = &flags.stats;
    let (statsd, dog_statsd) = (&stats.use_statsd, &stats.use_dog_statsd);
    let is_sent = is_true(statsd) || is_true(dog_statsd);
    let server = RequiredSetting {
        variable: "USE_STATSD",
        value: "true (or USE_DOG_STATSD)",
        given: if set(statsd).is_some() { statsd } else { dog_statsd },
        is_on: is_sent,
        without: "no metric is sent; false says that none is meant to be",
    };
    let address = [
        ("STATSD_HOST", &stats.statsd_host),
        ("STATSD_PORT", &stats.statsd_port),
        ("STATSD_PROTOCOL", &stats.statsd_protocol),
    ];
    read.beside(&server, &partners::names(&address));
    let without = "no name is rewritten; false says that none is meant to be";
    let dogs = RequiredSetting::switch("USE_DOG_STATSD", dog_statsd, without);
    read.beside(&dogs, &partners::names(&[("USE_DOG_STATSD_MOGRIFIERS", &stats.use_dog_statsd_mogrifiers)]));
    let sending = [("EXTRA_TAGS", &stats.extra_tags), ("STATS_FLUSH_INTERVAL", &stats.stats_flush_interval)];
    let sending = partners::names(&sending);
    if !is_sent && !sending.is_empty() {
        read.idle.push(idle(&sending, "no metrics are sent to a StatsD server, and Prometheus' page knows neither"));
    }
    let on_page = [("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", &stats.prometheus_response_time_as_milliseconds)];
    let on_page = partners::switches(&on_page);
    if !is_true(&flags.use_prometheus) && !on_page.is_empty() {
        read.idle.push(idle(&on_page, "envoyproxy/ratelimit's metrics are on the page only with USE_PROMETHEUS=true"));
    }
}

/// Reads the rewritings that USE_DOG_STATSD_MOGRIFIERS names, and refuses wrong ones.
pub(super) fn mogrifiers(flags: &Flags, environment: &Environment, read: &mut SettingsReader) -> Vec<Mogrifier> {
    let names = set(&flags.stats.use_dog_statsd_mogrifiers).into_iter().flat_map(|names| names.split(','));
    let (mut all, mut prefixes) = (Vec::new(), Vec::new());
    for name in names.map(str::trim).filter(|name| !name.is_empty()) {
        let prefix = format!("{MOGRIFIER}{}", name.to_uppercase());
        match mogrifier(&prefix, environment) {
            Ok(mogrifier) => all.push(mogrifier),
            Err(line) => read.wrong.push(line),
        }
        prefixes.push(prefix + "_");
    }
    let is_named = |variable: &String| prefixes.iter().any(|prefix| variable.starts_with(prefix));
    let unnamed: Vec<String> = environment.beginning_with(MOGRIFIER).filter(|name| !is_named(name)).collect();
    if set(&flags.stats.use_dog_statsd_mogrifiers).is_some() && !unnamed.is_empty() {
        read.idle.push(idle(&unnamed, "USE_DOG_STATSD_MOGRIFIERS doesn't name them"));
    } else if !unnamed.is_empty() {
        let what = format!("their names are needed beside {}: without them no name is rewritten", listed(&unnamed));
        read.missing("USE_DOG_STATSD_MOGRIFIERS", &what);
    }
    all
}

const MOGRIFIER: &str = "DOG_STATSD_MOGRIFIER_";

fn mogrifier(prefix: &str, environment: &Environment) -> Result<Mogrifier, String> {
    let named = |part: &str| {
        let name = format!("{prefix}_{part}");
        environment.get(&name).ok_or_else(|| format!("{name}: is needed, because USE_DOG_STATSD_MOGRIFIERS names it"))
    };
    let pattern = named("PATTERN")?;
    let tags = environment.get(&format!("{prefix}_TAGS")).unwrap_or_default();
    Ok(Mogrifier {
        pattern: Regex::new(pattern)
            .map_err(|_| format!("{prefix}_PATTERN: '{pattern}': expected a regular expression"))?,
        name: named("NAME")?.to_string(),
        tags: pairs(tags).map_err(|what| format!("{prefix}_TAGS: '{tags}': {what}"))?,
    })
}

/// Reads a Go map: `k:v,k:v`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once(':').ok_or("expected key:value,key:value")?;
        Ok((key.trim().to_string(), value.to_string()))
    };
    text.split(',').filter(|text| !text.is_empty()).map(pair).collect()
}

fn ratio(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|ratio: &f32| (0.0..=1.0).contains(ratio));
    number.ok_or_else(|| "expected a number from 0 to 1 such as 0.8".into())
}
