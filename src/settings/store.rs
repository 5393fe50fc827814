//! Where counters are: in memory or in Redis, which Redis, and the second one for limits whose window is one second.

use std::{path::PathBuf, time::Duration};

use super::{
    Flags, SettingsReader, denials, parse,
    partners::{self, RequiredSetting, idle},
    redis_url::{RedisFlags, RedisKind, SocketType, outdone, redis_settings},
    set,
};
use crate::store::{
    key::Buckets,
    redis::{BUSY_POLL_MAX, ClusterBatch, RedisSettings},
};

#[derive(Clone, Debug)]
pub struct StoreSettings {
    pub kind: StoreKind,
    /// Why this store was chosen, for the line that start-up logs.
    pub reason: &'static str,
    pub memory_max_bytes: u64,
    pub state_dir: Option<PathBuf>,
    /// The settings of Redis; there if `kind` is [`StoreKind::Redis`].
    pub redis: Option<RedisSettings>,
    /// The settings of a second Redis for limits whose window is one second, if there is one.
    pub per_second: Option<RedisSettings>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Redis,
}

pub(super) fn store(flags: &Flags, read: &mut SettingsReader) -> StoreSettings {
    let url = set(&flags.redis_url);
    let (kind, reason) = match set(&flags.backend_type).map(str::to_ascii_lowercase).as_deref() {
        Some("redis") => (StoreKind::Redis, "BACKEND_TYPE is redis"),
        Some("memory") => (StoreKind::Memory, "BACKEND_TYPE is memory"),
        Some("memcache") => {
            read.refuse("BACKEND_TYPE", "memcache", "can't count a sliding window atomically; use redis or memory");
            (StoreKind::Memory, "")
        }
        Some(other) => {
            read.refuse("BACKEND_TYPE", other, "expected redis or memory");
            (StoreKind::Memory, "")
        }
        None if url.is_some() => (StoreKind::Redis, "REDIS_URL is set"),
        None => (StoreKind::Memory, "neither BACKEND_TYPE nor REDIS_URL is set"),
    };
    if kind == StoreKind::Redis && url.is_none() {
        read.missing("REDIS_URL", "is needed where BACKEND_TYPE is redis, e.g. redis:6379");
    }
    let first = redis(flags, read);
    let second = per_second(flags, read, &first);
    let (redis, per_second) = match kind {
        StoreKind::Redis => (resolved(first, read), second.and_then(|second| resolved(second, read))),
        StoreKind::Memory => {
            without_redis(flags, reason, read);
            (None, None)
        }
    };
    certificates(flags, [&redis, &per_second], read);
    StoreSettings {
        kind,
        reason,
        memory_max_bytes: read.or("TOLLGATE_MEMORY_MAX_BYTES", &flags.memory_max_bytes, 512 << 20, parse::bytes),
        state_dir: set(&flags.state_dir).map(PathBuf::from),
        redis,
        per_second,
    }
}

/// Resolves settings that have an address. A missing one is reported by the code that needs it.
fn resolved(flags: RedisFlags, read: &mut SettingsReader) -> Option<RedisSettings> {
    if flags.url.is_empty() {
        return None;
    }
    read.idle.extend(outdone(&flags));
    redis_settings(&flags).map_err(|what| read.wrong.push(what)).ok()
}

