//! One gRPC connection: HTTP/2 from its first byte to its end, and which service each request goes to.

use std::{
    convert::Infallible, error::Error, io, net::SocketAddr, panic::AssertUnwindSafe, pin::Pin, sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::Either};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};
use tower::Service;

use super::{
    connection_limit::ConnectionPermit,
    framing::Framed,
    preface::FirstBytes,
    timeouts::{CancellableBody, TimedStream},
    tls::ListenerTls,
};
use crate::{
    clock,
    front::envoy::{
        ClientConnection, ConnectionAnswers, CoreAnswers, OtherBody, RateLimit, RegisteredConnection, ResponseBody,
    },
    metrics::{ListenerKind, Metrics, Refusal},
    settings::OverloadSettings,
};

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// As gRPC writes the code of a method that there isn't.
const UNIMPLEMENTED: &str = "12";

/// hyper's default of 200 is a queue in Envoy at a few thousand requests a second.
const STREAMS_MAX: u32 = 4_096;

/// Envoy resets a stream at its 20 ms timeout; with the default of 20 a burst of those ends the connection.
const PENDING_RESETS_MAX: usize = 1_024;

/// Envoy sends a few hundred bytes of its own, and with tracing what a client sent as `tracestate` or `baggage`: up to the
/// 60 KiB that it takes of headers itself. No client may make its request undecidable by them. They are gone once a call
/// is taken up.
const HEADER_BYTES_MAX: u32 = 96 << 10;

/// Calls of other services that each connection may have open though all common places are taken.
const OTHER_CALLS: usize = 16;

/// Longer is for ever, and can't be multiplied.
const AGE_MAX: Duration = Duration::from_secs(1 << 40);

/// What a core's connections share.
pub(crate) struct GrpcListener {
    /// Asked directly: the router that the other services go through costs as much as a decision.
    pub rate_limit: RateLimit,
    /// Health and reflection.
    pub others: Routes,
    pub metrics: Arc<Metrics>,
    /// Every connection is greeted with it.
    pub tls: Option<ListenerTls>,
    pub bounds: OverloadSettings,
    /// What its connections' clients have not taken.
    pub answers: Arc<CoreAnswers>,
    /// Places for calls of the other services, which may stay open for as long as their clients like.
    pub other_calls: Arc<Semaphore>,
    /// Zero: for ever.
    pub age: Duration,
    /// Zero: for ever.
    pub age_grace: Duration,
    /// Asks connections to finish what they have and to go (GOAWAY).
    pub stop: CancellationToken,
}

impl GrpcListener {
    /// Serves an accepted connection until it ends; `peer` is who connected, if it came over TCP.
    pub(super) async fn greet(
        self: Arc<GrpcListener>,
        io: impl AsyncRead + AsyncWrite + Unpin + 'static,
        peer: Option<SocketAddr>,
        permit: &Arc<ConnectionPermit>,
    ) {
        match &self.tls {
            None => self.serve(io, peer, permit).await,
            Some(tls) => {
                let stopped = self.stop.clone();
                let accepted = permit.until_closed(tls.accept(io, peer));
                if let Some(Some(Some(stream))) = stopped.run_until_cancelled(accepted).await {
                    self.serve(stream, peer, permit).await;
                }
            }
        }
    }

    async fn serve(
        self: Arc<GrpcListener>,
        io: impl AsyncRead + AsyncWrite + Unpin + 'static,
        peer: Option<SocketAddr>,
        permit: &Arc<ConnectionPermit>,
    ) {
        let mut io = TimedStream::new(io, self.bounds.client_timeout);
        let Some(first) = self.first_bytes(&mut io, permit).await else { return };
        // From now on it is nobody else's: a proxy keeps connections that it needs seldom.
        let _busy = permit.busy();
        if let Some(refusal) = first.refusal() {
            self.metrics.refusals.refused(refusal, peer);
            return self.metrics.clients.broken(ListenerKind::Grpc);
        }
        let io = Framed::new(first.bytes(), io, Arc::clone(&self.metrics), peer);
        let registered = self.answers.register(&self.stop);
        let calls = Arc::new(GrpcConnection {
            grpc: Arc::clone(&self),
            caller: ClientConnection::new(Arc::clone(registered.answers()), peer),
            answers: Arc::clone(registered.answers()),
            other_calls: Arc::new(Semaphore::new(OTHER_CALLS)),
            peer,
        });
        let _open = OpenConnection::new(&self.metrics);
        let ended = self.http2(io, calls, &registered).await;
        self.count(ended, &registered, peer);
    }

    /// Waits for what begins every connection. `None` where it does not come in time (which is counted), the client hangs up
    /// without a word, another connection needs its place, or nothing more is begun.
    async fn first_bytes(&self, io: &mut (impl AsyncRead + Unpin), permit: &ConnectionPermit) -> Option<FirstBytes> {
        let read = permit.until_closed(FirstBytes::read(io, self.bounds.client_timeout));
        let Some(in_time) = self.stop.run_until_cancelled(read).await.flatten()? else {
            self.metrics.clients.slow(ListenerKind::Grpc);
            return None;
        };
        in_time.ok()
    }

