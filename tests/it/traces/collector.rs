//! A collector over gRPC or HTTP, which hands over what it gets. It reads spans by OpenTelemetry's own messages, not by
//! Tollgate's.

use std::{collections::BTreeMap, io::Read as _, net::SocketAddr, path::Path, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, Uri},
    routing::post,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, async_trait,
    codec::CompressionEncoding,
    transport::{Server, ServerTlsConfig},
};

use crate::harness::PATIENCE;

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    batches: mpsc::UnboundedReceiver<Batch>,
    /// Its own, so that all its connections end with it.
    runtime: Option<Runtime>,
}

type Batch = (String, BTreeMap<String, String>, ExportTraceServiceRequest);

/// All that came until there was enough; the path and the headers are the last batch's.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) spans: Vec<Span>,
}

/// Ids in hex, empty where there is none.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace_id: String,
    pub(crate) trace_state: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) kind: i32,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    attributes: BTreeMap<String, String>,
}

impl Span {
    /// An attribute, as text.
    pub(crate) fn of(&self, key: &str) -> &str {
        self.attributes.get(key).unwrap_or_else(|| panic!("no {key} in {self:?}"))
    }
}

impl Collector {
    pub(crate) async fn http() -> Collector {
        Collector::answering(StatusCode::OK).await
    }

    /// Over HTTP, with this status for everything.
    pub(crate) async fn refusing(status: u16) -> Collector {
        Collector::answering(StatusCode::from_u16(status).expect("a status")).await
    }

    async fn answering(status: StatusCode) -> Collector {
        Collector::start(move |listener, hand_over| async move {
            let _ = axum::serve(listener, router(status, hand_over)).await;
        })
        .await
    }

    /// Over HTTP with TLS, by the certificates in `dir`.
    pub(crate) async fn https(dir: &Path) -> Collector {
        let chain = vec![CertificateDer::from_pem_file(dir.join("server.pem")).expect("it was made")];
        let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).expect("it was made");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .expect("the certificate is good");
        let tls = TlsAcceptor::from(Arc::new(config));
        Collector::start(move |listener, hand_over| async move {
            let router = router(StatusCode::OK, hand_over);
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
                tokio::spawn(async move {
                    // Who doesn't trust the certificate goes away.
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        })
        .await
    }

    /// Over gRPC with TLS, to clients with a certificate.
    pub(crate) async fn grpc_with_tls(tls: ServerTlsConfig) -> Collector {
        Collector::start(|listener, hand_over| async move {
            let mut server = Server::builder().tls_config(tls).expect("the certificates are good");
            let service = TraceServiceServer::new(Service { hand_over });
            let _ = server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await;
        })
        .await
    }

    pub(crate) async fn grpc() -> Collector {
        Collector::start(|listener, hand_over| async move {
            let service = TraceServiceServer::new(Service { hand_over }).accept_compressed(CompressionEncoding::Gzip);
            let _ = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await;
        })
        .await
    }

    async fn start<F>(serve: impl FnOnce(TcpListener, mpsc::UnboundedSender<Batch>) -> F + Send + 'static) -> Collector
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (hand_over, batches) = mpsc::unbounded_channel();
        let (listening, address_found) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            listening.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, hand_over).await;
        });
        let address = address_found.await.expect("it listens");
        Collector { address, batches, runtime: Some(runtime) }
    }

    /// The first batch, however many are in it.
    pub(crate) async fn some_spans(&mut self) -> Received {
        let mut received = Received::default();
        self.receive(&mut received, 1).await;
        received
    }

    /// Waits until so many spans have come since the last call, and no more.
    pub(crate) async fn spans(&mut self, count: usize) -> Received {
        let mut received = Received::default();
        self.receive(&mut received, count).await;
        assert_eq!(received.spans.len(), count, "{:?}", received.spans);
        received
    }

    async fn receive(&mut self, received: &mut Received, count: usize) {
        while received.spans.len() < count {
            let batch = timeout(PATIENCE, self.batches.recv()).await;
            let Ok(Some((path, headers, request))) = batch else {
                panic!("{} of {count} spans came: {:?}", received.spans.len(), received.spans);
            };
            (received.path, received.headers) = (path, headers);
            for resource_spans in request.resource_spans {
                received.resource = attributes(&resource_spans.resource.expect("a resource").attributes);
                let spans = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
                received.spans.extend(spans.map(|span| Span {
                    name: span.name,
                    trace_id: hex(&span.trace_id),
                    trace_state: span.trace_state,
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    kind: span.kind,
                    began: span.start_time_unix_nano,
                    ended: span.end_time_unix_nano,
                    attributes: attributes(&span.attributes),
                }));
            }
        }
    }

    /// Gone, with every connection.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Takes whatever is posted, anywhere.
fn router(status: StatusCode, hand_over: mpsc::UnboundedSender<Batch>) -> Router {
    let take = move |uri: Uri, headers: axum::http::HeaderMap, body: Bytes| async move {
        let headers: BTreeMap<String, String> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect();
        let mut plain = body.to_vec();
        if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            plain.clear();
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).expect("gzip");
        }
        let request = ExportTraceServiceRequest::decode(&*plain).expect("a message");
        let _ = hand_over.send((uri.path().to_owned(), headers, request));
        (status, ExportTraceServiceResponse::default().encode_to_vec())
    };
    Router::new().fallback(post(take))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("an attribute of another kind: {other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

struct Service {
    hand_over: mpsc::UnboundedSender<Batch>,
}

#[async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _ = self.hand_over.send((String::new(), BTreeMap::new(), request.into_inner()));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
