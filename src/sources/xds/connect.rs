//! One stream to the control plane: where it leads, in the clear or by TLS, and what goes with it. Knows nothing of what
//! is said on it.

use std::{error::Error, time::Duration};

use crate::proto::envoy::service::discovery::v3::{
    DiscoveryRequest, DiscoveryResponse, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use http::Uri;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue},
    transport::Channel,
};

use crate::{
    settings::{XdsSettings, XdsTls},
    tls,
};

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A control plane whose machine is gone is noticed by this, and one that hangs by the pings; those must not come
/// more often than every five minutes, or gRPC servers end the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(330);

/// A connection on which a stream can begin.
pub(super) struct DiscoveryConnection {
    client: AggregatedDiscoveryServiceClient<Channel>,
    headers: MetadataMap,
}

pub(super) struct DiscoveryStream {
    pub(super) requests: mpsc::Sender<DiscoveryRequest>,
    pub(super) responses: Streaming<DiscoveryResponse>,
}

/// The error is why there is none.
pub(super) async fn connect(settings: &XdsSettings) -> Result<DiscoveryConnection, String> {
    let mut headers = MetadataMap::new();
    for (name, value) in &settings.headers {
        let name = MetadataKey::<Ascii>::from_bytes(name.to_ascii_lowercase().as_bytes());
        let mut value = MetadataValue::<Ascii>::try_from(value.as_str()).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        headers.insert(name.map_err(|error| error.to_string())?, value);
    }
    let client = AggregatedDiscoveryServiceClient::new(channel(settings).await?);
    Ok(DiscoveryConnection { client: client.max_decoding_message_size(settings.max_message_bytes), headers })
}

impl DiscoveryConnection {
    /// Begins with `first`. Many servers say nothing, not even that they have heard, before there is a set to send.
    pub(super) async fn stream(mut self, first: DiscoveryRequest) -> Result<DiscoveryStream, Status> {
        let (requests, sent) = mpsc::channel(1);
        // There is room for one, so this never waits.
        let _ = requests.send(first).await;
        let mut request = Request::new(ReceiverStream::new(sent));
        *request.metadata_mut() = self.headers;
        let responses = self.client.stream_aggregated_resources(request).await?;
        Ok(DiscoveryStream { requests, responses: responses.into_inner() })
    }
}

async fn channel(settings: &XdsSettings) -> Result<Channel, String> {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let uri = format!("{scheme}://{}", settings.server).parse::<Uri>().map_err(|error| tls::explain(&error))?;
    let endpoint = tls::endpoint(uri)
        .connect_timeout(CONNECT_PATIENCE)
        .tcp_keepalive(Some(KEEP_ALIVE))
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    tls::channel(endpoint, settings.tls.as_ref().map(client)).await
}

fn client(tls: &XdsTls) -> tls::ClientTls {
    let (ca, identity, name) = (tls.ca.clone(), tls.identity.clone(), tls.server_name.clone());
    tls::ClientTls { ca, identity, name, protocols: &[tls::HTTP2], ..tls::ClientTls::default() }
}

/// In short: a status of the transport says the same several times over.
pub(super) fn explain(status: &Status) -> String {
    match status.source() {
        Some(cause) => tls::explain(cause),
        None => format!("{:?}: {}", status.code(), status.message()),
    }
}
