//! Where counters are: in memory or in Redis, which Redis, and the second one for limits whose window is one second. The
//! addresses and secrets are text here; what is made of them isn't known.

use std::{fmt, path::PathBuf, time::Duration};

use super::{Flags, Reader, denials, parse, set};
use crate::store::{key, redis::BUSY_POLL_MAX};

#[derive(Clone, Debug)]
pub struct StoreSettings {
    pub kind: StoreKind,
    /// Why this store was chosen, for the line that start-up logs.
    pub reason: &'static str,
    pub memory_max_bytes: u64,
    pub state_dir: Option<PathBuf>,
    pub redis: RedisFlags,
    /// For limits whose window is one second, if they have their own.
    pub per_second: Option<RedisFlags>,
}

impl StoreSettings {
    /// What to say of a second Redis beside a store that isn't Redis.
    pub(super) fn idle_per_second(&self) -> Option<String> {
        (self.kind == StoreKind::Memory && self.per_second.is_some()).then(|| {
            format!("REDIS_PERSECOND does nothing here: all limits are counted in memory, because {}", self.reason)
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Redis,
}

/// The Redis settings as given; [`crate::store::redis`] makes addresses and secrets of them.
#[derive(Clone, Default)]
pub struct RedisFlags {
    pub kind: RedisKind,
    pub url: String,
    pub socket_type: Option<SocketType>,
    pub auth: Option<String>,
    pub auth_file: Option<PathBuf>,
    pub sentinel_auth: Option<String>,
    pub tls: bool,
    pub tls_cacert: Option<PathBuf>,
    pub tls_client_cert: Option<PathBuf>,
    pub tls_client_key: Option<PathBuf>,
    pub tls_skip_hostname_verification: bool,
    pub connect_timeout: Duration,
    pub key_prefix: String,
    pub buckets: u32,
    /// How long an idle core watches for an answer before it sleeps.
    pub busy_poll: Duration,
    /// Of each core; 0 remembers none.
    pub denials_max_bytes: usize,
}

impl fmt::Debug for RedisFlags {
    /// Without the URL and the passwords: settings are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisFlags").field("kind", &self.kind).field("tls", &self.tls).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisKind {
    #[default]
    Single,
    Sentinel,
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketType {
    Tcp,
    Unix,
}

pub(super) fn store(flags: &Flags, read: &mut Reader) -> StoreSettings {
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
        read.wrong.push("REDIS_URL (--redis-url): is needed where BACKEND_TYPE is redis, e.g. redis:6379".into());
    }
    let redis = redis(flags, read);
    StoreSettings {
        kind,
        reason,
        memory_max_bytes: read.or("TOLLGATE_MEMORY_MAX_BYTES", &flags.memory_max_bytes, 512 << 20, parse::bytes),
        state_dir: set(&flags.state_dir).map(PathBuf::from),
        per_second: per_second(flags, read, &redis),
        redis,
    }
}

const KINDS: &[(&str, RedisKind)] =
    &[("single", RedisKind::Single), ("sentinel", RedisKind::Sentinel), ("cluster", RedisKind::Cluster)];
const SOCKETS: &[(&str, Option<SocketType>)] = &[("tcp", Some(SocketType::Tcp)), ("unix", Some(SocketType::Unix))];

/// The flags that say where a Redis is and who comes; their variables begin alike.
struct Place<'f> {
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

impl Place<'_> {
    /// What is the same for both Redis is that of `common`.
    fn read(&self, read: &mut Reader, common: RedisFlags) -> RedisFlags {
        let variable = |name: &str| format!("{}_{name}", self.prefix);
        RedisFlags {
            kind: read.or(&variable("TYPE"), self.kind, RedisKind::Single, parse::word(KINDS)),
            url: text(self.url).unwrap_or_default(),
            socket_type: read.or(&variable("SOCKET_TYPE"), self.socket_type, None, parse::word(SOCKETS)),
            auth: text(self.auth),
            auth_file: path(self.auth_file),
            sentinel_auth: text(self.sentinel_auth),
            tls: read.or(&variable("TLS"), self.tls, false, parse::boolean),
            connect_timeout: read.or(&variable("TIMEOUT"), self.timeout, Duration::from_secs(10), parse::duration),
            ..common
        }
    }
}

fn redis(flags: &Flags, read: &mut Reader) -> RedisFlags {
    let place = Place {
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
        buckets: read.or("TOLLGATE_REDIS_BUCKETS", &flags.redis_buckets, u64::from(key::BUCKETS), parse::at_least(1))
            as u32,
        busy_poll: read.or("TOLLGATE_REDIS_BUSY_POLL", &flags.redis_busy_poll, Duration::from_micros(500), busy_poll),
        denials_max_bytes: denials::denials_max_bytes(flags, read),
        ..RedisFlags::default()
    };
    place.read(read, common)
}

fn busy_poll(text: &str) -> Result<Duration, String> {
    let window = parse::duration(text)?;
    if window > BUSY_POLL_MAX {
        return Err(format!("expected at most {BUSY_POLL_MAX:?}: a Redis farther away is not worth a busy core"));
    }
    Ok(window)
}

/// Certificates, prefix and buckets are those of `main`, as in the reference.
fn per_second(flags: &Flags, read: &mut Reader, main: &RedisFlags) -> Option<RedisFlags> {
    if !read.or("REDIS_PERSECOND", &flags.redis_persecond, false, parse::boolean) {
        return None;
    }
    if set(&flags.redis_persecond_url).is_none() {
        read.wrong.push("REDIS_PERSECOND_URL: is needed where REDIS_PERSECOND is true, e.g. redis:6379".into());
    }
    let place = Place {
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
    Some(place.read(read, main.clone()))
}

fn text(text: &Option<String>) -> Option<String> {
    set(text).map(str::to_string)
}

fn path(text: &Option<String>) -> Option<PathBuf> {
    set(text).map(PathBuf::from)
}
