//! Every environment variable of envoyproxy/ratelimit, and its effect here: the same, or none, with a line that says
//! what replaces it. `docs/src/guides/moving-variables.md` has the same table. It doesn't know what the settings do.

use std::collections::HashMap;

use super::{SettingsReader, parse, unknown, without_line_end};

/// The environment, as far as it is text. A variable that is set but empty counts as unset.
#[derive(Clone, Debug, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Environment {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(text).collect()
    }

    /// The names with this prefix, in order.
    pub(super) fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = String> {
        let mut names: Vec<String> = self.0.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names.sort();
        names.into_iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Environment {
        let bare = variables.into_iter().map(|(name, value)| (name, without_line_end(&value).to_owned()));
        Environment(bare.filter(|(_, value)| !value.is_empty()).collect())
    }
}

/// A variable of envoyproxy/ratelimit. A name that ends in `*` stands for all with that prefix.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    pub fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Read, with the same effect.
    Honoured,
    /// Accepted, so that an environment can be kept, and without effect; the sentence says what replaces it, and why.
    Replaced(ValueKind, &'static str),
    /// A switch that may only be off, because what it turns on doesn't exist here: true is an error with this sentence.
    Refused(&'static str),
}

/// The kind of value that envoyproxy/ratelimit reads: a wrong one is an error even if the variable has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    Text,
    Bool,
    Int,
    Float,
    Duration,
}

impl ValueKind {
    fn check(self, text: &str) -> Result<(), String> {
        match self {
            ValueKind::Text => Ok(()),
            ValueKind::Bool => parse::boolean(text).map(drop),
            ValueKind::Int => parse::int(text).map(drop),
            ValueKind::Float => text.parse::<f64>().map(drop).map_err(|_| "expected a number".into()),
            ValueKind::Duration => parse::duration(text).map(drop),
        }
    }
}

/// Reports variables that have no effect here: those of envoyproxy/ratelimit, and unknown ones.
pub(super) fn notices(environment: &Environment, read: &mut SettingsReader) {
    let mut set: Vec<(&String, &String)> = environment.0.iter().collect();
    set.sort();
    for (name, value) in set {
        match Variable::find(name).map(|variable| variable.fate) {
            Some(Fate::Replaced(kind, sentence)) => match kind.check(value) {
                Ok(()) => read.idle.push(format!("{name} does nothing here: {sentence}")),
                Err(what) => read.refuse(name, value, &what),
            },
            Some(Fate::Refused(sentence)) => match parse::boolean(value) {
                Ok(true) => read.refuse(name, value, sentence),
                Ok(false) => {}
                Err(what) => read.refuse(name, value, &what),
            },
            Some(Fate::Honoured) => {}
            None => read.idle.extend(unknown::line(name, value)),
        }
    }
}

/// Names that platforms and other programs set too, so that they say nothing about where a setting comes from.
const COMMON: [&str; 6] = ["HOST", "PORT", "LOG_LEVEL", "LOG_FORMAT", "REDIS_URL", "PROJECT_DIR"];

impl Environment {
    /// Whether it was written for envoyproxy/ratelimit: any variable is set that only this one reads.
    pub fn is_of_the_reference(&self) -> bool {
        let is_common = |name: &str| COMMON.contains(&name) || name.starts_with("OTEL_");
        self.0.keys().any(|name| !is_common(name) && Variable::find(name).is_some())
    }
}

impl Variable {
    pub fn find(name: &str) -> Option<&'static Variable> {
        VARIABLES.iter().find(|variable| match variable.name.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => variable.name == name,
        })
    }
}

/// The defaults that differ from the reference's on purpose, and how to turn each back.
pub const DIFFERENT_DEFAULTS: &str = "eight defaults differ from envoyproxy/ratelimit's: \
    the admin listener is on 127.0.0.1 (DEBUG_HOST=0.0.0.0); Prometheus metrics are served (USE_PROMETHEUS=false); \
    StatsD is off (USE_STATSD=true); LOG_LEVEL is info (LOG_LEVEL=warn); \
    repeated denials are remembered without LOCAL_CACHE_SIZE_IN_BYTES; \
    REDIS_SOCKET_TYPE follows the URL; names that begin with '..' are never rule files; SIGHUP reloads the rules";

