//! How to reach Redis and how to use it, as plain values; secrets never show in `Debug`. It doesn't know where they
//! come from (flags, environment).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::breaker::Breakers;
use super::faults::Faults;
use crate::limit::Algorithm;

/// Everything that [`super::Redis`] is told at start.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    pub topology: Topology,
    /// `None` talks in the clear. Unix sockets ignore it.
    pub tls: Option<Tls>,
    pub auth: Auth,
    /// For the sentinels themselves; the master behind them gets `auth`.
    pub sentinel_auth: Auth,
    pub database: i64,
    /// Before every key (`CACHE_KEY_PREFIX`).
    pub key_prefix: String,
    /// Into how many groups counters are hashed. Few, so that a Cluster's batches stay full; all replicas must agree.
    pub buckets: u32,
    /// Of rules that name none. Keys hold it, so replicas must agree on it too.
    pub default_algorithm: Algorithm,
    /// One attempt to connect, greetings included.
    pub connect_timeout: Duration,
    /// What one script may take of Redis, in counters; those that take more than most count as several. At 128 the cost of a
    /// call is spread so thin that more would only add latency. A single request may take more.
    pub batch_max: usize,
    /// Batches on the way at once, beyond the first only while full batches wait: a near Redis is not faster for them.
    pub in_flight_max: usize,
    /// Requests that may wait for a batch on one core; more are refused as overload.
    pub waiting_max: usize,
    /// How long an answer to a few requests is watched for before the thread sleeps, if it has nothing else to do; zero
    /// sleeps at once. At most [`super::BUSY_POLL_MAX`].
    pub busy_poll: Duration,
    /// What a core may remember of denials; 0 asks Redis each time.
    pub denials_bytes_max: usize,
    /// Batches to a node in a row without an answer, after which its circuit breaker opens.
    pub timeouts_max: u32,
    pub names: Names,
    /// What was said of this Redis; whoever shares the settings says it once.
    pub faults: Arc<Faults>,
    /// As `faults`, of circuit breakers.
    pub breakers: Arc<Breakers>,
}

impl RedisSettings {
    pub fn new(topology: Topology) -> RedisSettings {
        RedisSettings {
            topology,
            tls: None,
            auth: Auth::None,
            sentinel_auth: Auth::None,
            database: 0,
            key_prefix: String::new(),
            buckets: 256,
            default_algorithm: Algorithm::default(),
            connect_timeout: Duration::from_secs(1),
            batch_max: 128,
            in_flight_max: 8,
            waiting_max: 16_384,
            busy_poll: Duration::ZERO,
            denials_bytes_max: 8 << 20,
            timeouts_max: 5,
            names: Names::default(),
            faults: Arc::default(),
            breakers: Arc::default(),
        }
    }
}

/// What the settings of a Redis are called, so that a message can say where to look.
#[derive(Clone, Debug)]
pub struct Names {
    /// How they begin: `REDIS`, or `REDIS_PERSECOND` for the second one.
    pub prefix: &'static str,
    /// Where user and password come from, in words; names begin with `REDIS` here.
    pub auth: &'static str,
}

impl Default for Names {
    fn default() -> Names {
        Names { prefix: "REDIS", auth: "REDIS_AUTH or REDIS_AUTH_FILE" }
    }
}

impl Names {
    /// A message about the first Redis, of this one. Certificates are the same for both.
    pub(super) fn in_message(&self, text: &str) -> String {
        let text = text.replace("{auth}", self.auth);
        if self.prefix == "REDIS" {
            return text;
        }
        text.replace("REDIS_", &format!("{}_", self.prefix)).replace(&format!("{}_TLS_", self.prefix), "REDIS_TLS_")
    }
}

/// What stands behind the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    Single(Address),
    /// The sentinels are asked for the master of this name at each connection.
    Sentinel {
        master: String,
        sentinels: Vec<Address>,
    },
    /// Any seed that answers tells of the other nodes.
    Cluster {
        seeds: Vec<Address>,
    },
}

impl Topology {
    /// Whether any address is that of a Unix socket.
    pub fn has_socket(&self) -> bool {
        let addresses = match self {
            Topology::Single(address) => std::slice::from_ref(address),
            Topology::Sentinel { sentinels: several, .. } | Topology::Cluster { seeds: several } => several,
        };
        addresses.iter().any(|address| matches!(address, Address::Unix(_)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Files are read again at each connection, so that a renewed certificate needs no restart.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Instead of the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// With its key: how this client shows who it is (mTLS).
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Accept a certificate that names another host; its chain is checked all the same.
    pub any_host_name: bool,
}

/// Who connects.
#[derive(Clone, Default)]
pub enum Auth {
    #[default]
    None,
    Password {
        /// An ACL user; `None` is Redis' `default`.
        user: Option<String>,
        password: String,
    },
    /// Holds `password` or `user:password`; read at each connection.
    File(PathBuf),
}

impl Auth {
    /// `password` or `user:password`, split at the first colon as REDIS_AUTH is; empty is none.
    pub fn parse(text: &str) -> Auth {
        match text.split_once(':') {
            _ if text.is_empty() => Auth::None,
            Some((user, password)) => Auth::Password {
                user: Some(user.to_owned()).filter(|user| !user.is_empty()),
                password: password.to_owned(),
            },
            None => Auth::Password { user: None, password: text.to_owned() },
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auth::None => f.write_str("None"),
            Auth::Password { user, .. } => write!(f, "Password {{ user: {user:?}, password: <hidden> }}"),
            Auth::File(path) => write!(f, "File({path:?})"),
        }
    }
}
