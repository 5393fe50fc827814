//! The process' settings, resolved and usable: what the flags and the environment mean, with every mistake in them
//! reported at once. It doesn't know what the settings are used for.

mod api;
mod arguments;
mod denials;
mod flags;
mod insight;
mod overload;
mod parse;
mod partners;
mod redis_iam;
mod redis_url;
mod responses;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod tracing;
mod unknown;
mod variables;
mod xds;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Args;

pub use self::tracing::TracingFlags;
pub use api::{ApiFlags, ApiSettings};
pub(crate) use arguments::secrets as secrets_in_arguments;
pub use denials::DenialFlags;
pub use flags::Flags;
pub use insight::{DecisionLogSettings, InsightFlags, InsightSettings};
pub use overload::{OverloadFlags, OverloadSettings};
pub(crate) use parse::boolean;
pub use redis_iam::RedisIamFlags;
pub use responses::{LimitHeaders, ResponseSettings};
pub use stats::{Mogrifier, StatsFlags, StatsSettings};
pub use store::{StoreKind, StoreSettings};
pub use tls::{HttpTlsFlags, TlsNames, TlsSettings};
pub use variables::{DIFFERENT_DEFAULTS, Environment, Fate, VARIABLES, ValueKind, Variable};
pub use xds::{XdsBackoff, XdsSettings, XdsTls};

use crate::{
    limit::{Algorithm, CountDenied, FailurePolicy},
    trace::TraceSettings,
};

/// All settings of `tollgate serve`.
#[derive(Clone, Debug)]
pub struct Settings {
    pub rules: RulesSettings,
    pub decisions: DecisionSettings,
    pub responses: ResponseSettings,
    pub store: StoreSettings,
    pub listeners: ListenerSettings,
    pub overload: OverloadSettings,
    pub api: ApiSettings,
    pub health: HealthSettings,
    pub insight: InsightSettings,
    pub process: ProcessSettings,
    pub stats: StatsSettings,
    /// Settings of traces; `None` if nothing is traced.
    pub traces: Option<TraceSettings>,
}

