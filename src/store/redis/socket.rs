//! Opens a socket to an address: TCP, in the clear or with TLS, or Unix. It doesn't know what is sent over it.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::select_ok;
use redis::RedisResult;
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::faults::failed;
use super::settings::{Address, RedisTls};
use crate::tls;

/// After so long without an acknowledgement the kernel gives the connection up: a timeout alone never makes a new one, and
/// a connection that leads nowhere would stay for a quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(2);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

pub(super) trait IoStream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> IoStream for S {}

pub(super) type Socket = Pin<Box<dyn IoStream>>;

pub(super) async fn open(address: &Address, tls: Option<&RedisTls>) -> RedisResult<Socket> {
    match (address, tls) {
        (Address::Unix(path), _) => Ok(Box::pin(UnixStream::connect(path).await?)),
        (Address::Tcp { host, port }, None) => Ok(Box::pin(tcp(host, *port).await?)),
        (Address::Tcp { host, port }, Some(tls)) => {
            let name = tls::server_name(host)?;
            let stream = tcp(host, *port).await?;
            let connector = tls::connector(client(tls)).await.map_err(failed)?;
            Ok(Box::pin(connector.connect(name, stream).await?))
        }
    }
}

/// To the first of the host's addresses that answers.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let found: Vec<_> = lookup_host((host, port)).await?.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
    }
    let (stream, _) = select_ok(found).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(2);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

fn client(tls: &RedisTls) -> tls::ClientTls {
    tls::ClientTls {
        ca: tls.ca_file.clone(),
        identity: tls.certificate_file.clone().zip(tls.key_file.clone()),
        hostname: if tls.any_host_name { tls::HostnameCheck::Any } else { tls::HostnameCheck::Checked },
        ..tls::ClientTls::default()
    }
}