    /// Serves calls until the connection ends: by its client, by its age, or because it is asked to go.
    async fn http2(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + 'static,
        calls: Arc<GrpcConnection>,
        registered: &RegisteredConnection,
    ) -> hyper::Result<()> {
        let OverloadSettings { client_timeout, grpc_ping_interval, .. } = self.bounds;
        let service = service_fn(move |request| Arc::clone(&calls).route(request));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // No gRPC client reads it.
            .auto_date_header(false)
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            // Whoever is gone without a word, or reads nothing, does not answer it either.
            .keep_alive_interval((!grpc_ping_interval.is_zero()).then_some(grpc_ping_interval))
            .keep_alive_timeout(client_timeout)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = registered.close_requested() => {}
            () = time::sleep(aged(self.age)) => {}
        }
        if registered.untaken().is_some() {
            return Ok(());
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            // The grace ends what a client that ignores GOAWAY would keep open for ever.
            ended = time::timeout(or_ever(self.age_grace), connection.as_mut()) => ended.unwrap_or(Ok(())),
            () = registered.end_requested() => Ok(()),
        }
    }

    /// What ended a connection is the client's affair; that it did is counted. Whoever just hung up isn't.
    fn count(&self, ended: hyper::Result<()>, registered: &RegisteredConnection, peer: Option<SocketAddr>) {
        if let Some(answers) = registered.untaken() {
            self.metrics.clients.slow(ListenerKind::Grpc);
            return self.metrics.refusals.refused_times(Refusal::UnreadAnswer, answers, peer);
        }
        let Err(error) = ended else { return };
        let h2 = error.source().and_then(|why| why.downcast_ref::<h2::Error>());
        // hyper takes it out of the library's error.
        let io = error.source().and_then(|why| why.downcast_ref::<io::Error>());
        let is_stuck = io.is_some_and(|why| why.kind() == io::ErrorKind::TimedOut);
        if is_stuck {
            self.metrics.clients.slow(ListenerKind::Grpc);
            self.metrics.refusals.refused(Refusal::UnreadAnswer, peer);
        } else if error.is_timeout() {
            self.metrics.clients.slow(ListenerKind::Grpc);
        } else if h2.is_some_and(|why| !why.is_io()) {
            self.metrics.clients.broken(ListenerKind::Grpc);
            self.metrics.refusals.refused(Refusal::Connection, peer);
        }
    }
}

/// A connection that speaks HTTP/2, counted until it is dropped.
struct OpenConnection<'m>(&'m Metrics);

impl<'m> OpenConnection<'m> {
    fn new(metrics: &'m Metrics) -> OpenConnection<'m> {
        metrics.connected();
        OpenConnection(metrics)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}

type GrpcResult = Result<Response<ResponseBody>, Infallible>;

/// What the calls of one connection share.
struct GrpcConnection {
    grpc: Arc<GrpcListener>,
    caller: ClientConnection,
    answers: Arc<ConnectionAnswers>,
    /// Its own places, as for [`Grpc::other_calls`]: what other connections do must not keep it from asking for health.
    other_calls: Arc<Semaphore>,
    /// Who is at its other end, if it came over TCP.
    peer: Option<SocketAddr>,
}

impl GrpcConnection {
    /// Boxed, because hyper and tokio move a call's future eight times before it is done.
    fn route(self: Arc<GrpcConnection>, request: Request<Incoming>) -> Pin<Box<impl Future<Output = GrpcResult>>> {
        Box::pin(match request.uri().path() {
            SHOULD_RATE_LIMIT => {
                let call = self.grpc.rate_limit.take(request);
                Either::Left(async move { Ok(self.grpc.rate_limit.call(call, &self.caller).await) })
            }
            // Boxed, so that the requests that are not seldom don't carry room for it.
            _ => Either::Right(Box::pin(self.call_other_service(request))),
        })
    }

    async fn call_other_service(self: Arc<GrpcConnection>, request: Request<Incoming>) -> GrpcResult {
        let permit = [&self.other_calls, &self.grpc.other_calls].into_iter().find_map(|connection_limit| {
            // Closed by nobody.
            Arc::clone(connection_limit).try_acquire_owned().ok()
        });
        let Some(permit) = permit else {
            self.grpc.metrics.shed();
            return Ok(Status::resource_exhausted("too many calls are open").into_http());
        };
        let checked = (request.uri().path() == HEALTH_CHECK).then(clock::instant);
        let end = CancellationToken::new();
        let request = request.map(|body| CancellableBody::new(body, end.clone()));
        let answering = AssertUnwindSafe(self.grpc.others.clone().call(request)).catch_unwind();
        let answer = answering.await;
        if let Some(began) = checked {
            self.grpc.metrics.reference.checked(began.elapsed());
        }
        match answer {
            Ok(Ok(answer)) => {
                if answer.headers().get(Status::GRPC_STATUS).is_some_and(|status| status == UNIMPLEMENTED) {
                    self.grpc.metrics.refusals.refused(Refusal::UnknownMethod, self.peer);
                }
                let (answers, stop) = (Arc::clone(&self.answers), self.grpc.stop.clone());
                Ok(answer.map(|body| ResponseBody::Other(OtherBody::new(body, answers, permit, (stop, end)))))
            }
            Ok(Err(never)) => match never {},
            Err(_) => {
                self.grpc.metrics.panicked();
                Ok(Status::internal("the call failed; the service's log says where").into_http())
            }
        }
    }
}

/// An age, 10 % more or less: connections that came together must not all come again together.
fn aged(age: Duration) -> Duration {
    if age.is_zero() { Duration::MAX } else { age.min(AGE_MAX).mul_f64(rand::random_range(0.9..1.1)) }
}

fn or_ever(time: Duration) -> Duration {
    if time.is_zero() { Duration::MAX } else { time }
}