/// Reports settings of Redis while counters are in memory; refuses them if the address may have been forgotten.
fn without_redis(flags: &Flags, reason: &str, read: &mut SettingsReader) {
    let mut whose = partners::names(&[
        ("REDIS_TYPE", &flags.redis_type),
        ("REDIS_SOCKET_TYPE", &flags.redis_socket_type),
        ("REDIS_AUTH", &flags.redis_auth),
        ("REDIS_AUTH_FILE", &flags.redis_auth_file),
        ("REDIS_SENTINEL_AUTH", &flags.redis_sentinel_auth),
        ("REDIS_AWS_IAM_CACHE_NAME", &flags.redis_iam.redis_aws_iam_cache_name),
        ("REDIS_AWS_IAM_USER_ID", &flags.redis_iam.redis_aws_iam_user_id),
        ("REDIS_AWS_IAM_REGION", &flags.redis_iam.redis_aws_iam_region),
        ("TOLLGATE_REDIS_AWS_IAM_SERVICE", &flags.redis_iam.redis_aws_iam_service),
        ("REDIS_TLS_CACERT", &flags.redis_tls_cacert),
        ("REDIS_TLS_CLIENT_CERT", &flags.redis_tls_client_cert),
        ("REDIS_TLS_CLIENT_KEY", &flags.redis_tls_client_key),
    ]);
    whose.extend(partners::switches(&[
        ("REDIS_TLS", &flags.redis_tls),
        ("REDIS_AWS_IAM_AUTH", &flags.redis_iam.redis_aws_iam_auth),
        ("REDIS_AWS_IAM_SERVERLESS", &flags.redis_iam.redis_aws_iam_serverless),
        ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", &flags.redis_tls_skip_hostname_verification),
        ("REDIS_PERSECOND", &flags.redis_persecond),
    ]));
    let url = partners::names(&[("REDIS_URL", &flags.redis_url)]);
    if url.is_empty() && set(&flags.backend_type).is_none() {
        let partner = RequiredSetting {
            variable: "REDIS_URL",
            value: "the address of Redis",
            given: &flags.redis_url,
            is_on: false,
            without: "limits are counted in memory, by each replica for itself; BACKEND_TYPE=memory says that \
                they are meant to be (envoyproxy/ratelimit's default, /var/run/nutcracker/ratelimit.sock, is not used here)",
        };
        read.beside(&partner, &std::mem::take(&mut whose));
    }
    let tuning = partners::names(&[
        ("REDIS_TIMEOUT", &flags.redis_timeout),
        ("CACHE_KEY_PREFIX", &flags.cache_key_prefix),
        ("TOLLGATE_REDIS_BUCKETS", &flags.redis_buckets),
        ("TOLLGATE_REDIS_CLUSTER_BATCH", &flags.redis_cluster_batch),
        ("TOLLGATE_REDIS_BUSY_POLL", &flags.redis_busy_poll),
        ("TOLLGATE_REDIS_MAX_CONNECTION_AGE", &flags.redis_iam.redis_max_connection_age),
        ("TOLLGATE_DENIALS_MAX_BYTES", &flags.denials.denials_max_bytes),
        ("TOLLGATE_EXPECTED_REPLICAS", &flags.expected_replicas),
    ]);
    let health = ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", &flags.redis_health_check_active_connection);
    let names = [url, whose, tuning, partners::switches(&[health])].concat();
    if !names.is_empty() {
        read.idle.push(idle(&names, &format!("limits are counted in memory, because {reason}")));
    }
}

/// Reports certificates if neither Redis uses TLS; they are for both.
fn certificates(flags: &Flags, stores: [&Option<RedisSettings>; 2], read: &mut SettingsReader) {
    let certificate = ("REDIS_TLS_CLIENT_CERT", &flags.redis_tls_client_cert);
    let key = ("REDIS_TLS_CLIENT_KEY", &flags.redis_tls_client_key);
    read.pair(certificate, key);
    let mut names = partners::names(&[("REDIS_TLS_CACERT", &flags.redis_tls_cacert), certificate, key]);
    names.extend(partners::switches(&[(
        "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
        &flags.redis_tls_skip_hostname_verification,
    )]));
    // Without an address there is nothing to connect to.
    if stores[0].is_some() && stores.iter().all(|store| store.as_ref().is_none_or(|store| store.tls.is_none())) {
        let without = "Redis is spoken to in the clear (rediss:// in REDIS_URL is the same); \
            false says that it is meant to be";
        read.beside(&RequiredSetting::switch("REDIS_TLS", &flags.redis_tls, without), &names);
    }
    if let [Some(first), Some(second)] = stores
        && first.tls.is_some()
        && second.tls.is_none()
        && set(&flags.redis_persecond_tls).is_none()
    {
        let what = "REDIS_PERSECOND_TLS isn't set: the second Redis is spoken to in the clear, and the first with TLS; \
            false says that it is meant to be";
        read.idle.push(what.into());
    }
}

