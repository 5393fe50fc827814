//! One gRPC connection: HTTP/2 from its first byte to its end, and which service each request goes to.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Service;

use super::tls::Tls;
use crate::{
    metrics::Metrics,
    service::{RateLimit, Reply},
};

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// hyper's default of 200 is a queue in Envoy at a few thousand requests a second.
const STREAMS_MAX: u32 = 4_096;

/// Envoy resets a stream at its 20 ms timeout; with the default of 20 a burst of those ends the connection.
const PENDING_RESETS_MAX: usize = 1_024;

/// Longer is for ever, and can't be multiplied.
const AGE_MAX: Duration = Duration::from_secs(1 << 40);

/// What a core's connections share.
pub(super) struct Grpc {
    /// Asked directly: the router that the other services go through costs as much as a decision.
    pub rate_limit: RateLimit,
    /// Health and reflection.
    pub others: Routes,
    pub metrics: Arc<Metrics>,
    /// Every connection is greeted with it.
    pub tls: Option<Tls>,
    /// Zero: for ever.
    pub age: Duration,
    /// Zero: for ever.
    pub age_grace: Duration,
    /// Asks connections to finish what they have and to go (GOAWAY).
    pub stop: CancellationToken,
    /// Cancelled after the last connection: ends what they needed.
    pub closed: CancellationToken,
}

impl Grpc {
    /// Serves an accepted connection until it ends.
    pub(super) async fn greet(self: Arc<Grpc>, io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        match &self.tls {
            None => self.serve(io).await,
            Some(tls) => {
                let stopped = self.stop.clone();
                if let Some(Some(stream)) = stopped.run_until_cancelled(tls.accept(io)).await {
                    self.serve(stream).await;
                }
            }
        }
    }

    /// Its errors are the client's affair: it knows them better than we do.
    async fn serve(self: Arc<Grpc>, io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let this = Arc::clone(&self);
        let service = service_fn(move |request| Arc::clone(&this).route(request));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // No gRPC client reads it.
            .auto_date_header(false)
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        self.metrics.connected();
        let asked = tokio::select! {
            _ = connection.as_mut() => false,
            () = self.stop.cancelled() => true,
            () = time::sleep(aged(self.age)) => true,
        };
        if asked {
            connection.as_mut().graceful_shutdown();
            // The grace ends what a client that ignores GOAWAY would keep open for ever.
            let _ = time::timeout(or_ever(self.age_grace), connection).await;
        }
        self.metrics.disconnected();
    }

    async fn route(self: Arc<Grpc>, request: http::Request<Incoming>) -> Result<http::Response<Reply>, Infallible> {
        if request.uri().path() == SHOULD_RATE_LIMIT {
            return Ok(self.rate_limit.call(request).await);
        }
        // Boxed, so that the requests that are not seldom don't carry room for it.
        let answer = Box::pin(self.others.clone().call(request)).await?;
        Ok(answer.map(Reply::Other))
    }
}

/// An age, 10 % more or less: connections that came together must not all come again together.
fn aged(age: Duration) -> Duration {
    if age.is_zero() { Duration::MAX } else { age.min(AGE_MAX).mul_f64(rand::random_range(0.9..1.1)) }
}

fn or_ever(time: Duration) -> Duration {
    if time.is_zero() { Duration::MAX } else { time }
}
