//! Connections to servers, and gRPC channels, whose TLS is that of every other connection. Knows no services.

use std::{error::Error, io, time::Duration};

use http::{Uri, uri::Scheme};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{ClientTls, connector};

const HTTPS_PORT: u16 = 443;

/// The endpoint of an address, for [`channel`]. (tonic would do TLS of its own for `https`: the scheme stays in what is
/// sent, and not in the address.)
pub(crate) fn endpoint(uri: Uri) -> Endpoint {
    let mut parts = uri.clone().into_parts();
    if parts.scheme == Some(Scheme::HTTPS) {
        parts.scheme = Some(Scheme::HTTP);
    }
    match Uri::from_parts(parts) {
        Ok(plain) => Endpoint::from(plain).origin(uri),
        Err(_) => Endpoint::from(uri),
    }
}

/// Connects, with TLS if there is a `client`. The error says why not, and names the file if one is wrong.
pub(crate) async fn channel(endpoint: Endpoint, client: Option<ClientTls>) -> Result<Channel, String> {
    let Some(client) = client else { return endpoint.connect().await.map_err(|error| explain(&error)) };
    let name = client.name.clone();
    let connector = connector(client).await?;
    let keepalive = endpoint.get_tcp_keepalive();
    let dial = service_fn(move |uri: Uri| {
        let (name, connector) = (name.clone(), connector.clone());
        async move { dial(&uri, name, connector, keepalive).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(dial).await.map_err(|error| explain(&error))
}

/// A connection to the server of an address, and nothing spoken on it yet. The error is why not; where a file is at fault it
/// is named.
pub(crate) async fn connect(uri: &Uri, client: ClientTls) -> Result<TlsStream<TcpStream>, String> {
    let name = client.name.clone();
    let connector = connector(client).await?;
    dial(uri, name, connector, None).await.map_err(|error| explain(&error))
}

async fn dial(
    uri: &Uri,
    name: Option<String>,
    connector: TlsConnector,
    keepalive: Option<Duration>,
) -> io::Result<TlsStream<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTPS_PORT))).await?;
    stream.set_nodelay(true)?;
    if let Some(after) = keepalive {
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
    }
    connector.connect(server_name(name.as_deref().unwrap_or(host))?, stream).await
}

/// The name that a server's certificate must have.
pub(crate) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    name.map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{host} is no name that a certificate can have"))
    })
}

/// An error with all its causes; the outer ones say little.
pub(crate) fn explain(error: &dyn Error) -> String {
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push(error.to_string());
        cause = error.source();
    }
    said.dedup();
    said.join(": ")
}