const KINDS: &[(&str, RedisKind)] =
    &[("single", RedisKind::Single), ("sentinel", RedisKind::Sentinel), ("cluster", RedisKind::Cluster)];
const CLUSTER_BATCHES: &[(&str, ClusterBatch)] = &[("node", ClusterBatch::Node), ("slot", ClusterBatch::Slot)];
const SOCKETS: &[(&str, Option<SocketType>)] = &[("tcp", Some(SocketType::Tcp)), ("unix", Some(SocketType::Unix))];

/// The flags with address and credentials of one Redis; their variables have one prefix.
struct RedisVariables<'f> {
    prefix: &'static str,
    kind: &'f Option<String>,
    url: &'f Option<String>,
    socket_type: &'f Option<String>,
    auth: &'f Option<String>,
    auth_file: &'f Option<String>,
    sentinel_auth: &'f Option<String>,
    tls: &'f Option<String>,
    timeout: &'f Option<String>,
}

impl RedisVariables<'_> {
    /// Reads the flags of one Redis; what both Redis share comes from `common`.
    fn read(&self, read: &mut SettingsReader, common: RedisFlags) -> RedisFlags {
        let variable = |name: &str| format!("{}_{name}", self.prefix);
        let kind = read.or(&variable("TYPE"), self.kind, RedisKind::Single, parse::word(KINDS));
        if set(self.url).is_some() {
            self.partners(kind, read);
        }
        RedisFlags {
            prefix: self.prefix,
            kind,
            url: text(self.url).unwrap_or_default(),
            socket_type: read.or(&variable("SOCKET_TYPE"), self.socket_type, None, parse::word(SOCKETS)),
            auth: text(self.auth),
            auth_file: path(self.auth_file),
            sentinel_auth: text(self.sentinel_auth),
            tls: read.or(&variable("TLS"), self.tls, None, |text| parse::boolean(text).map(Some)),
            connect_timeout: read.or(&variable("TIMEOUT"), self.timeout, Duration::from_secs(10), parse::some_time),
            ..common
        }
    }
}

impl RedisVariables<'_> {
    fn partners(&self, kind: RedisKind, read: &mut SettingsReader) {
        let variable = |name: &str| format!("{}_{name}", self.prefix);
        if set(self.sentinel_auth).is_some() && kind != RedisKind::Sentinel {
            let auth = variable("SENTINEL_AUTH");
            match set(self.kind) {
                Some(other) => read.idle.push(idle(&[auth], &format!("{} is {other}", variable("TYPE")))),
                None => read.missing(&variable("TYPE"), &format!("sentinel is needed beside {auth}")),
            }
        }
        if set(self.auth).is_some() && set(self.auth_file).is_some() {
            read.idle.push(idle(&[variable("AUTH")], &format!("{} is set, and comes first", variable("AUTH_FILE"))));
        }
    }
}

fn redis(flags: &Flags, read: &mut SettingsReader) -> RedisFlags {
    let place = RedisVariables {
        prefix: "REDIS",
        kind: &flags.redis_type,
        url: &flags.redis_url,
        socket_type: &flags.redis_socket_type,
        auth: &flags.redis_auth,
        auth_file: &flags.redis_auth_file,
        sentinel_auth: &flags.redis_sentinel_auth,
        tls: &flags.redis_tls,
        timeout: &flags.redis_timeout,
    };
    let common = RedisFlags {
        tls_cacert: path(&flags.redis_tls_cacert),
        tls_client_cert: path(&flags.redis_tls_client_cert),
        tls_client_key: path(&flags.redis_tls_client_key),
        tls_skip_hostname_verification: read.or(
            "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
            &flags.redis_tls_skip_hostname_verification,
            false,
            parse::boolean,
        ),
        key_prefix: text(&flags.cache_key_prefix).unwrap_or_default(),
        buckets: read.or("TOLLGATE_REDIS_BUCKETS", &flags.redis_buckets, None, |text| buckets(text).map(Some)),
        cluster_batch: read.or(
            "TOLLGATE_REDIS_CLUSTER_BATCH",
            &flags.redis_cluster_batch,
            ClusterBatch::default(),
            parse::word(CLUSTER_BATCHES),
        ),
        busy_poll: read.or("TOLLGATE_REDIS_BUSY_POLL", &flags.redis_busy_poll, Duration::from_micros(500), busy_poll),
        denials_max_bytes: denials::denials_max_bytes(flags, read),
        ..RedisFlags::default()
    };
    let mut redis = place.read(read, common);
    flags.redis_iam.first().read(flags, read, &mut redis);
    redis
}

