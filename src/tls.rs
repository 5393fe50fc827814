//! Certificates, keys and trust: one place for every TLS connection of Tollgate, as client or server. What is trusted
//! is what Go trusts, as far as the library can. It knows no connections and no settings.

mod channel;
mod files;
mod trust;

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, ring},
};
use tokio_rustls::TlsConnector;

use self::trust::ServerVerifier;
pub(crate) use self::{
    channel::{channel, connect, endpoint, explain, server_name},
    files::{identity, read},
    trust::client_verifier,
};
use crate::blocking::blocking;

/// The TLS of a client connection. The files are read again for each connection, so that a renewed certificate needs no
/// restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientTls {
    /// The only authorities that are trusted; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// Certificate and key of this client.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub hostname: HostnameCheck,
    /// The name that the server's certificate must have, if it isn't its host.
    pub name: Option<String>,
    /// The protocols for ALPN, the dearest first, if they must be named: [`HTTP2`] for gRPC.
    pub protocols: &'static [&'static [u8]],
}

/// The name of HTTP/2 in a handshake.
pub(crate) const HTTP2: &[u8] = b"h2";

/// The name of HTTP/1 in a handshake.
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// Whether a server's certificate must have the name that it was called by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HostnameCheck {
    #[default]
    Checked,
    Any,
}

/// Reads the files, on a thread that answers no requests. The error says what is wrong, and names the file.
pub(crate) async fn connector(client: ClientTls) -> Result<TlsConnector, String> {
    let config = blocking(move || client.config()).await.map_err(|error| format!("{error:#}"))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

impl ClientTls {
    fn config(&self) -> anyhow::Result<ClientConfig> {
        let verifier = ServerVerifier::new(self.ca.as_deref(), self.hostname)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let identity = identity((&read(certificate)?, certificate), (&read(key)?, key))?;
                builder.with_client_cert_resolver(identity)
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

/// The cryptography of all TLS connections.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests;
