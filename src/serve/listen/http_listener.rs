//! A listener that speaks HTTP/1: accepts, bounds what clients hold (connections, headers, bodies, time), and ends with the
//! process. Knows nothing of what is asked; a panic in an answer is a 500, counted, and ends nothing else.

use std::{convert::Infallible, error::Error, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc};

use axum::{Router, body::Body};
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header::CONNECTION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    accept::Failures,
    connection_limit::{BusyBody, ConnectionLimit, ConnectionPermit},
    timeouts::{TimedBody, TimedStream},
    tls::ListenerTls,
};
use crate::{
    metrics::{ListenerKind, Metrics},
    settings::OverloadSettings,
};

/// Browsers and proxies stay far below; what is longer gets 431.
const HEADER_BYTES_MAX: usize = 32 << 10;

/// What one connection may have buffered each way.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What a connection may ask for that has no other place than those for probes.
const PROBES: [&str; 3] = ["/healthcheck", "/livez", "/readyz"];

/// One of the HTTP listeners; cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpListener {
    pub surface: ListenerKind,
    pub router: Router,
    /// Every connection is greeted with it.
    pub tls: Option<ListenerTls>,
    pub bounds: OverloadSettings,
    pub metrics: Arc<Metrics>,
    /// Answers what is under way, then ends.
    pub stop: CancellationToken,
}

impl HttpListener {
    /// Serves until `stop`, then until the last connection is done.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let connection_limit = ConnectionLimit::new(self.bounds.http_connections_max, self.bounds.peer_connections_max);
        let connections = TaskTracker::new();
        let mut failures = Failures::of(self.surface);
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    failures.end();
                    let (permit, made_room) = connection_limit.acquire(Some(peer.ip()));
                    if permit.is_none() || made_room {
                        self.metrics.clients.refused(self.surface);
                    }
                    let Some(permit) = permit else { continue };
                    let this = self.clone();
                    connections.spawn(async move { permit.until_closed(this.greet(stream, peer, &permit)).await });
                }
                Err(error) => failures.wait_after(&error).await,
            }
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    async fn greet(&self, stream: TcpStream, peer: SocketAddr, permit: &Arc<ConnectionPermit>) {
        match &self.tls {
            None => self.connection(stream, permit).await,
            Some(tls) => {
                if let Some(Some(stream)) = self.stop.run_until_cancelled(tls.accept(stream, Some(peer))).await {
                    self.connection(stream, permit).await;
                }
            }
        }
    }

    /// One connection, from its first byte to its end.
    async fn connection(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        permit: &Arc<ConnectionPermit>,
    ) {
        let patience = self.bounds.client_timeout;
        let service = service_fn(|request| self.answer(request, permit));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_header_size(HEADER_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(TimedStream::new(io, patience)), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        match ended {
            Err(error) if is_slow(&error) => self.metrics.clients.slow(self.surface),
            Err(error) if error.is_parse() => self.metrics.clients.broken(self.surface),
            // Whoever hung up knows why.
            Ok(()) | Err(_) => {}
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        permit: &Arc<ConnectionPermit>,
    ) -> Result<Response<BusyBody<Body>>, Infallible> {
        let busy = permit.busy();
        if permit.is_for_probes() && !PROBES.contains(&request.uri().path()) {
            let mut full = Response::new(Body::from("too many connections\n"));
            *full.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            full.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Ok(full.map(|body| BusyBody::new(body, busy)));
        }
        let patience = self.bounds.client_timeout;
        let (metrics, surface) = (Arc::clone(&self.metrics), self.surface);
        let late = move || metrics.clients.slow(surface);
        let request = request.map(|body| Body::new(TimedBody::new(body, patience, late)));
        let answering = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind();
        let answer = match answering.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(never)) => match never {},
            Err(_) => {
                self.metrics.panicked();
                let mut failed = Response::new(Body::from("the request failed; the service's log says where\n"));
                *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                failed
            }
        };
        Ok(answer.map(|body| BusyBody::new(body, busy)))
    }
}

/// Whether the client was not waited for any longer.
fn is_slow(error: &hyper::Error) -> bool {
    let is_timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut;
    error.is_timeout() || error.source().and_then(|why| why.downcast_ref()).is_some_and(is_timed_out)
}