fn buckets(text: &str) -> Result<Buckets, String> {
    Buckets::parse(text).ok_or_else(|| "expected a number of at least 1, or slots".to_owned())
}

fn busy_poll(text: &str) -> Result<Duration, String> {
    let window = parse::duration(text)?;
    if window > BUSY_POLL_MAX {
        return Err(format!("expected at most {BUSY_POLL_MAX:?}: a Redis farther away is not worth a busy core"));
    }
    Ok(window)
}

/// The second Redis. Certificates, key prefix and buckets are those of `main`, as in envoyproxy/ratelimit.
fn per_second(flags: &Flags, read: &mut SettingsReader, main: &RedisFlags) -> Option<RedisFlags> {
    if !read.or("REDIS_PERSECOND", &flags.redis_persecond, false, parse::boolean) {
        without_per_second(flags, read);
        return None;
    }
    if set(&flags.redis_persecond_url).is_none() {
        read.missing("REDIS_PERSECOND_URL", "is needed where REDIS_PERSECOND is true, e.g. redis:6379");
    }
    let place = RedisVariables {
        prefix: "REDIS_PERSECOND",
        kind: &flags.redis_persecond_type,
        url: &flags.redis_persecond_url,
        socket_type: &flags.redis_persecond_socket_type,
        auth: &flags.redis_persecond_auth,
        auth_file: &flags.redis_persecond_auth_file,
        sentinel_auth: &flags.redis_persecond_sentinel_auth,
        tls: &flags.redis_persecond_tls,
        timeout: &flags.redis_persecond_timeout,
    };
    let mut redis = place.read(read, main.clone());
    flags.redis_iam.per_second().read(flags, read, &mut redis);
    Some(redis)
}

/// Reports settings of a second Redis that isn't used.
fn without_per_second(flags: &Flags, read: &mut SettingsReader) {
    let mut names = partners::names(&[
        ("REDIS_PERSECOND_URL", &flags.redis_persecond_url),
        ("REDIS_PERSECOND_TYPE", &flags.redis_persecond_type),
        ("REDIS_PERSECOND_SOCKET_TYPE", &flags.redis_persecond_socket_type),
        ("REDIS_PERSECOND_AUTH", &flags.redis_persecond_auth),
        ("REDIS_PERSECOND_AUTH_FILE", &flags.redis_persecond_auth_file),
        ("REDIS_PERSECOND_SENTINEL_AUTH", &flags.redis_persecond_sentinel_auth),
        ("REDIS_PERSECOND_TIMEOUT", &flags.redis_persecond_timeout),
        ("REDIS_PERSECOND_AWS_IAM_CACHE_NAME", &flags.redis_iam.redis_persecond_aws_iam_cache_name),
        ("REDIS_PERSECOND_AWS_IAM_USER_ID", &flags.redis_iam.redis_persecond_aws_iam_user_id),
    ]);
    names.extend(partners::switches(&[
        ("REDIS_PERSECOND_TLS", &flags.redis_persecond_tls),
        ("REDIS_PERSECOND_AWS_IAM_AUTH", &flags.redis_iam.redis_persecond_aws_iam_auth),
        ("REDIS_PERSECOND_AWS_IAM_SERVERLESS", &flags.redis_iam.redis_persecond_aws_iam_serverless),
    ]));
    let without = "all limits are counted in the Redis of REDIS_URL; false says that they are meant to be";
    read.beside(&RequiredSetting::switch("REDIS_PERSECOND", &flags.redis_persecond, without), &names);
}

fn text(text: &Option<String>) -> Option<String> {
    set(text).map(str::to_string)
}

fn path(text: &Option<String>) -> Option<PathBuf> {
    set(text).map(PathBuf::from)
}