#[derive(Clone, Debug)]
pub struct RulesSettings {
    /// Files and directories that rules are read from.
    pub paths: Vec<PathBuf>,
    pub ignore_dotfiles: bool,
    /// Whether files in `paths` are rules whatever their names are: the `RUNTIME_*` directory.
    pub any_name: bool,
    pub merge_domains: bool,
    pub poll: Duration,
    pub allow_empty: bool,
    /// The control plane, if rules come from there instead of `paths`.
    pub control_plane: Option<XdsSettings>,
    /// Whether to listen before there are any rules (FORCE_START_WITHOUT_INITIAL_CONFIG).
    pub force_start: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct DecisionSettings {
    pub algorithm: Algorithm,
    pub count_denied: CountDenied,
    pub on_store_failure: FailurePolicy,
    /// Number of replicas; `None` counts those in Redis.
    pub expected_replicas: Option<u32>,
    pub shadow_mode: bool,
    pub quota_mode: bool,
    pub store_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct ListenerSettings {
    pub grpc: SocketAddr,
    pub grpc_uds: Option<PathBuf>,
    /// TLS of the gRPC listener; `None` serves in the clear.
    pub tls: Option<TlsSettings>,
    pub http: SocketAddr,
    /// TLS of the HTTP listener; `None` serves in the clear.
    pub http_tls: Option<TlsSettings>,
    pub admin: SocketAddr,
    /// Host names that requests to the admin listener may have, besides addresses and localhost.
    pub admin_hosts: Vec<String>,
    /// Whether the HTTP listener has the console, at `/console`.
    pub console: bool,
    pub metrics: Option<SocketAddr>,
    pub metrics_path: String,
    pub max_connection_age: Duration,
    pub max_connection_age_grace: Duration,
}

/// What health depends on, besides that the process isn't ending.
#[derive(Clone, Copy, Debug, Default)]
pub struct HealthSettings {
    /// Whether health needs rules of at least one domain.
    pub needs_rules: bool,
    /// Whether health needs a connection to Redis.
    pub needs_store_connection: bool,
}

#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// Number of worker threads; `None` is one for each core.
    pub workers: Option<usize>,
    pub drain_delay: Duration,
    pub shutdown_timeout: Duration,
    pub log_level: ::tracing::Level,
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// All settings that can't be read, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{} wrong:\n{}", if .0.len() == 1 { "a setting is" } else { "settings are" }, .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
pub struct Invalid(pub Vec<String>);

/// Findings about flags and environment, one line for each setting.
#[derive(Debug, Default)]
pub struct Findings {
    /// Settings that can't be read, or lack another setting: the service doesn't start.
    pub wrong: Vec<String>,
    /// Settings that can be read, and have no effect.
    pub idle: Vec<String>,
}

impl Settings {
    /// Checks every flag and variable, and starts nothing.
    pub fn findings(flags: &Flags, environment: &Environment) -> Findings {
        let mut read = SettingsReader::default();
        Settings::read_with(flags, environment, &mut read);
        Findings { wrong: read.wrong, idle: read.idle }
    }

    /// Reads every flag, and reports all that are wrong, together with wrong variables of the `environment`. Also
    /// returns lines about variables that are set without effect, and about secrets that others on the machine see.
    pub fn read(flags: &Flags, environment: &Environment) -> Result<(Settings, Vec<String>), Invalid> {
        let mut read = SettingsReader::default();
        let settings = Settings::read_with(flags, environment, &mut read);
        read.finish(settings)
    }

    fn read_with(flags: &Flags, environment: &Environment, read: &mut SettingsReader) -> Settings {
        let mut settings = Settings::resolve_with(flags, read);
        variables::notices(environment, read);
        read.idle.extend(flags.secrets_in_arguments.iter().cloned());
        settings.stats.local_cache = stats::local_cache(flags, environment);
        settings.stats.mogrifiers = stats::mogrifiers(flags, environment, read);
        settings.traces = tracing::traces(flags, environment, read);
        settings
    }

    /// Reads every flag, and reports all that are wrong.
    pub fn resolve(flags: &Flags) -> Result<Settings, Invalid> {
        let mut read = SettingsReader::default();
        let settings = Settings::resolve_with(flags, &mut read);
        read.finish(settings).map(|(settings, _)| settings)
    }

    fn resolve_with(flags: &Flags, read: &mut SettingsReader) -> Settings {
        let settings = Settings {
            rules: rules(flags, read),
            decisions: decisions(flags, read),
            responses: responses::responses(flags, read),
            store: store::store(flags, read),
            listeners: listeners(flags, read),
            overload: overload::overload(flags, read),
            api: api::api(flags, read),
            health: health(flags, read),
            insight: insight::insight(flags, read),
            process: process(flags, read),
            stats: stats::stats(flags, read),
            traces: None,
        };
        settings.conflicts(read);
        settings
    }

    /// Reports two TCP listeners on one address, with both names: they would fail one after the other at bind.
    fn conflicts(&self, read: &mut SettingsReader) {
        let listeners = &self.listeners;
        let grpc = listeners.grpc_uds.is_none().then_some(("GRPC_PORT", listeners.grpc));
        let all = [
            Some(("PORT", listeners.http)),
            Some(("DEBUG_PORT", listeners.admin)),
            listeners.metrics.map(|a| ("PROMETHEUS_ADDR", a)),
            grpc,
        ];
        let mut seen = BTreeSet::new();
        for (name, address) in all.into_iter().flatten().filter(|(_, address)| address.port() != 0) {
            if !seen.insert(address) {
                read.wrong.push(format!("{name}: {address} is taken by another listener of these settings"));
            }
        }
    }
}

fn rules(flags: &Flags, read: &mut SettingsReader) -> RulesSettings {
    // Every swap of a symlink above the rules is noticed, so the setting has no effect; but a value that can't be read
    // is reported.
    read.or("RUNTIME_WATCH_ROOT", &flags.runtime_watch_root, true, parse::boolean);
    let runtime = partners::names(&[
        ("RUNTIME_ROOT", &flags.runtime_root),
        ("RUNTIME_SUBDIRECTORY", &flags.runtime_subdirectory),
        ("RUNTIME_APPDIRECTORY", &flags.runtime_appdirectory),
        ("RUNTIME_WATCH_ROOT", &flags.runtime_watch_root),
    ]);
    let control_plane = xds::xds(flags, read);
    let given: Vec<PathBuf> = flags
        .rules
        .iter()
        .map(|path| without_line_end(path))
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    if control_plane.is_some() && !given.is_empty() {
        read.idle
            .push(partners::idle(&["TOLLGATE_RULES".into()], "CONFIG_TYPE is GRPC_XDS_SOTW, so rules come from there"));
    } else if !given.is_empty() && !runtime.is_empty() {
        read.idle.push(partners::idle(&runtime, "TOLLGATE_RULES says where the rules are"));
    }
    let root = PathBuf::from(set(&flags.runtime_root).unwrap_or("/srv/runtime_data/current"));
    let any_name = !runtime.is_empty() && given.is_empty();
    let paths = if !given.is_empty() {
        given
    } else if !runtime.is_empty() {
        let directory = root
            .join(set(&flags.runtime_subdirectory).unwrap_or_default())
            .join(set(&flags.runtime_appdirectory).unwrap_or("config"));
        vec![directory]
    } else {
        vec![PathBuf::from("config")]
    };
    RulesSettings {
        paths,
        any_name,
        ignore_dotfiles: read.or("RUNTIME_IGNOREDOTFILES", &flags.runtime_ignoredotfiles, false, parse::boolean),
        merge_domains: read.or("MERGE_DOMAIN_CONFIG", &flags.merge_domain_config, false, parse::boolean),
        poll: read.or("TOLLGATE_RULES_POLL", &flags.rules_poll, Duration::from_secs(30), parse::some_time),
        allow_empty: read.or("TOLLGATE_ALLOW_EMPTY_RULES", &flags.allow_empty_rules, false, parse::boolean),
        control_plane,
        force_start: read.or(
            "FORCE_START_WITHOUT_INITIAL_CONFIG",
            &flags.force_start_without_initial_config,
            false,
            parse::boolean,
        ),
    }
}

/// The defaults that TOLLGATE_COMPAT chooses together.
type CompatDefaults = (Algorithm, CountDenied, FailurePolicy);

fn decisions(flags: &Flags, read: &mut SettingsReader) -> DecisionSettings {
    let algorithm = |text: &str| {
        Algorithm::parse(text)
            .ok_or_else(|| format!("expected one of {}", Algorithm::ALL.map(Algorithm::name).join(", ")))
    };
    const WHEN: &[(&str, CountDenied)] = &[
        ("auto", CountDenied::Auto),
        ("reported", CountDenied::Reported),
        ("true", CountDenied::Always),
        ("false", CountDenied::Never),
    ];
    const POLICIES: &[(&str, FailurePolicy)] = &[
        ("open", FailurePolicy::Open),
        ("closed", FailurePolicy::Closed),
        ("local", FailurePolicy::Local),
        ("error", FailurePolicy::Error),
    ];
    const OURS: CompatDefaults = (Algorithm::SlidingWindow, CountDenied::Auto, FailurePolicy::Local);
    const COMPAT: &[(&str, CompatDefaults)] =
        &[("envoyproxy", (Algorithm::FixedWindow, CountDenied::Always, FailurePolicy::Error))];
    let (manner, when, policy) = read.or("TOLLGATE_COMPAT", &flags.compat, OURS, parse::word(COMPAT));
    let when = if stops_at_the_limit(flags, read) { CountDenied::Never } else { when };
    DecisionSettings {
        algorithm: read.or("TOLLGATE_ALGORITHM", &flags.algorithm, manner, algorithm),
        count_denied: read.or("TOLLGATE_COUNT_DENIED", &flags.count_denied, when, |text| match parse::boolean(text) {
            Ok(true) => Ok(CountDenied::Always),
            Ok(false) => Ok(CountDenied::Never),
            Err(_) => parse::word(WHEN)(text),
        }),
        on_store_failure: read.or("TOLLGATE_ON_STORE_FAILURE", &flags.on_store_failure, policy, parse::word(POLICIES)),
        expected_replicas: read.or("TOLLGATE_EXPECTED_REPLICAS", &flags.expected_replicas, None, |text| {
            parse::at_least(1)(text).map(|number| u32::try_from(number).ok())
        }),
        shadow_mode: read.or("SHADOW_MODE", &flags.shadow_mode, false, parse::boolean),
        quota_mode: read.or("QUOTA_MODE", &flags.quota_mode, false, parse::boolean),
        store_timeout: read.or(
            "TOLLGATE_STORE_TIMEOUT",
            &flags.store_timeout,
            Duration::from_millis(10),
            parse::some_time,
        ),
    }
}

/// Whether envoyproxy/ratelimit would count no denied hits: it counts them unless it is configured otherwise.
fn stops_at_the_limit(flags: &Flags, read: &mut SettingsReader) -> bool {
    const SWITCH: &str = "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT";
    let given = &flags.stop_cache_key_increment_when_overlimit;
    let is_on = read.or(SWITCH, given, false, parse::boolean);
    let why = match (set(&flags.compat), set(&flags.count_denied)) {
        (Some(_), None) => return is_on,
        (_, Some(when)) => format!("TOLLGATE_COUNT_DENIED is {when}"),
        (None, None) => "without TOLLGATE_COMPAT it is always so, and atomic: a denied request charges none of its \
            limits, except those that count denied hits (TOLLGATE_COUNT_DENIED)"
            .to_owned(),
    };
    if set(given).is_some() {
        read.idle.push(partners::idle(&[SWITCH.to_owned()], &why));
    }
    false
}

fn listeners(flags: &Flags, read: &mut SettingsReader) -> ListenerSettings {
    let mut address = |host: (&'static str, &Option<String>, [u8; 4]), port: (&'static str, &Option<String>, u16)| {
        let ip = read.or(host.0, host.1, IpAddr::from(host.2), parse::host);
        SocketAddr::new(ip, read.or(port.0, port.1, port.2, parse::port))
    };
    let any = [0, 0, 0, 0];
    let grpc = address(("GRPC_HOST", &flags.grpc_host, any), ("GRPC_PORT", &flags.grpc_port, 8081));
    let http = address(("HOST", &flags.host, any), ("PORT", &flags.port, 8080));
    // /rules and /-/reload show and do more than a stranger should be able to, so by default this isn't on every
    // interface.
    let admin = address(("DEBUG_HOST", &flags.debug_host, [127, 0, 0, 1]), ("DEBUG_PORT", &flags.debug_port, 6070));
    let day = Duration::from_secs(86_400);
    let metrics_address = SocketAddr::from((any, 9090));
    let metrics = read.or("PROMETHEUS_ADDR", &flags.prometheus_addr, metrics_address, parse::listen_address);
    let use_metrics = read.or("USE_PROMETHEUS", &flags.use_prometheus, true, parse::boolean);
    let metrics_path = read.or("PROMETHEUS_PATH", &flags.prometheus_path, "/metrics".to_string(), |text| {
        if text.starts_with('/') { Ok(text.to_string()) } else { Err("expected a path that begins with /".into()) }
    });
    let http_tls = tls::http_tls(&flags.http_tls, read);
    let console = read.or("TOLLGATE_CONSOLE", &flags.console, false, parse::boolean);
    if console {
        check_console(flags, http, http_tls.is_some(), read);
    }
    ListenerSettings {
        grpc,
        grpc_uds: set(&flags.grpc_uds).map(PathBuf::from),
        tls: tls::tls(flags, read),
        http,
        http_tls,
        admin,
        admin_hosts: read.or("TOLLGATE_ADMIN_HOSTS", &flags.admin_hosts, Vec::new(), parse::host_names),
        console,
        metrics: (use_metrics && !partners::is_true(&flags.stats.disable_stats)).then_some(metrics),
        metrics_path,
        max_connection_age: read.or("GRPC_MAX_CONNECTION_AGE", &flags.grpc_max_connection_age, day, parse::duration),
        max_connection_age_grace: read.or(
            "GRPC_MAX_CONNECTION_AGE_GRACE",
            &flags.grpc_max_connection_age_grace,
            Duration::from_secs(3_600),
            parse::duration,
        ),
    }
}

/// The console takes a token, which must not go over a network in the clear.
fn check_console(flags: &Flags, http: SocketAddr, has_tls: bool, read: &mut SettingsReader) {
    if !has_tls && !http.ip().is_loopback() {
        let why = "is needed beside TOLLGATE_CONSOLE, or a HOST that is a loopback address: its token would go over the \
                   network in the clear";
        read.missing("TOLLGATE_HTTP_TLS_CERT", why);
    }
    if set(&flags.api.api_token_file).is_none() {
        read.missing("TOLLGATE_API_TOKEN_FILE", "is needed beside TOLLGATE_CONSOLE, or nobody could sign in");
    }
}

fn health(flags: &Flags, read: &mut SettingsReader) -> HealthSettings {
    let mut condition = |variable, flag| read.or(variable, flag, false, parse::boolean);
    HealthSettings {
        needs_rules: condition(
            "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED",
            &flags.healthy_with_at_least_one_config_loaded,
        ),
        needs_store_connection: condition(
            "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION",
            &flags.redis_health_check_active_connection,
        ),
    }
}

fn process(flags: &Flags, read: &mut SettingsReader) -> ProcessSettings {
    use ::tracing::Level;
    // The levels of envoyproxy/ratelimit; its two above error are for its own end.
    const LEVELS: &[(&str, Level)] = &[
        ("panic", Level::ERROR),
        ("fatal", Level::ERROR),
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("warning", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
    let workers = |text: &str| parse::at_least(1)(text).map(|n| Some(n as usize));
    ProcessSettings {
        workers: read.or("TOLLGATE_WORKERS", &flags.workers, None, workers),
        drain_delay: read.or("TOLLGATE_DRAIN_DELAY", &flags.drain_delay, Duration::ZERO, parse::duration),
        shutdown_timeout: read.or(
            "TOLLGATE_SHUTDOWN_TIMEOUT",
            &flags.shutdown_timeout,
            Duration::from_secs(10),
            parse::duration,
        ),
        log_level: read.or("LOG_LEVEL", &flags.log_level, Level::INFO, parse::word(LEVELS)),
        log_format: read.or("LOG_FORMAT", &flags.log_format, LogFormat::Text, parse::word(FORMATS)),
    }
}

/// The value of a setting. An empty value is none, because that is how a template leaves a variable out. A line break
/// at the end is dropped, because files and `echo` put one behind secrets.
fn set(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(without_line_end).filter(|text| !text.is_empty())
}

fn without_line_end(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

/// Reads settings: collects what can't be read, and goes on with the default.
#[derive(Default)]
struct SettingsReader {
    wrong: Vec<String>,
    /// Lines about settings that can be read and have no effect.
    idle: Vec<String>,
}

impl SettingsReader {
    /// All that was wrong as an error, else the settings with the lines about those without effect.
    fn finish(self, settings: Settings) -> Result<(Settings, Vec<String>), Invalid> {
        if self.wrong.is_empty() { Ok((settings, self.idle)) } else { Err(Invalid(self.wrong)) }
    }

    fn or<T>(
        &mut self,
        variable: &str,
        text: &Option<String>,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = set(text) else { return default };
        parse(text).unwrap_or_else(|what| {
            self.refuse(variable, text, &what);
            default
        })
    }

    fn refuse(&mut self, variable: &str, text: &str, what: &str) {
        let flag = flag_of(variable);
        // Values that `--help` doesn't show don't go to the log either.
        if is_hidden(variable) || tracing::may_hold_a_secret(variable) {
            self.wrong.push(format!("{variable}{flag}: {what}"));
        } else {
            self.wrong.push(format!("{variable}{flag}: '{text}': {what}"));
        }
    }
}

/// ` (--its-flag)` if a flag of `serve` reads the variable too.
fn flag_of(variable: &str) -> String {
    let long = argument(variable, |arg| arg.get_long().map(str::to_owned)).flatten();
    long.map(|long| format!(" (--{long})")).unwrap_or_default()
}

fn is_hidden(variable: &str) -> bool {
    argument(variable, clap::Arg::is_hide_env_values_set).unwrap_or(false)
}

fn argument<T>(variable: &str, look: impl Fn(&clap::Arg) -> T) -> Option<T> {
    let command = Flags::augment_args(clap::Command::new("tollgate"));
    command.get_arguments().find(|arg| arg.get_env().is_some_and(|env| env == variable)).map(look)
}
