//! An ADS server whose every word is the test's: it says nothing by itself, and hands over each stream with what comes
//! on it.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
    google::protobuf::Any,
    ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit},
};
use prost::{Message, Name};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc, time::timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    Request, Response, Status, Streaming, async_trait,
    metadata::MetadataMap,
    transport::{Server, ServerTlsConfig},
};

use crate::harness::{PATIENCE, eventually};

pub(crate) struct ControlPlane {
    pub(crate) address: SocketAddr,
    streams: mpsc::UnboundedReceiver<Stream>,
    /// Its own, so that all its connections end with it.
    runtime: Option<Runtime>,
}

/// One stream of a client.
pub(crate) struct Stream {
    pub(crate) headers: MetadataMap,
    pub(super) requests: mpsc::UnboundedReceiver<DiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DiscoveryResponse, Status>>,
}

impl ControlPlane {
    pub(crate) async fn start() -> ControlPlane {
        ControlPlane::start_at("127.0.0.1:0".parse().unwrap(), None).await
    }

    pub(crate) async fn start_at(address: SocketAddr, tls: Option<ServerTlsConfig>) -> ControlPlane {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (hand_over, streams) = mpsc::unbounded_channel();
        let (listening, address_found) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            // One that was stopped a moment ago may still be closing its listener.
            let listener = eventually("the address is free", || async { TcpListener::bind(address).await.ok() }).await;
            listening.send(listener.local_addr().unwrap()).unwrap();
            let service = AggregatedDiscoveryServiceServer::new(Service { hand_over });
            let mut server = Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).expect("the certificates are good");
            }
            let _ = server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        let address = address_found.await.expect("it listens");
        ControlPlane { address, streams, runtime: Some(runtime) }
    }

    /// The next stream that a client opens.
    pub(crate) async fn stream(&mut self) -> Stream {
        soon("a stream", self.streams.recv()).await
    }

    /// The next stream, however long it takes.
    pub(super) async fn stream_some_time(&mut self) -> Stream {
        self.streams.recv().await.expect("the server is there as long as this")
    }

    /// No client has opened a stream that wasn't taken yet.
    pub(crate) fn was_left_alone(&self) -> bool {
        self.streams.is_empty()
    }

    /// Gone, with every connection: a port that nobody listens on.
    pub(crate) fn stop(mut self) -> SocketAddr {
        self.end();
        self.address
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end();
    }
}

impl Stream {
    pub(crate) async fn request(&mut self) -> DiscoveryRequest {
        soon("a request", self.requests.recv()).await
    }

    /// Sends a set; its nonce is made of the version.
    pub(crate) fn send(&self, version: &str, set: &[RateLimitConfig]) {
        self.send_any(version, set.iter().map(any).collect());
    }

    pub(crate) fn send_any(&self, version: &str, resources: Vec<Any>) {
        assert!(self.respond(version, &format!("nonce of {version}"), resources), "the stream is open");
    }

    /// Sends a set, if the client is still there.
    pub(super) fn send_with_nonce(&self, version: &str, nonce: &str, set: &[RateLimitConfig]) {
        self.respond(version, nonce, set.iter().map(any).collect());
    }

    /// Whether the client is still there.
    fn respond(&self, version: &str, nonce: &str, resources: Vec<Any>) -> bool {
        let response = DiscoveryResponse {
            version_info: version.to_owned(),
            nonce: nonce.to_owned(),
            type_url: RateLimitConfig::type_url(),
            resources,
            ..DiscoveryResponse::default()
        };
        self.responses.send(Ok(response)).is_ok()
    }

    /// Sends a set and waits until it is acknowledged.
    pub(crate) async fn put(&mut self, version: &str, set: &[RateLimitConfig]) {
        self.send(version, set);
        let answer = self.request().await;
        assert_eq!(answer.error_detail, None, "{version} is refused");
        assert_eq!(
            (answer.version_info, answer.response_nonce),
            (version.to_owned(), format!("nonce of {version}")),
            "{version} is acknowledged with its version and nonce"
        );
    }
}

async fn soon<T>(what: &str, coming: impl Future<Output = Option<T>>) -> T {
    let come = timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
    come.unwrap_or_else(|| panic!("the other side is gone: {what}"))
}

pub(crate) fn any(config: &RateLimitConfig) -> Any {
    Any { type_url: RateLimitConfig::type_url(), value: config.encode_to_vec() }
}

/// A domain with one limit per `user` and day; the resource is named as Envoy Gateway names it.
pub(crate) fn domain(name: &str, requests: u32) -> RateLimitConfig {
    let limit =
        RateLimitPolicy { unit: RateLimitUnit::Day as i32, requests_per_unit: requests, ..RateLimitPolicy::default() };
    let user = RateLimitDescriptor { key: "user".into(), rate_limit: Some(limit), ..RateLimitDescriptor::default() };
    RateLimitConfig { name: format!("default/eg/{name}"), domain: name.into(), descriptors: vec![user] }
}

struct Service {
    hand_over: mpsc::UnboundedSender<Stream>,
}

#[async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream =
        std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
    type DeltaAggregatedResourcesStream = UnboundedReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (responses, mut said) = mpsc::unbounded_channel();
        let (heard, requests) = mpsc::unbounded_channel();
        let headers = request.metadata().clone();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = incoming.message().await {
                if heard.send(request).is_err() {
                    return;
                }
            }
        });
        let _ = self.hand_over.send(Stream { headers, requests, responses });
        // As servers written in Go: no headers before the first message.
        let first = said.recv().await.ok_or_else(|| Status::aborted("the test is over"))?;
        Ok(Response::new(Box::pin(tokio_stream::once(first).chain(UnboundedReceiverStream::new(said)))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("the test speaks state of the world"))
    }
}