const POOL: &str = "each core has one connection to Redis that all its requests share; TOLLGATE_WORKERS sets the cores";
const NO_POOL: &str = "there is no pool that could be empty; TOLLGATE_STORE_TIMEOUT bounds what a request waits";
const PIPELINE: &str = "requests that arrive while a batch is under way leave together as soon as it is back; \
    no window has to be chosen";
const PARALLEL: &str = "the nodes of a cluster are asked at the same time; where one denies, what the others charged is \
    given back, so that a request is all or nothing";
const STARTUP: &str = "start-up does not wait for Redis: it is tried again every 100 ms, \
    or up to 0.7 s where it refuses the connection, and TOLLGATE_ON_STORE_FAILURE answers until it is there";
const MONTHS: &str = "there are no windows of calendar months yet, a month is 30 days; leave it out or say false, and \
    write such limits as `unit: month` or `window: 30d`";
const MEMCACHE: &str = "there is no memcache store, because memcache can't count a sliding window atomically; \
    use BACKEND_TYPE=redis or memory";
const OTEL: &str =
    "of OpenTelemetry there are traces and no other signal, and of their settings those that this table names";

/// All variables: envoyproxy/ratelimit's own, those of its libraries, those that only its documentation has, and the
/// one that Envoy Gateway sets.
pub const VARIABLES: &[Variable] = &[
    honoured("HOST"),
    honoured("PORT"),
    honoured("DEBUG_HOST"),
    honoured("DEBUG_PORT"),
    honoured("GRPC_UDS"),
    honoured("GRPC_HOST"),
    honoured("GRPC_PORT"),
    honoured("GRPC_MAX_CONNECTION_AGE"),
    honoured("GRPC_MAX_CONNECTION_AGE_GRACE"),
    honoured("GRPC_SERVER_USE_TLS"),
    honoured("GRPC_SERVER_TLS_CERT"),
    honoured("GRPC_SERVER_TLS_KEY"),
    honoured("GRPC_SERVER_TLS_CA_CERT"),
    honoured("GRPC_CLIENT_TLS_CACERT"),
    honoured("GRPC_CLIENT_TLS_SAN"),
    honoured("LOG_LEVEL"),
    honoured("LOG_FORMAT"),
    honoured("CONFIG_TYPE"),
    honoured("FORCE_START_WITHOUT_INITIAL_CONFIG"),
    honoured("CONFIG_GRPC_XDS_NODE_ID"),
    honoured("CONFIG_GRPC_XDS_NODE_METADATA"),
    honoured("CONFIG_GRPC_XDS_SERVER_URL"),
    honoured("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL"),
    honoured("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS"),
    honoured("CONFIG_GRPC_XDS_SERVER_USE_TLS"),
    honoured("CONFIG_GRPC_XDS_CLIENT_TLS_CERT"),
    honoured("CONFIG_GRPC_XDS_CLIENT_TLS_KEY"),
    honoured("CONFIG_GRPC_XDS_SERVER_TLS_CACERT"),
    honoured("CONFIG_GRPC_XDS_SERVER_TLS_SAN"),
    honoured("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL"),
    honoured("XDS_CLIENT_BACKOFF_MAX_INTERVAL"),
    honoured("XDS_CLIENT_BACKOFF_RANDOM_FACTOR"),
    honoured("XDS_CLIENT_BACKOFF_JITTER"),
    honoured("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES"),
    honoured("USE_DOG_STATSD"),
    honoured("USE_DOG_STATSD_MOGRIFIERS"),
    honoured("DOG_STATSD_MOGRIFIER_*"),
    replaced(
        "DOG_STATSD_MOGRIFIERS*",
        ValueKind::Text,
        "envoyproxy/ratelimit doesn't read it either; its documentation means USE_DOG_STATSD_MOGRIFIERS and DOG_STATSD_MOGRIFIER_*",
    ),
    honoured("USE_STATSD"),
    honoured("STATSD_HOST"),
    honoured("STATSD_PORT"),
    honoured("STATSD_PROTOCOL"),
    honoured("EXTRA_TAGS"),
    honoured("STATS_FLUSH_INTERVAL"),
    honoured("DISABLE_STATS"),
    honoured("USE_PROMETHEUS"),
    honoured("PROMETHEUS_ADDR"),
    honoured("PROMETHEUS_PATH"),
    honoured("PROMETHEUS_MAPPER_YAML"),
    honoured("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS"),
    honoured("RUNTIME_ROOT"),
    honoured("RUNTIME_SUBDIRECTORY"),
    honoured("RUNTIME_APPDIRECTORY"),
    honoured("RUNTIME_IGNOREDOTFILES"),
    honoured("RUNTIME_WATCH_ROOT"),
    replaced(
        "EXPIRATION_JITTER_MAX_SECONDS",
        ValueKind::Int,
        "a counter lives until it means nothing any more, counted from its own hits, so that keys don't expire all at once",
    ),
    replaced(
        "LOCAL_CACHE_SIZE_IN_BYTES",
        ValueKind::Int,
        "repeated denials are remembered for up to a second, unless denied hits count; `TOLLGATE_DENIALS_MAX_BYTES` bounds that, and a raised limit acts at once; with TOLLGATE_COMPAT it says whether ratelimit.localcache.* is counted",
    ),
    honoured("NEAR_LIMIT_RATIO"),
    honoured("CACHE_KEY_PREFIX"),
    honoured("BACKEND_TYPE"),
    honoured("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT"),
    honoured("LIMIT_RESPONSE_HEADERS_ENABLED"),
    honoured("LIMIT_LIMIT_HEADER"),
    honoured("LIMIT_REMAINING_HEADER"),
    honoured("LIMIT_RESET_HEADER"),
    honoured("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED"),
    honoured("REDIS_SOCKET_TYPE"),
    honoured("REDIS_TYPE"),
    honoured("REDIS_URL"),
    replaced("REDIS_POOL_SIZE", ValueKind::Int, POOL),
    honoured("REDIS_AUTH"),
    honoured("REDIS_TLS"),
    honoured("REDIS_TLS_CLIENT_CERT"),
    honoured("REDIS_TLS_CLIENT_KEY"),
    honoured("REDIS_TLS_CACERT"),
    honoured("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION"),
    replaced("REDIS_PIPELINE_WINDOW", ValueKind::Duration, PIPELINE),
    replaced("REDIS_PIPELINE_LIMIT", ValueKind::Int, PIPELINE),
    replaced("REDIS_CLUSTER_PIPELINE_PARALLELISM", ValueKind::Int, PARALLEL),
    honoured("REDIS_PERSECOND"),
    honoured("REDIS_PERSECOND_SOCKET_TYPE"),
    honoured("REDIS_PERSECOND_TYPE"),
    honoured("REDIS_PERSECOND_URL"),
    replaced("REDIS_PERSECOND_POOL_SIZE", ValueKind::Int, POOL),
    honoured("REDIS_PERSECOND_AUTH"),
    honoured("REDIS_PERSECOND_TLS"),
    honoured("REDIS_SENTINEL_AUTH"),
    honoured("REDIS_PERSECOND_SENTINEL_AUTH"),
    replaced("REDIS_PERSECOND_PIPELINE_WINDOW", ValueKind::Duration, PIPELINE),
    replaced("REDIS_PERSECOND_PIPELINE_LIMIT", ValueKind::Int, PIPELINE),
    replaced("REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", ValueKind::Int, PARALLEL),
    honoured("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION"),
    honoured("REDIS_TIMEOUT"),
    honoured("REDIS_PERSECOND_TIMEOUT"),
    replaced("REDIS_POOL_ON_EMPTY_BEHAVIOR", ValueKind::Text, NO_POOL),
    replaced("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", ValueKind::Text, NO_POOL),
    replaced("REDIS_POOL_ON_EMPTY_WAIT_DURATION", ValueKind::Text, NO_POOL),
    replaced("REDIS_PERSECOND_POOL_ON_EMPTY_WAIT_DURATION", ValueKind::Text, NO_POOL),
    replaced("REDIS_STARTUP_INITIAL_INTERVAL", ValueKind::Duration, STARTUP),
    replaced("REDIS_STARTUP_MAX_INTERVAL", ValueKind::Duration, STARTUP),
    replaced("REDIS_STARTUP_MAX_ELAPSED_TIME", ValueKind::Duration, STARTUP),
    replaced("MEMCACHE_HOST_PORT", ValueKind::Text, MEMCACHE),
    replaced("MEMCACHE_MAX_IDLE_CONNS", ValueKind::Int, MEMCACHE),
    replaced("MEMCACHE_SRV", ValueKind::Text, MEMCACHE),
    replaced("MEMCACHE_SRV_REFRESH", ValueKind::Duration, MEMCACHE),
    replaced("MEMCACHE_TLS", ValueKind::Bool, MEMCACHE),
    replaced("MEMCACHE_TLS_CLIENT_CERT", ValueKind::Text, MEMCACHE),
    replaced("MEMCACHE_TLS_CLIENT_KEY", ValueKind::Text, MEMCACHE),
    replaced("MEMCACHE_TLS_CACERT", ValueKind::Text, MEMCACHE),
    replaced("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", ValueKind::Bool, MEMCACHE),
    replaced(
        "REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR",
        ValueKind::Bool,
        "it is always so: after READONLY the connection is made anew until it leads to a node that takes writes",
    ),
    Variable { name: "USE_CALENDAR_MONTH_RATE_LIMIT", fate: Fate::Refused(MONTHS) },
    honoured("SHADOW_MODE"),
    honoured("QUOTA_MODE"),
    honoured("RESPONSE_DYNAMIC_METADATA"),
    honoured("MERGE_DOMAIN_CONFIG"),
    honoured("TRACING_ENABLED"),
    honoured("TRACING_SERVICE_NAME"),
    honoured("TRACING_SERVICE_NAMESPACE"),
    honoured("TRACING_SERVICE_INSTANCE_ID"),
    honoured("TRACING_EXPORTER_PROTOCOL"),
    honoured("TRACING_SAMPLING_RATE"),
    honoured("OTEL_SDK_DISABLED"),
    honoured("OTEL_SERVICE_NAME"),
    honoured("OTEL_RESOURCE_ATTRIBUTES"),
    honoured("OTEL_PROPAGATORS"),
    honoured("OTEL_TRACES_SAMPLER"),
    honoured("OTEL_TRACES_SAMPLER_ARG"),
    honoured("OTEL_TRACES_EXPORTER"),
    honoured("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    honoured("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    honoured("OTEL_BSP_SCHEDULE_DELAY"),
    honoured("OTEL_BSP_EXPORT_TIMEOUT"),
    honoured("OTEL_BSP_MAX_QUEUE_SIZE"),
    honoured("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
    honoured("OTEL_EXPORTER_OTLP_ENDPOINT"),
    honoured("OTEL_EXPORTER_OTLP_PROTOCOL"),
    honoured("OTEL_EXPORTER_OTLP_HEADERS"),
    honoured("OTEL_EXPORTER_OTLP_TIMEOUT"),
    honoured("OTEL_EXPORTER_OTLP_COMPRESSION"),
    honoured("OTEL_EXPORTER_OTLP_CERTIFICATE"),
    honoured("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
    honoured("OTEL_EXPORTER_OTLP_CLIENT_KEY"),
    honoured("OTEL_EXPORTER_OTLP_INSECURE"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"),
    honoured("OTEL_EXPORTER_OTLP_TRACES_INSECURE"),
    // Platforms set more of these than any program reads.
    replaced("OTEL_*", ValueKind::Text, OTEL),
    replaced("PROJECT_DIR", ValueKind::Text, "only the tests of envoyproxy/ratelimit read it"),
];

const fn honoured(name: &'static str) -> Variable {
    Variable { name, fate: Fate::Honoured }
}

const fn replaced(name: &'static str, kind: ValueKind, sentence: &'static str) -> Variable {
    Variable { name, fate: Fate::Replaced(kind, sentence) }
}
