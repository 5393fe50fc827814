//! Sends a batch to the collector: OTLP over gRPC, or as protobuf over HTTP. One connection, which is made when it is
//! needed and again when it is lost; certificates are read each time. It knows which failures may be tried again.

use std::{io::Write as _, path::PathBuf, time::Duration};

use bytes::{BufMut as _, Bytes};
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, Request, StatusCode, Uri,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HOST},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time,
};
use tonic::{
    Code, Status,
    codec::{Codec, CompressionEncoding, EncodeBuf, Encoder},
    metadata::MetadataMap,
    transport::Channel,
};
use tonic_prost::ProstDecoder;

use crate::tls::{self, explain};

/// The collector.
#[derive(Clone, Debug)]
pub struct Destination {
    pub protocol: OtlpProtocol,
    /// Its address with a scheme; `https` is TLS. The path is HTTP's.
    pub uri: Uri,
    /// Headers that are sent, such as a key.
    pub headers: HeaderMap,
    /// Timeout of one batch, with connecting.
    pub timeout: Duration,
    pub gzip: bool,
    /// The only authority that is trusted; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// Certificate and key of this client.
    pub identity: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    Grpc,
    Http,
}

/// Why a batch didn't arrive.
pub(super) enum ExportFailure {
    /// It may arrive later.
    Away(String),
    /// It will never arrive.
    Refused(String),
}

pub(super) struct Sender {
    destination: Destination,
    to: String,
    connection: Option<CollectorConnection>,
}

enum CollectorConnection {
    Grpc(Channel),
    Http(Http),
}

/// One connection of HTTP/1.1.
struct Http {
    requests: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl Drop for Http {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

type ExportResult = Result<Option<ExportTracePartialSuccess>, ExportFailure>;

impl Sender {
    pub(super) fn new(destination: Destination) -> Sender {
        let to = destination.uri.to_string();
        Sender { destination, to, connection: None }
    }

    /// The collector's address, for the log.
    pub(super) fn to(&self) -> &str {
        &self.to
    }

    pub(super) async fn send(&mut self, message: Bytes) -> ExportResult {
        let timeout = self.destination.timeout;
        let answer = match time::timeout(timeout, self.try_send(message)).await {
            Ok(answer) => answer,
            Err(_) => Err(ExportFailure::Away(format!("no answer within {timeout:?}"))),
        };
        if matches!(answer, Err(ExportFailure::Away(_))) {
            self.connection = None;
        }
        answer
    }

    async fn try_send(&mut self, message: Bytes) -> ExportResult {
        let is_gone = matches!(&self.connection, Some(CollectorConnection::Http(http)) if http.requests.is_closed());
        if self.connection.is_none() || is_gone {
            self.connection = None;
            self.connection = Some(CollectorConnection::open(&self.destination).await.map_err(ExportFailure::Away)?);
        }
        match self.connection.as_mut().expect("it was opened") {
            CollectorConnection::Grpc(channel) => over_grpc(channel.clone(), message, &self.destination).await,
            CollectorConnection::Http(http) => over_http(&mut http.requests, message, &self.destination).await,
        }
    }
}

impl CollectorConnection {
    /// Opens a connection; the error says why there is none.
    async fn open(destination: &Destination) -> Result<CollectorConnection, String> {
        match destination.protocol {
            OtlpProtocol::Grpc => channel(destination).await.map(CollectorConnection::Grpc),
            OtlpProtocol::Http => connection(destination).await.map(CollectorConnection::Http),
        }
    }
}

async fn over_grpc(channel: Channel, message: Bytes, destination: &Destination) -> ExportResult {
    let mut client = tonic::client::Grpc::new(channel);
    if destination.gzip {
        client = client.send_compressed(CompressionEncoding::Gzip);
    }
    client.ready().await.map_err(|error| ExportFailure::Away(explain(&error)))?;
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(destination.headers.clone());
    match client.unary(request, PathAndQuery::from_static(EXPORT), Encoded).await {
        Ok(response) => Ok(response.into_inner().partial_success),
        Err(status) => Err(judge(&status)),
    }
}

/// Sends messages that are encoded already, and reads answers.
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Encoded;
    type Decoder = ProstDecoder<ExportTraceServiceResponse>;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

/// As the protocol says which errors are worth another try; those of the transport have a cause, and are.
fn judge(status: &Status) -> ExportFailure {
    let why = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => ExportFailure::Away(why),
        _ if std::error::Error::source(status).is_some() => ExportFailure::Away(why),
        _ => ExportFailure::Refused(why),
    }
}

async fn over_http(requests: &mut SendRequest<Full<Bytes>>, message: Bytes, destination: &Destination) -> ExportResult {
    let away = |error: hyper::Error| ExportFailure::Away(explain(&error));
    requests.ready().await.map_err(away)?;
    let response = requests.send_request(http_request(message, destination)).await.map_err(away)?;
    let status = response.status();
    // The body is read to its end, because otherwise the connection couldn't be used again.
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| ExportFailure::Away(error.to_string()))?.to_bytes();
    match status {
        // A body that isn't such a message reports no refused spans.
        status if status.is_success() => {
            Ok(ExportTraceServiceResponse::decode(body).ok().and_then(|response| response.partial_success))
        }
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Err(ExportFailure::Away(status.to_string())),
        _ => Err(ExportFailure::Refused(status.to_string())),
    }
}

fn http_request(message: Bytes, destination: &Destination) -> Request<Full<Bytes>> {
    let mut body = message;
    let mut request = Request::new(Full::default());
    *request.method_mut() = http::Method::POST;
    let path = destination.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = path.into();
    *request.headers_mut() = destination.headers.clone();
    let headers = request.headers_mut();
    if let Some(authority) = destination.uri.authority()
        && let Ok(host) = authority.as_str().parse()
    {
        headers.insert(HOST, host);
    }
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/x-protobuf"));
    if destination.gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).expect("memory takes every byte");
        body = encoder.finish().expect("memory takes every byte").into();
        headers.insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    }
    *request.body_mut() = Full::from(body);
    request
}

async fn channel(destination: &Destination) -> Result<Channel, String> {
    let endpoint = tls::endpoint(destination.uri.clone()).connect_timeout(destination.timeout);
    let client = is_tls(destination).then(|| client(destination, &[tls::HTTP2]));
    tls::channel(endpoint, client).await
}

async fn connection(destination: &Destination) -> Result<Http, String> {
    let uri = &destination.uri;
    if is_tls(destination) {
        return handshake(tls::connect(uri, client(destination, &[])).await?).await;
    }
    let host = uri.host().unwrap_or("localhost").trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await;
    handshake(stream.map_err(|error| explain(&error))?).await
}

fn client(destination: &Destination, protocols: &'static [&'static [u8]]) -> tls::ClientTls {
    let (ca, identity) = (destination.ca.clone(), destination.identity.clone());
    tls::ClientTls { ca, identity, protocols, ..tls::ClientTls::default() }
}

async fn handshake(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Http, String> {
    let (requests, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|error| explain(&error))?;
    // The request that it ends reports why it ended.
    let connection = tokio::spawn(async move { connection.await.unwrap_or(()) });
    Ok(Http { requests, connection })
}

fn is_tls(destination: &Destination) -> bool {
    destination.uri.scheme_str() == Some("https")
}
