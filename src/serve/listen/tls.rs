//! TLS of the gRPC and the HTTP listener: certificates from files, read again when these change, for the connections that come
//! after. Clients are held to exactly the given authority: the public ones would let in anybody who has a domain.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};

use super::handshake::HandshakeReporter;
use crate::{
    blocking::try_blocking,
    metrics::Metrics,
    settings::TlsSettings,
    tls::{client_verifier, identity, provider, read},
};

/// How often the files are looked at: three small reads, which see every kind of swap.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

/// Whoever connects and says nothing must not be waited for.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What connections are made with; cheap to clone.
#[derive(Clone)]
pub(crate) struct ListenerTls {
    settings: Arc<TlsSettings>,
    config: Arc<ArcSwap<ServerConfig>>,
    failures: Arc<HandshakeReporter>,
}

/// The files' bytes: certificate chain, key, and the clients' authority.
#[derive(PartialEq)]
struct CertificateFiles {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl ListenerTls {
    /// Reads the files; what is wrong with them ends the start.
    pub(crate) fn load(
        settings: &TlsSettings,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<(ListenerTls, CertificateReloader)> {
        let files = CertificateFiles::read(settings)?;
        let config = Arc::new(ArcSwap::from_pointee(config(&files, settings)?));
        let failures = Arc::new(HandshakeReporter::new(settings.names.listener, Arc::clone(metrics)));
        let tls = ListenerTls { settings: Arc::new(settings.clone()), config, failures };
        let listener = settings.names.listener;
        match &settings.client_ca {
            Some(authority) => {
                info!(listener, authority = %authority.display(), "TLS is on: clients must show a certificate")
            }
            None => info!(listener, "TLS is on: clients need no certificate"),
        }
        Ok((tls.clone(), CertificateReloader { tls, files, logged: String::new() }))
    }

    /// `None` where the client doesn't get through. `peer` is for the log.
    pub(super) async fn accept<S>(&self, io: S, peer: Option<SocketAddr>) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        match time::timeout(HANDSHAKE, acceptor.accept(io)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                self.failures.failed(&error, peer);
                None
            }
            Err(_) => {
                self.failures.timed_out(peer);
                None
            }
        }
    }
}

/// Looks at the files for ever.
pub(crate) struct CertificateReloader {
    tls: ListenerTls,
    /// Of the last look, good or not, so that each change is tried once.
    files: CertificateFiles,
    logged: String,
}

impl CertificateReloader {
    pub(crate) async fn run(mut self) -> Infallible {
        loop {
            time::sleep(CHECK_PERIOD).await;
            let settings = Arc::clone(&self.tls.settings);
            // A task that is lost to the end of the process has nothing to tell.
            let Ok(read) = try_blocking(move || CertificateFiles::read(&settings)).await else { continue };
            match read {
                Ok(files) if files == self.files => {}
                Ok(files) => {
                    self.take(config(&files, &self.tls.settings));
                    self.files = files;
                }
                Err(error) => self.take(Err(error)),
            }
        }
    }

    fn take(&mut self, read: anyhow::Result<ServerConfig>) {
        match read {
            Ok(config) => {
                self.tls.config.store(Arc::new(config));
                self.logged.clear();
                info!("reloaded certificates: new connections use them");
            }
            Err(error) => {
                let error = format!("{error:#}");
                if error != self.logged {
                    warn!(error, "can't use the new certificates: the last good ones stay in force");
                    self.logged = error;
                }
            }
        }
    }
}

impl CertificateFiles {
    fn read(settings: &TlsSettings) -> anyhow::Result<CertificateFiles> {
        let named = |variable, path: &PathBuf| read(path).context(variable);
        Ok(CertificateFiles {
            certificate: named(settings.names.certificate, &settings.certificate)?,
            key: named(settings.names.key, &settings.key)?,
            client_ca: settings.client_ca.as_ref().map(|path| named(settings.names.client_ca, path)).transpose()?,
        })
    }
}

fn config(files: &CertificateFiles, settings: &TlsSettings) -> anyhow::Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        Some(ca) => {
            let path = settings.client_ca.as_deref().unwrap_or(Path::new(""));
            let verifier = client_verifier(ca, path, settings.client_san.as_deref());
            builder.with_client_cert_verifier(verifier.context(settings.names.client_ca)?)
        }
        None => builder.with_no_client_auth(),
    };
    let names = settings.names;
    let pair = || format!("{} and {}", names.certificate, names.key);
    let identity =
        identity((&files.certificate, &settings.certificate), (&files.key, &settings.key)).with_context(pair)?;
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = vec![names.protocol.to_vec()];
    Ok(config)
}
