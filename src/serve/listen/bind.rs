//! Binds all listeners before anything is served: a port that is taken, or a certificate that can't be read, is an error at
//! once.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use tokio::net::TcpListener;
use tracing::info;

use super::{
    accept::Listener,
    tls::{CertificateReloader, ListenerTls},
};
use crate::{
    metrics::Metrics,
    settings::{ListenerSettings, TlsSettings},
};

/// Listeners that are bound.
pub(crate) struct BoundListeners {
    pub grpc: Listener,
    pub grpc_tls: Option<ListenerTls>,
    pub http: TcpListener,
    pub http_tls: Option<ListenerTls>,
    pub admin: TcpListener,
    pub metrics: Option<TcpListener>,
    /// What reads certificates again when their files change.
    pub certificates: Vec<CertificateReloader>,
}

impl BoundListeners {
    /// Reads the certificates, then binds.
    pub(crate) async fn open(listeners: &ListenerSettings, metrics: &Arc<Metrics>) -> anyhow::Result<BoundListeners> {
        let load = |tls: &Option<TlsSettings>| tls.as_ref().map(|tls| ListenerTls::load(tls, metrics)).transpose();
        let (grpc_tls, grpc_certificates) = load(&listeners.tls)?.unzip();
        let (http_tls, http_certificates) = load(&listeners.http_tls)?.unzip();
        let certificates = [grpc_certificates, http_certificates].into_iter().flatten().collect();
        let grpc = bind_grpc(listeners).await?;
        let metrics = match listeners.metrics {
            Some(address) => Some(bind("metrics", "PROMETHEUS_ADDR", address).await?),
            None => None,
        };
        let http = bind("http", "PORT", listeners.http).await?;
        let admin = bind("admin", "DEBUG_PORT", listeners.admin).await?;
        Ok(BoundListeners { grpc, grpc_tls, http, http_tls, admin, metrics, certificates })
    }
}

async fn bind_grpc(listeners: &ListenerSettings) -> anyhow::Result<Listener> {
    let Some(path) = &listeners.grpc_uds else {
        return Ok(Listener::Tcp(bind("grpc", "GRPC_PORT", listeners.grpc).await?));
    };
    let listener = Listener::bind_unix(path).with_context(|| format!("GRPC_UDS: can't bind {}", path.display()))?;
    info!(listener = "grpc", address = %path.display(), "listening");
    Ok(listener)
}

async fn bind(listener: &'static str, variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await.with_context(|| format!("{variable}: can't listen on {address}"))?;
    info!(listener, address = %bound.local_addr()?, "listening");
    Ok(bound)
}
