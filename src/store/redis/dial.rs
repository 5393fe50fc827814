//! Makes one connection: address, sockets, TLS, credentials. What is said over it is not known here.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
};
use tokio::sync::mpsc;

use super::settings::{Address, Auth, RedisSettings, Tls};

/// After so long without an acknowledgement the kernel gives the connection up: a timeout alone never makes redis-rs
/// reconnect, and a connection that leads nowhere would stay for a quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(2);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

/// What a link leads to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Node(Address),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(address) => address.fmt(f),
        }
    }
}

/// Connects and greets; the end of the connection is told to `pushed`, even while nothing is being asked.
pub(super) async fn dial(
    target: &Target,
    settings: &RedisSettings,
    pushed: mpsc::UnboundedSender<PushInfo>,
) -> RedisResult<MultiplexedConnection> {
    let Target::Node(address) = target;
    let info = redis_info(&settings.auth)?.set_db(settings.database);
    let client = client(address, settings.tls.as_ref(), info)?;
    // Deadlines are kept by the lane, for a request's time includes its wait for a batch; a second timer would cost.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_push_sender(pushed)
        .set_pipeline_buffer_size(1024)
        .set_write_backpressure_boundary(64 * 1024);
    client.get_multiplexed_async_connection_with_config(&config).await
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
            Client::build_with_tls(whole(addr)?, certificates(tls)?)
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
