//! Which certificates are trusted. webpki checks them; besides, a certificate that is trusted and presented itself is
//! accepted, as Go accepts it: one made by `openssl req -x509` calls itself an authority, which webpki accepts from no
//! peer.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest as _, Sha256};
use tracing::debug;

use super::{HostnameCheck, files, provider};

/// The certificates that are trusted themselves. A connection keeps them, and a system has more than a hundred, so only
/// their digests are kept.
#[derive(Debug, Default)]
struct Trusted {
    digests: Vec<[u8; 32]>,
    /// Whether one of them has a key that can't be checked.
    has_p521: bool,
}

impl Trusted {
    fn of(certificates: &[CertificateDer<'_>]) -> Trusted {
        Trusted {
            digests: certificates.iter().map(digest).collect(),
            has_p521: certificates.iter().any(|certificate| files::is_p521(certificate)),
        }
    }

    /// Whether `error` only means that no authority signed a certificate which is trusted itself. webpki checks the
    /// time before the signature, so with this error the time is right.
    fn has_alone(&self, presented: &CertificateDer<'_>, error: &Error) -> bool {
        let is_unknown = matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer));
        (is_unknown || is_authority(error)) && self.digests.contains(&digest(presented))
    }
}

fn digest(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// Verifies a server's certificate.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    of_authorities: Arc<WebPkiServerVerifier>,
    trusted: Trusted,
    names: HostnameCheck,
}

impl ServerVerifier {
    /// Trusts the authorities of the file `ca`, else the system's.
    pub(super) fn new(ca: Option<&Path>, names: HostnameCheck) -> anyhow::Result<ServerVerifier> {
        let (roots, trusted) = match ca {
            Some(path) => named(&files::read(path)?, path)?,
            None => of_the_system()?,
        };
        let of_authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        Ok(ServerVerifier { of_authorities, trusted, names })
    }
}

/// The authorities of a file, as roots of chains and as they are.
fn named(pem: &[u8], path: &Path) -> anyhow::Result<(RootCertStore, Trusted)> {
    let found = files::certificates(pem, path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &found {
        roots.add(certificate.clone()).with_context(|| path.display().to_string())?;
    }
    Ok((roots, Trusted::of(&found)))
}

/// The authorities of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the distribution's. A machine without any gets the
/// built-in ones.
fn of_the_system() -> anyhow::Result<(RootCertStore, Trusted)> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, passed_over) = roots.add_parsable_certificates(found.certs.iter().cloned());
    if taken > 0 {
        debug!(taken, passed_over, "trusts the system's authorities");
        return Ok((roots, Trusted::of(&found.certs)));
    }
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Some(name) = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(is_set) {
        let why = found.errors.first().map_or("there is no certificate in it".to_owned(), ToString::to_string);
        bail!("{name}: {why}");
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Ok((roots, Trusted::default()))
}

/// What the verifiers of servers and of clients have in common: a signature of a handshake is checked as webpki checks it.
macro_rules! signatures_as_of_authorities {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.of_authorities.verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.of_authorities.verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.of_authorities.supported_verify_schemes()
        }
    };
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.of_authorities.verify_server_cert(server, intermediates, name, ocsp, now) {
            Ok(verified) => Ok(verified),
            // Everything else of it was verified before.
            Err(error) if self.names == HostnameCheck::Any && is_about_the_name(&error) => {
                Ok(ServerCertVerified::assertion())
            }
            Err(error) if self.trusted.has_alone(server, &error) => {
                if self.names == HostnameCheck::Checked {
                    verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            Err(error) => Err(explained(error, (server, intermediates), &self.trusted)),
        }
    }

    signatures_as_of_authorities!();
}

/// Clients are held to exactly the authorities of this file, because the system's would let in anybody who has a domain; and,
/// where there is a `name`, to certificates that have it.
pub(crate) fn client_verifier(
    ca: &[u8],
    path: &Path,
    name: Option<&str>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let (roots, trusted) = named(ca, path)?;
    let of_authorities = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    Ok(Arc::new(ClientVerifier { of_authorities, trusted, name: name.map(Into::into) }))
}

/// Verifies a client's certificate.
#[derive(Debug)]
struct ClientVerifier {
    of_authorities: Arc<dyn ClientCertVerifier>,
    trusted: Trusted,
    name: Option<Box<str>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.of_authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        client: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = match self.of_authorities.verify_client_cert(client, intermediates, now) {
            Ok(verified) => verified,
            Err(error) if self.trusted.has_alone(client, &error) => ClientCertVerified::assertion(),
            Err(error) => return Err(explained(error, (client, intermediates), &self.trusted)),
        };
        match &self.name {
            Some(name) if !has_name(client, name) => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
            _ => Ok(verified),
        }
    }

    signatures_as_of_authorities!();
}

/// As envoyproxy/ratelimit: the very name, and no wildcard that covers it.
fn has_name(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let certificate = webpki::EndEntityCert::try_from(certificate);
    certificate.is_ok_and(|certificate| certificate.valid_dns_names().any(|valid| valid == name))
}

/// Whether the error is that a presented certificate calls itself an authority.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = error else { return false };
    matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn is_about_the_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
    )
}

/// The error with the command that makes a certificate which is accepted, if the library can't use this one.
fn explained(
    error: Error,
    (presented, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    trusted: &Trusted,
) -> Error {
    let is_unclear = matches!(
        &error,
        Error::InvalidCertificate(
            CertificateError::Other(_)
                | CertificateError::BadEncoding
                | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
        )
    );
    // Which of the authorities signed it can only be guessed.
    let mut chain = std::iter::once(presented).chain(intermediates);
    let why = if !is_unclear {
        return error;
    } else if is_version_1(presented) {
        format!(
            "a certificate of version 1, which can't be taken: it was signed without extensions. \
             `openssl x509 -req … -extfile FILE` with a line `subjectAltName=DNS:NAME` in FILE makes one of version 3. {}",
            files::make("one that signs itself")
        )
    } else if is_authority(&error) {
        "a certificate that calls itself an authority (CA:TRUE), and is not itself among those that are trusted"
            .to_owned()
    } else if trusted.has_p521 || chain.any(|certificate| files::is_p521(certificate)) {
        format!("a certificate with a key of the curve P-521, which can't be checked. {}", files::make("one of P-256"))
    } else {
        return error;
    };
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::from(
        Box::<dyn std::error::Error + Send + Sync>::from(why),
    ))))
}

/// The signed part begins with the version, tagged 0, unless it is version 1.
fn is_version_1(certificate: &[u8]) -> bool {
    inside_sequence(certificate).and_then(inside_sequence).and_then(<[u8]>::first).is_some_and(|tag| *tag != 0xa0)
}

/// The content of a DER sequence.
fn inside_sequence(der: &[u8]) -> Option<&[u8]> {
    let [0x30, length, rest @ ..] = der else { return None };
    let more = if *length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
    rest.get(more..)
}
