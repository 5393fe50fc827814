//! Flags and environment as they were written: text, unread. [`super::Settings`] is what they mean.
//! Every value is taken as a string, so that all that are wrong can be reported at once.

use clap::Args;

/// Flags of `tollgate serve`. An environment variable that is set but empty counts as unset.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Rule file or directory; may be given several times [default: $RUNTIME_ROOT/$RUNTIME_SUBDIRECTORY/$RUNTIME_APPDIRECTORY if set, else ./config]
    #[arg(long, value_name = "PATH", env = "TOLLGATE_RULES", value_delimiter = ',', help_heading = "Rules")]
    pub rules: Vec<String>,
    /// Root of the runtime directories of envoyproxy/ratelimit
    #[arg(long, value_name = "DIR", env = "RUNTIME_ROOT", help_heading = "Rules")]
    pub runtime_root: Option<String>,
    /// Directory below the root
    #[arg(long, value_name = "DIR", env = "RUNTIME_SUBDIRECTORY", help_heading = "Rules")]
    pub runtime_subdirectory: Option<String>,
    /// Directory of the rule files below the subdirectory [default: config]
    #[arg(long, value_name = "DIR", env = "RUNTIME_APPDIRECTORY", help_heading = "Rules")]
    pub runtime_appdirectory: Option<String>,
    /// Skip files and directories whose names begin with a dot ("..*" always are) [default: false]
    #[arg(long, value_name = "BOOL", env = "RUNTIME_IGNOREDOTFILES", help_heading = "Rules")]
    pub runtime_ignoredotfiles: Option<String>,
    /// Watch the root for a swapped symlink instead of the rules directory itself [default: true]
    #[arg(long, value_name = "BOOL", env = "RUNTIME_WATCH_ROOT", help_heading = "Rules")]
    pub runtime_watch_root: Option<String>,
    /// Merge files that name the same domain instead of refusing them [default: false]
    #[arg(long, value_name = "BOOL", env = "MERGE_DOMAIN_CONFIG", help_heading = "Rules")]
    pub merge_domain_config: Option<String>,
    /// How often the rules are read again where the file system reports no change [default: 30s]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_RULES_POLL", help_heading = "Rules")]
    pub rules_poll: Option<String>,
    /// Accept a reload that removes every domain [default: false]
    #[arg(long, value_name = "BOOL", env = "TOLLGATE_ALLOW_EMPTY_RULES", num_args = 0..=1, default_missing_value = "true", help_heading = "Rules")]
    pub allow_empty_rules: Option<String>,
    /// Listen before there are any rules; until they come every request gets an error [default: false]
    #[arg(long, value_name = "BOOL", env = "FORCE_START_WITHOUT_INITIAL_CONFIG", num_args = 0..=1, default_missing_value = "true", help_heading = "Rules")]
    pub force_start_without_initial_config: Option<String>,

    /// Where rules come from: FILE, or GRPC_XDS_SOTW for a control plane [default: FILE]
    #[arg(long, value_name = "NAME", env = "CONFIG_TYPE", help_heading = "Rules over xDS")]
    pub config_type: Option<String>,
    /// The control plane [default: localhost:18000]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "CONFIG_GRPC_XDS_SERVER_URL",
        hide_env_values = true,
        help_heading = "Rules over xDS"
    )]
    pub config_grpc_xds_server_url: Option<String>,
    /// Node id that this replica sends to the control plane [default: default]
    #[arg(long, value_name = "ID", env = "CONFIG_GRPC_XDS_NODE_ID", help_heading = "Rules over xDS")]
    pub config_grpc_xds_node_id: Option<String>,
    /// Node metadata that it sends besides: name=value,…
    #[arg(
        long,
        value_name = "PAIRS",
        env = "CONFIG_GRPC_XDS_NODE_METADATA",
        hide_env_values = true,
        help_heading = "Rules over xDS"
    )]
    pub config_grpc_xds_node_metadata: Option<String>,
    /// Headers that are sent to the control plane: name:value,…
    #[arg(
        long,
        value_name = "PAIRS",
        env = "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
        hide_env_values = true,
        help_heading = "Rules over xDS"
    )]
    pub config_grpc_xds_client_additional_headers: Option<String>,
    /// Connect to the control plane with TLS [default: false]
    #[arg(long, value_name = "BOOL", env = "CONFIG_GRPC_XDS_SERVER_USE_TLS", help_heading = "Rules over xDS")]
    pub config_grpc_xds_server_use_tls: Option<String>,
    /// Certificate authorities that may sign the control plane's certificate [default: those of the system]
    #[arg(long, value_name = "FILE", env = "CONFIG_GRPC_XDS_SERVER_TLS_CACERT", help_heading = "Rules over xDS")]
    pub config_grpc_xds_server_tls_cacert: Option<String>,
    /// The name in the control plane's certificate [default: the host of its address]
    #[arg(long, value_name = "NAME", env = "CONFIG_GRPC_XDS_SERVER_TLS_SAN", help_heading = "Rules over xDS")]
    pub config_grpc_xds_server_tls_san: Option<String>,
    /// Certificate shown to the control plane
    #[arg(long, value_name = "FILE", env = "CONFIG_GRPC_XDS_CLIENT_TLS_CERT", help_heading = "Rules over xDS")]
    pub config_grpc_xds_client_tls_cert: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "CONFIG_GRPC_XDS_CLIENT_TLS_KEY", help_heading = "Rules over xDS")]
    pub config_grpc_xds_client_tls_key: Option<String>,
    /// Wait after a connection that couldn't be made, doubled each time [default: 3s]
    #[arg(
        long,
        value_name = "DURATION",
        env = "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
        help_heading = "Rules over xDS"
    )]
    pub config_grpc_xds_server_connect_retry_interval: Option<String>,
    /// Wait after a stream that ended, doubled each time that one brings nothing [default: 10s]
    #[arg(long, value_name = "DURATION", env = "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", help_heading = "Rules over xDS")]
    pub xds_client_backoff_initial_interval: Option<String>,
    /// The longest wait [default: 60s]
    #[arg(long, value_name = "DURATION", env = "XDS_CLIENT_BACKOFF_MAX_INTERVAL", help_heading = "Rules over xDS")]
    pub xds_client_backoff_max_interval: Option<String>,
    /// Largest share that is taken off a wait at random [default: 0.5]
    #[arg(long, value_name = "NUMBER", env = "XDS_CLIENT_BACKOFF_RANDOM_FACTOR", help_heading = "Rules over xDS")]
    pub xds_client_backoff_random_factor: Option<String>,
    /// Whether waits are shortened at random [default: true]
    #[arg(long, value_name = "BOOL", env = "XDS_CLIENT_BACKOFF_JITTER", help_heading = "Rules over xDS")]
    pub xds_client_backoff_jitter: Option<String>,
    /// Largest response that is accepted, in bytes; 0 is the default [default: 4194304]
    #[arg(long, value_name = "N", env = "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", help_heading = "Rules over xDS")]
    pub xds_client_max_msg_size_in_bytes: Option<String>,

    /// envoyproxy: the defaults of algorithm, count-denied and on-store-failure are fixed_window, true and error
    #[arg(long, value_name = "NAME", env = "TOLLGATE_COMPAT", help_heading = "Decisions")]
    pub compat: Option<String>,
    /// Algorithm of limits that name none: sliding_window, fixed_window, sliding_log, token_bucket, leaky_bucket [default: sliding_window]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_ALGORITHM", help_heading = "Decisions")]
    pub algorithm: Option<String>,
    /// Whether refused hits consume the limit: auto (where Envoy reports them afterwards), reported, true, false [default: auto]
    #[arg(long, value_name = "WHEN", env = "TOLLGATE_COUNT_DENIED", help_heading = "Decisions")]
    pub count_denied: Option<String>,
    /// With TOLLGATE_COMPAT: denied hits don't count, as if count-denied were false [default: false]
    #[arg(long, value_name = "BOOL", env = "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", help_heading = "Decisions")]
    pub stop_cache_key_increment_when_overlimit: Option<String>,
    /// What is answered when the store fails and the rule doesn't say: open, closed, local, error [default: local]
    #[arg(long, value_name = "POLICY", env = "TOLLGATE_ON_STORE_FAILURE", help_heading = "Decisions")]
    pub on_store_failure: Option<String>,
    /// Replicas that share a limit while each counts for itself [default: as many as were last seen in Redis]
    #[arg(long, value_name = "N", env = "TOLLGATE_EXPECTED_REPLICAS", help_heading = "Decisions")]
    pub expected_replicas: Option<String>,
    /// Answer OK to every request, but count and report as if limits were enforced [default: false]
    #[arg(long, value_name = "BOOL", env = "SHADOW_MODE", help_heading = "Decisions")]
    pub shadow_mode: Option<String>,
    /// Treat every rule as if it had quota_mode [default: false]
    #[arg(long, value_name = "BOOL", env = "QUOTA_MODE", help_heading = "Decisions")]
    pub quota_mode: Option<String>,

    /// Put limit, remaining and reset of the tightest limit into response headers [default: false]
    #[arg(long, value_name = "BOOL", env = "LIMIT_RESPONSE_HEADERS_ENABLED", help_heading = "Responses")]
    pub limit_response_headers_enabled: Option<String>,
    /// Header of the limit's number [default: RateLimit-Limit]
    #[arg(long, value_name = "HEADER", env = "LIMIT_LIMIT_HEADER", help_heading = "Responses")]
    pub limit_limit_header: Option<String>,
    /// Header of what remains of it [default: RateLimit-Remaining]
    #[arg(long, value_name = "HEADER", env = "LIMIT_REMAINING_HEADER", help_heading = "Responses")]
    pub limit_remaining_header: Option<String>,
    /// Header of the seconds until its reset [default: RateLimit-Reset]
    #[arg(long, value_name = "HEADER", env = "LIMIT_RESET_HEADER", help_heading = "Responses")]
    pub limit_reset_header: Option<String>,
    /// Add the seconds to wait to refusals: true for the header Retry-After, or another header's name [default: false]
    #[arg(long, value_name = "HEADER", env = "TOLLGATE_RETRY_AFTER_HEADER", help_heading = "Responses")]
    pub retry_after_header: Option<String>,
    /// Put the request, the limit that decided and the metadata of rules into dynamic metadata [default: false]
    #[arg(long, value_name = "BOOL", env = "RESPONSE_DYNAMIC_METADATA", help_heading = "Responses")]
    pub response_dynamic_metadata: Option<String>,

    /// Where counters live: redis or memory [default: redis if REDIS_URL is set, else memory]
    #[arg(long, value_name = "NAME", env = "BACKEND_TYPE", help_heading = "Store")]
    pub backend_type: Option<String>,
    /// A decision waits for the store no longer than this, counted from the request's arrival; up to twice as long once it
    /// is on its way and its caller has the time [default: 10ms]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_STORE_TIMEOUT", help_heading = "Store")]
    pub store_timeout: Option<String>,
    /// Memory that the counters of the memory store may take, in bytes (512MiB, 2GiB, …) [default: 512MiB]
    #[arg(long, value_name = "BYTES", env = "TOLLGATE_MEMORY_MAX_BYTES", help_heading = "Store")]
    pub memory_max_bytes: Option<String>,
    /// Directory for snapshots of the memory store [default: none]
    #[arg(long, value_name = "DIR", env = "TOLLGATE_STATE_DIR", help_heading = "Store")]
    pub state_dir: Option<String>,
    /// Prefix of every key in Redis
    #[arg(long, value_name = "TEXT", env = "CACHE_KEY_PREFIX", help_heading = "Store")]
    pub cache_key_prefix: Option<String>,
    /// single, sentinel or cluster [default: single]
    #[arg(long, value_name = "TYPE", env = "REDIS_TYPE", help_heading = "Store")]
    pub redis_type: Option<String>,
    /// host:port, a socket's path, or redis[s]://…; for a cluster host:port,…; for Sentinel master,host:port,…
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true, help_heading = "Store")]
    pub redis_url: Option<String>,
    /// tcp or unix [default: as the URL looks]
    #[arg(long, value_name = "TYPE", env = "REDIS_SOCKET_TYPE", help_heading = "Store")]
    pub redis_socket_type: Option<String>,
    /// password or user:password; with a colon in it: default:PASSWORD
    #[arg(long, value_name = "SECRET", env = "REDIS_AUTH", hide_env_values = true, help_heading = "Store")]
    pub redis_auth: Option<String>,
    /// File that holds password or user:password, read again at each connection
    #[arg(long, value_name = "FILE", env = "REDIS_AUTH_FILE", help_heading = "Store")]
    pub redis_auth_file: Option<String>,
    /// password or user:password of the Sentinels
    #[arg(long, value_name = "SECRET", env = "REDIS_SENTINEL_AUTH", hide_env_values = true, help_heading = "Store")]
    pub redis_sentinel_auth: Option<String>,
    /// Connect to Redis with TLS [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_TLS", help_heading = "Store")]
    pub redis_tls: Option<String>,
    /// Certificate authorities that may sign Redis' certificate [default: those of the system]
    #[arg(long, value_name = "FILE", env = "REDIS_TLS_CACERT", help_heading = "Store")]
    pub redis_tls_cacert: Option<String>,
    /// Certificate shown to Redis
    #[arg(long, value_name = "FILE", env = "REDIS_TLS_CLIENT_CERT", help_heading = "Store")]
    pub redis_tls_client_cert: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "REDIS_TLS_CLIENT_KEY", help_heading = "Store")]
    pub redis_tls_client_key: Option<String>,
    /// Accept a certificate of another host name [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", help_heading = "Store")]
    pub redis_tls_skip_hostname_verification: Option<String>,
    /// Longest time that connecting to Redis may take [default: 10s]
    #[arg(long, value_name = "DURATION", env = "REDIS_TIMEOUT", help_heading = "Store")]
    pub redis_timeout: Option<String>,
    /// Hash tags that counters are spread over: a number, or slots for one in each slot of a cluster; the same on all replicas [default: those in use; in a new cluster slots, else 256]
    #[arg(long, value_name = "N", env = "TOLLGATE_REDIS_BUCKETS", help_heading = "Store")]
    pub redis_buckets: Option<String>,
    /// What a script may hold in a cluster: counters of all slots of a node, or of one slot [default: node]
    #[arg(long, value_name = "WORD", env = "TOLLGATE_REDIS_CLUSTER_BATCH", help_heading = "Store")]
    pub redis_cluster_batch: Option<String>,
    /// How long a core with nothing else to do watches for Redis' answer before it sleeps, up to 10ms; 0 never [default: 500us]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_REDIS_BUSY_POLL", help_heading = "Store")]
    pub redis_busy_poll: Option<String>,
    /// Count limits whose window is one second in a Redis of their own [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_PERSECOND", help_heading = "Store")]
    pub redis_persecond: Option<String>,
    /// Its type: single, sentinel or cluster [default: single]
    #[arg(long, value_name = "TYPE", env = "REDIS_PERSECOND_TYPE", help_heading = "Store")]
    pub redis_persecond_type: Option<String>,
    /// Its address, written as REDIS_URL is
    #[arg(long, value_name = "URL", env = "REDIS_PERSECOND_URL", hide_env_values = true, help_heading = "Store")]
    pub redis_persecond_url: Option<String>,
    /// tcp or unix [default: as the URL looks]
    #[arg(long, value_name = "TYPE", env = "REDIS_PERSECOND_SOCKET_TYPE", help_heading = "Store")]
    pub redis_persecond_socket_type: Option<String>,
    /// Its password or user:password
    #[arg(long, value_name = "SECRET", env = "REDIS_PERSECOND_AUTH", hide_env_values = true, help_heading = "Store")]
    pub redis_persecond_auth: Option<String>,
    /// File that holds its password or user:password, read again at each connection
    #[arg(long, value_name = "FILE", env = "REDIS_PERSECOND_AUTH_FILE", help_heading = "Store")]
    pub redis_persecond_auth_file: Option<String>,
    /// password or user:password of its Sentinels
    #[arg(
        long,
        value_name = "SECRET",
        env = "REDIS_PERSECOND_SENTINEL_AUTH",
        hide_env_values = true,
        help_heading = "Store"
    )]
    pub redis_persecond_sentinel_auth: Option<String>,
    /// Connect to it with TLS, with the certificates of REDIS_TLS_* [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_PERSECOND_TLS", help_heading = "Store")]
    pub redis_persecond_tls: Option<String>,
    /// Longest time that connecting to it may take [default: 10s]
    #[arg(long, value_name = "DURATION", env = "REDIS_PERSECOND_TIMEOUT", help_heading = "Store")]
    pub redis_persecond_timeout: Option<String>,

    #[command(flatten)]
    pub redis_iam: super::RedisIamFlags,

    /// [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS", env = "GRPC_HOST", help_heading = "Listeners")]
    pub grpc_host: Option<String>,
    /// The rate limit service, tollgate.v1.Tollgate, gRPC health and reflection; 0 takes a free port [default: 8081]
    #[arg(long, value_name = "PORT", env = "GRPC_PORT", help_heading = "Listeners")]
    pub grpc_port: Option<String>,
    /// Serve gRPC on this Unix socket instead of a port
    #[arg(long, value_name = "PATH", env = "GRPC_UDS", help_heading = "Listeners")]
    pub grpc_uds: Option<String>,
    /// Serve gRPC with TLS [default: false]
    #[arg(long, value_name = "BOOL", env = "GRPC_SERVER_USE_TLS", help_heading = "Listeners")]
    pub grpc_server_use_tls: Option<String>,
    /// Certificate chain of the gRPC listener; read again when it changes
    #[arg(long, value_name = "FILE", env = "GRPC_SERVER_TLS_CERT", help_heading = "Listeners")]
    pub grpc_server_tls_cert: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "GRPC_SERVER_TLS_KEY", help_heading = "Listeners")]
    pub grpc_server_tls_key: Option<String>,
    /// Clients must show a certificate of this authority, and of no other
    #[arg(long, value_name = "FILE", env = "GRPC_CLIENT_TLS_CACERT", help_heading = "Listeners")]
    pub grpc_client_tls_cacert: Option<String>,
    /// The same, as Envoy Gateway names it; GRPC_CLIENT_TLS_CACERT comes first
    #[arg(long, value_name = "FILE", env = "GRPC_SERVER_TLS_CA_CERT", help_heading = "Listeners")]
    pub grpc_server_tls_ca_cert: Option<String>,
    /// DNS name that a client's certificate must have
    #[arg(long, value_name = "NAME", env = "GRPC_CLIENT_TLS_SAN", help_heading = "Listeners")]
    pub grpc_client_tls_san: Option<String>,
    /// Age, 10 % more or less, at which a connection is asked to close (GOAWAY); 0 is never [default: 24h]
    #[arg(long, value_name = "DURATION", env = "GRPC_MAX_CONNECTION_AGE", help_heading = "Listeners")]
    pub grpc_max_connection_age: Option<String>,
    /// Time that it then has before it is closed; 0 is no end [default: 1h]
    #[arg(long, value_name = "DURATION", env = "GRPC_MAX_CONNECTION_AGE_GRACE", help_heading = "Listeners")]
    pub grpc_max_connection_age_grace: Option<String>,
    /// [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS", env = "HOST", help_heading = "Listeners")]
    pub host: Option<String>,
    /// /healthcheck, /livez, /readyz, /json, /v1 [default: 8080]
    #[arg(long, value_name = "PORT", env = "PORT", help_heading = "Listeners")]
    pub port: Option<String>,
    /// [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", env = "DEBUG_HOST", help_heading = "Listeners")]
    pub debug_host: Option<String>,
    /// The console at /, /rules, /rlconfig, /-/reload [default: 6070]
    #[arg(long, value_name = "PORT", env = "DEBUG_PORT", help_heading = "Listeners")]
    pub debug_port: Option<String>,
    /// Names by which the admin listener may be called, besides addresses and localhost: name,…
    #[arg(long, value_name = "NAMES", env = "TOLLGATE_ADMIN_HOSTS", help_heading = "Listeners")]
    pub admin_hosts: Option<String>,
    /// Serve the console on the HTTP listener too, at /console, behind a token [default: false]
    #[arg(long, value_name = "BOOL", env = "TOLLGATE_CONSOLE", num_args = 0..=1, default_missing_value = "true", help_heading = "Listeners")]
    pub console: Option<String>,
    /// Serve metrics for Prometheus [default: true]
    #[arg(long, value_name = "BOOL", env = "USE_PROMETHEUS", help_heading = "Listeners")]
    pub use_prometheus: Option<String>,
    /// [default: :9090]
    #[arg(long, value_name = "ADDRESS", env = "PROMETHEUS_ADDR", help_heading = "Listeners")]
    pub prometheus_addr: Option<String>,
    /// [default: /metrics]
    #[arg(long, value_name = "PATH", env = "PROMETHEUS_PATH", help_heading = "Listeners")]
    pub prometheus_path: Option<String>,

    #[command(flatten)]
    pub denials: super::DenialFlags,

    #[command(flatten)]
    pub overload: super::OverloadFlags,

    #[command(flatten)]
    pub http_tls: super::HttpTlsFlags,

    #[command(flatten)]
    pub api: super::ApiFlags,

    #[command(flatten)]
    pub insight: super::InsightFlags,

    #[command(flatten)]
    pub stats: super::StatsFlags,

    #[command(flatten)]
    pub tracing: super::TracingFlags,

    /// Be healthy only while a domain has rules [default: false]
    #[arg(long, value_name = "BOOL", env = "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", help_heading = "Process")]
    pub healthy_with_at_least_one_config_loaded: Option<String>,
    /// Be healthy only while a connection to Redis stands [default: false]
    #[arg(long, value_name = "BOOL", env = "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", help_heading = "Process")]
    pub redis_health_check_active_connection: Option<String>,
    /// Threads that decide, each with its own connections [default: one per core]
    #[arg(long, value_name = "N", env = "TOLLGATE_WORKERS", help_heading = "Process")]
    pub workers: Option<String>,
    /// Time between turning not ready and closing the listeners [default: 0s]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_DRAIN_DELAY", help_heading = "Process")]
    pub drain_delay: Option<String>,
    /// Time that requests in flight have to finish after that [default: 10s]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_SHUTDOWN_TIMEOUT", help_heading = "Process")]
    pub shutdown_timeout: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", env = "LOG_LEVEL", help_heading = "Process")]
    pub log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "LOG_FORMAT", help_heading = "Process")]
    pub log_format: Option<String>,

    /// What to say of secrets that stood in arguments, a line each.
    #[arg(skip)]
    pub secrets_in_arguments: Vec<String>,
}
