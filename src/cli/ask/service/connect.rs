//! Connections to one service. Which protocol it speaks is said by its handshake, or, in the clear, found out: by the port
//! that the gRPC listener has by default, and by what happens.

use std::{
    error::Error,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use bytes::Bytes;
use http::{HeaderValue, Response, uri::Scheme};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{Call, ServiceAddress};
use crate::tls;

/// The gRPC listener's, if nothing else is set.
const GRPC_PORT: u16 = 8_081;

pub(super) fn explain(error: &dyn Error) -> String {
    tls::explain(error)
}

/// A connection that can be used again.
pub(super) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Of HTTP.
    fn version(&self) -> u8 {
        match self {
            Connection::Http1(_) => 1,
            Connection::Http2(_) => 2,
        }
    }
}

/// The connections to one service.
pub(super) struct Connections {
    place: ServiceAddress,
    /// Those on which no call is under way; of HTTP/2 the only one, always.
    idle: Mutex<Vec<Connection>>,
    /// What it speaks: 0 until it is known.
    version: AtomicU8,
}

impl Connections {
    pub(super) fn new(place: ServiceAddress) -> Connections {
        Connections { place, idle: Mutex::default(), version: AtomicU8::new(0) }
    }

    /// Sends a call; the error says why there is no answer. The connection is to be given back once the answer was read.
    pub(super) async fn send(
        &self,
        call: &Call,
        token: Option<&HeaderValue>,
    ) -> Result<(Response<Incoming>, Connection), String> {
        let mut connection = self.connection().await?;
        match self.send_on(&mut connection, call, token).await {
            Ok(response) => {
                self.version.store(connection.version(), Relaxed);
                Ok((response, connection))
            }
            // A listener for the other protocol hangs up at the first bytes, and has taken nothing.
            // Another call may have found out which it is while this one was under way.
            Err(error) if self.version.load(Relaxed) != connection.version() && hung_up(&error) => {
                let first = explain(&error);
                let mut other = match connection {
                    Connection::Http1(_) => self.dial(true).await?,
                    Connection::Http2(_) => self.dial(false).await?,
                };
                let response = self.send_on(&mut other, call, token).await.map_err(|_| first)?;
                self.version.store(other.version(), Relaxed);
                Ok((response, other))
            }
            Err(error) => Err(explain(&error)),
        }
    }

    pub(super) fn put_back(&self, connection: Connection) {
        if let Connection::Http1(_) = connection {
            self.idle.lock().push(connection);
        }
    }

    async fn connection(&self) -> Result<Connection, String> {
        loop {
            let found = match &mut *self.idle.lock() {
                idle if matches!(idle.last(), Some(Connection::Http2(_))) => match idle.last() {
                    Some(Connection::Http2(sender)) if !sender.is_closed() => {
                        return Ok(Connection::Http2(sender.clone()));
                    }
                    _ => idle.pop(),
                },
                idle => idle.pop(),
            };
            match found {
                Some(Connection::Http1(mut sender)) => {
                    if sender.ready().await.is_ok() {
                        return Ok(Connection::Http1(sender));
                    }
                }
                Some(Connection::Http2(_)) => {}
                None => break,
            }
        }
        let is_http2 = match self.version.load(Relaxed) {
            0 => self.place.uri.port_u16() == Some(GRPC_PORT),
            version => version == 2,
        };
        self.dial(is_http2).await
    }

    /// `is_http2` is meant for connections in the clear; in a handshake the service chooses.
    async fn dial(&self, is_http2: bool) -> Result<Connection, String> {
        let uri = &self.place.uri;
        if uri.scheme() == Some(&Scheme::HTTPS) {
            let client = tls::ClientTls {
                ca: self.place.cacert.clone(),
                protocols: &[tls::HTTP2, tls::HTTP1],
                ..tls::ClientTls::default()
            };
            let stream = tls::connect(uri, client).await?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
            return self.greet(stream, is_http2).await;
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.map_err(|error| explain(&error))?;
        stream.set_nodelay(true).map_err(|error| explain(&error))?;
        self.greet(stream, is_http2).await
    }

    async fn greet(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_http2: bool,
    ) -> Result<Connection, String> {
        let io = TokioIo::new(io);
        // The request that a connection ends reports why it ended.
        if is_http2 {
            let greeted = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = greeted.map_err(|error| explain(&error))?;
            tokio::spawn(async move { connection.await.unwrap_or(()) });
            let mut idle = self.idle.lock();
            idle.clear();
            idle.push(Connection::Http2(sender.clone()));
            return Ok(Connection::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(|error| explain(&error))?;
        tokio::spawn(async move { connection.await.unwrap_or(()) });
        Ok(Connection::Http1(sender))
    }

    async fn send_on(
        &self,
        connection: &mut Connection,
        call: &Call,
        token: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, SendError> {
        let is_http2 = matches!(connection, Connection::Http2(_));
        let request = call.request(&self.place, token, is_http2).map_err(SendError::Request)?;
        match connection {
            Connection::Http1(sender) => Ok(sender.send_request(request).await?),
            Connection::Http2(sender) => Ok(sender.send_request(request).await?),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the request can't be written: {0}")]
    Request(String),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Whether the other side ended the connection without a word in the protocol that it was spoken to in.
fn hung_up(error: &SendError) -> bool {
    match error {
        SendError::Request(_) => false,
        SendError::Http(error) => !error.is_user(),
    }
}
