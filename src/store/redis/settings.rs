//! How to reach Redis and how to use it, as plain values; secrets never show in `Debug`. It doesn't know where they
//! come from (flags, environment).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::aws_iam::TokenSource;
use super::breaker::Breakers;
use super::faults::{Faults, SettingNames};
use super::layout::{LAYOUT_RENEWAL, Layout};
use crate::{limit::Algorithm, privacy::Privacy, store::key::Buckets};

/// All settings of [`super::Redis`].
#[derive(Clone, Debug)]
pub struct RedisSettings {
    pub topology: Topology,
    /// TLS; `None` connects in the clear. Unix sockets ignore it.
    pub tls: Option<RedisTls>,
    pub auth: Auth,
    /// Credentials for the sentinels themselves; the master behind them gets `auth`.
    pub sentinel_auth: Auth,
    pub database: i64,
    /// Prefix of every key (`CACHE_KEY_PREFIX`).
    pub key_prefix: String,
    /// The buckets that counters are spread over, on which all replicas must agree; `None` takes those of the replicas
    /// that are there.
    pub buckets: Option<Buckets>,
    /// What a batch of a Cluster may hold.
    pub cluster_batch: ClusterBatch,
    /// Algorithm of limits that name none. Keys contain it, so replicas must agree on it too.
    pub default_algorithm: Algorithm,
    /// Timeout of one attempt to connect, with its greeting.
    pub connect_timeout: Duration,
    /// A connection is replaced before it is so old, without a gap: some servers end old ones, or those whose credentials
    /// have expired. `None` keeps connections.
    pub max_connection_age: Option<Duration>,
    /// Largest weight of a batch, in counters; counters that take more of Redis' time than most count as several. At
    /// 128 the cost of a call is spread so thin that more would only add latency. A single request may weigh more.
    pub batch_max: usize,
    /// Batches in flight at once. More than one are only used while full batches wait: a near Redis isn't faster with
    /// them.
    pub in_flight_max: usize,
    /// Requests that may be queued on one core; further ones are refused as overload.
    pub queue_max: usize,
    /// How long to poll for the reply to a small batch before the thread sleeps, if it has nothing else to do; 0 sleeps
    /// at once. At most [`super::BUSY_POLL_MAX`].
    pub busy_poll: Duration,
    /// Bytes of one core's denial cache; 0 caches nothing.
    pub denials_bytes_max: usize,
    /// Number of batches in a row without a reply after which the node's circuit breaker opens.
    pub timeouts_max: u32,
    pub names: SettingNames,
    /// How the log shows values in counters' keys.
    pub privacy: Privacy,
    /// Errors of this Redis that were logged. Stores that share the settings log each once.
    pub faults: Arc<Faults>,
    /// As `faults`, for circuit breakers.
    pub breakers: Arc<Breakers>,
    /// The buckets that were found to be in use. Stores that share the settings find them once.
    pub layout: Arc<Layout>,
    /// Time after which a connection renews the record of the buckets.
    pub layout_renewal: Duration,
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
            buckets: None,
            cluster_batch: ClusterBatch::default(),
            default_algorithm: Algorithm::default(),
            connect_timeout: Duration::from_secs(1),
            max_connection_age: None,
            batch_max: 128,
            in_flight_max: 8,
            queue_max: 16_384,
            busy_poll: Duration::ZERO,
            denials_bytes_max: 8 << 20,
            timeouts_max: 5,
            names: SettingNames::default(),
            privacy: Privacy::default(),
            faults: Arc::default(),
            breakers: Arc::default(),
            layout: Arc::default(),
            layout_renewal: LAYOUT_RENEWAL,
        }
    }
}

/// What a batch of a Cluster may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterBatch {
    /// Counters of all slots of a node, which one script decides: the keys are not declared.
    #[default]
    Node,
    /// Counters of one slot, for nodes that forbid scripts over several.
    Slot,
}

/// What stands behind the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    Single(Address),
    /// The sentinels say which node is the master of this name, at each connection.
    Sentinel {
        master: String,
        sentinels: Vec<Address>,
    },
    /// Any seed that answers knows the other nodes.
    Cluster {
        seeds: Vec<Address>,
    },
}

impl Topology {
    /// Whether any address is of a Unix socket.
    pub fn has_socket(&self) -> bool {
        let addresses = match self {
            Topology::Single(address) => std::slice::from_ref(address),
            Topology::Sentinel { sentinels: several, .. } | Topology::Cluster { seeds: several } => several,
        };
        addresses.iter().any(|address| matches!(address, Address::Unix(_)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Files of TLS. They are read again at each connection, so that a renewed certificate needs no restart.
#[derive(Clone, Debug, Default)]
pub struct RedisTls {
    /// Certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key of this client (mTLS).
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Accept a certificate that names another host; its chain is checked all the same.
    pub any_host_name: bool,
}

/// Credentials.
#[derive(Clone, Default)]
pub enum Auth {
    #[default]
    None,
    Password {
        /// Name of an ACL user; `None` is Redis' `default`.
        user: Option<String>,
        password: String,
    },
    /// A file with `password` or `user:password`; read at each connection.
    File(PathBuf),
    /// A token of AWS IAM, made for each connection.
    AwsIam(TokenSource),
}

impl Auth {
    /// Reads `password` or `user:password`, split at the first colon as REDIS_AUTH is; empty is none.
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
            Auth::AwsIam(tokens) => tokens.fmt(f),
        }
    }
}
