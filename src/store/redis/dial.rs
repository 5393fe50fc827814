//! Makes one connection: address, sockets, TLS, credentials. What is said over it is not known here.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
};
use tokio::sync::mpsc;

use super::settings::{Address, Auth, RedisSettings, Tls};

/// After so long without an acknowledgement the kernel gives the connection up: a timeout alone never makes redis-rs
/// reconnect, and a connection that leads nowhere would stay for a quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(2);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

/// Between asking one sentinel and the next.
const SENTINEL_AFTER: Duration = Duration::from_millis(50);

/// What a link leads to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Node(Address),
    /// Whichever node the sentinels name.
    Master {
        name: String,
        sentinels: Vec<Address>,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(address) => address.fmt(f),
            Target::Master { name, .. } => write!(f, "master {name}"),
        }
    }
}

/// Connects and greets; the end of the connection is told to `pushed`, even while nothing is being asked.
pub(super) async fn dial(
    target: &Target,
    settings: &RedisSettings,
    pushed: mpsc::UnboundedSender<PushInfo>,
) -> RedisResult<MultiplexedConnection> {
    match target {
        Target::Node(address) => node(address, settings, pushed).await,
        Target::Master { name, sentinels } => {
            let address = master(name, sentinels, settings).await?;
            let mut connection = node(&address, settings, pushed).await?;
            // Sentinels learn of a failover a moment after it; a node that was demoted says so itself.
            match redis::cmd("ROLE").query_async(&mut connection).await.and_then(role) {
                Ok(role) if role != "master" => Err(failed(format!("{address} is a {role}, not the master"))),
                _ => Ok(connection),
            }
        }
    }
}

async fn node(
    address: &Address,
    settings: &RedisSettings,
    pushed: mpsc::UnboundedSender<PushInfo>,
) -> RedisResult<MultiplexedConnection> {
    let client = client(address, settings.tls.as_ref(), redis_info(&settings.auth)?.set_db(settings.database))?;
    // Deadlines are kept by the lane, for a request's time includes its wait for a batch; a second timer would cost.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_push_sender(pushed)
        .set_pipeline_buffer_size(1024)
        .set_write_backpressure_boundary(64 * 1024);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// A connection for a question or two, whose end nobody needs to hear of.
pub(super) async fn plain(address: &Address, settings: &RedisSettings) -> RedisResult<MultiplexedConnection> {
    let (pushed, _) = mpsc::unbounded_channel();
    node(address, settings, pushed).await
}

/// The first answer of the sentinels. Each is given a moment before the next is asked too: the one that was lost together
/// with the master must not hold up the others.
async fn master(name: &str, sentinels: &[Address], settings: &RedisSettings) -> RedisResult<Address> {
    let mut last = failed("no sentinel is configured".to_owned());
    let mut asked: FuturesUnordered<_> = (0..)
        .zip(sentinels)
        .map(|(nth, sentinel)| async move {
            tokio::time::sleep(SENTINEL_AFTER * nth).await;
            ask_sentinel(sentinel, name, settings).await
        })
        .collect();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(address) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask_sentinel(sentinel: &Address, name: &str, settings: &RedisSettings) -> RedisResult<Address> {
    let client = client(sentinel, settings.tls.as_ref(), redis_info(&settings.sentinel_auth)?)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let found: Option<(String, u16)> =
        redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(name).query_async(&mut connection).await?;
    let (host, port) = found.ok_or_else(|| failed(format!("sentinel {sentinel} knows no master {name}")))?;
    Ok(Address::Tcp { host, port })
}

/// ROLE answers with lists of different shapes; the first item is the role.
fn role(answer: Value) -> RedisResult<String> {
    match answer {
        Value::Array(items) if !items.is_empty() => {
            Ok(redis::from_redis_value(items.into_iter().next().expect("not empty"))?)
        }
        other => Err(failed(format!("unexpected answer to ROLE: {other:?}"))),
    }
}

pub(super) fn failed(why: String) -> RedisError {
    std::io::Error::other(why).into()
}

/// RESP3, because only with it the end of an idle connection is noticed.
fn redis_info(auth: &Auth) -> RedisResult<RedisConnectionInfo> {
    let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    let read;
    let auth = match auth {
        Auth::File(path) => {
            read = Auth::parse(std::fs::read_to_string(path).map_err(|error| at(path, error))?.trim_end());
            &read
        }
        given => given,
    };
    Ok(match auth {
        Auth::Password { user: Some(user), password } => info.set_username(user).set_password(password),
        Auth::Password { user: None, password } => info.set_password(password),
        Auth::None | Auth::File(_) => info,
    })
}

fn client(address: &Address, tls: Option<&Tls>, info: RedisConnectionInfo) -> RedisResult<Client> {
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(USER_TIMEOUT)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(2));
    let whole = |addr: ConnectionAddr| -> RedisResult<ConnectionInfo> {
        Ok(addr.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(info))
    };
    match (address, tls) {
        (Address::Unix(path), _) => Client::open(whole(ConnectionAddr::Unix(path.clone()))?),
        (Address::Tcp { host, port }, None) => Client::open(whole(ConnectionAddr::Tcp(host.clone(), *port))?),
        (Address::Tcp { host, port }, Some(tls)) => {
            let addr = ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None };
            let client = Client::build_with_tls(whole(addr)?, certificates(tls)?)?;
            if !tls.any_host_name {
                return Ok(client);
            }
            // The certificates come with a fresh address, so this can only be said afterwards.
            let info = client.get_connection_info().clone();
            let mut addr = info.addr().clone();
            addr.set_danger_accept_invalid_hostnames(true);
            Client::open(info.set_addr(addr))
        }
    }
}

fn certificates(tls: &Tls) -> RedisResult<TlsCertificates> {
    let read = |path: &std::path::PathBuf| std::fs::read(path).map_err(|error| at(path, error));
    let client_tls = match (&tls.certificate_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        }
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert: tls.ca_file.as_ref().map(read).transpose()? })
}

fn at(path: &std::path::Path, error: std::io::Error) -> RedisError {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display())).into()
}
