//! TLS of the gRPC and the HTTP listener, as the environment asks for it.

use std::path::PathBuf;

use clap::Args;

use super::{Flags, Reader, parse, set};

/// Flags of the HTTP listener; those of the gRPC listener are envoyproxy/ratelimit's.
#[derive(Args, Clone, Debug, Default)]
pub struct HttpTlsFlags {
    /// Serve HTTP with TLS: certificate chain; read again when it changes
    #[arg(long, value_name = "FILE", env = "TOLLGATE_HTTP_TLS_CERT", help_heading = "Listeners")]
    pub http_tls_cert: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "TOLLGATE_HTTP_TLS_KEY", help_heading = "Listeners")]
    pub http_tls_key: Option<String>,
    /// Clients of the HTTP listener must show a certificate of this authority, and of no other
    #[arg(long, value_name = "FILE", env = "TOLLGATE_HTTP_CLIENT_TLS_CACERT", help_heading = "Listeners")]
    pub http_client_tls_cacert: Option<String>,
    /// DNS name that the certificate of an HTTP client must have
    #[arg(long, value_name = "NAME", env = "TOLLGATE_HTTP_CLIENT_TLS_SAN", help_heading = "Listeners")]
    pub http_client_tls_san: Option<String>,
}

/// A listener as its settings name it.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsNames {
    pub listener: &'static str,
    pub certificate: &'static str,
    pub key: &'static str,
    pub client_ca: &'static str,
    pub client_san: &'static str,
    /// As ALPN names it.
    pub protocol: &'static [u8],
}

const GRPC: TlsNames = TlsNames {
    listener: "gRPC",
    certificate: "GRPC_SERVER_TLS_CERT",
    key: "GRPC_SERVER_TLS_KEY",
    client_ca: "GRPC_CLIENT_TLS_CACERT",
    client_san: "GRPC_CLIENT_TLS_SAN",
    protocol: b"h2",
};

const HTTP: TlsNames = TlsNames {
    listener: "HTTP",
    certificate: "TOLLGATE_HTTP_TLS_CERT",
    key: "TOLLGATE_HTTP_TLS_KEY",
    client_ca: "TOLLGATE_HTTP_CLIENT_TLS_CACERT",
    client_san: "TOLLGATE_HTTP_CLIENT_TLS_SAN",
    protocol: b"http/1.1",
};

/// Files of a listener's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    pub names: &'static TlsNames,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Clients must show a certificate of this authority, and of no other.
    pub client_ca: Option<PathBuf>,
    /// which must have this DNS name.
    pub client_san: Option<String>,
}

pub(super) fn tls(flags: &Flags, read: &mut Reader) -> Option<TlsSettings> {
    if !read.or("GRPC_SERVER_USE_TLS", &flags.grpc_server_use_tls, false, parse::boolean) {
        return None;
    }
    let needed = |read: &mut Reader, variable: &str, flag: &Option<String>| {
        set(flag).map(PathBuf::from).unwrap_or_else(|| {
            read.wrong.push(format!("{variable}: is needed where GRPC_SERVER_USE_TLS is true"));
            PathBuf::new()
        })
    };
    let certificate = needed(read, GRPC.certificate, &flags.grpc_server_tls_cert);
    let key = needed(read, GRPC.key, &flags.grpc_server_tls_key);
    // Envoy Gateway's name for it: what its author believes to be enforced is.
    let client_ca = set(&flags.grpc_client_tls_cacert).or_else(|| set(&flags.grpc_server_tls_ca_cert));
    Some(settings(&GRPC, (certificate, key), client_ca, &flags.grpc_client_tls_san, read))
}

/// Of the HTTP listener: with TLS where it has a certificate.
pub(super) fn http_tls(flags: &HttpTlsFlags, read: &mut Reader) -> Option<TlsSettings> {
    let client_ca = set(&flags.http_client_tls_cacert);
    let pair = match (set(&flags.http_tls_cert), set(&flags.http_tls_key)) {
        (None, None) => {
            if client_ca.is_some() || set(&flags.http_client_tls_san).is_some() {
                read.wrong.push(format!("{} and {}: are needed to ask clients for theirs", HTTP.certificate, HTTP.key));
            }
            return None;
        }
        (Some(certificate), Some(key)) => (PathBuf::from(certificate), PathBuf::from(key)),
        (Some(_), None) => {
            read.wrong.push(format!("{}: is needed beside {}", HTTP.key, HTTP.certificate));
            return None;
        }
        (None, Some(_)) => {
            read.wrong.push(format!("{}: is needed beside {}", HTTP.certificate, HTTP.key));
            return None;
        }
    };
    Some(settings(&HTTP, pair, client_ca, &flags.http_client_tls_san, read))
}

fn settings(
    names: &'static TlsNames,
    (certificate, key): (PathBuf, PathBuf),
    client_ca: Option<&str>,
    client_san: &Option<String>,
    read: &mut Reader,
) -> TlsSettings {
    let client_san = set(client_san).map(str::to_string);
    if client_san.is_some() && client_ca.is_none() {
        read.wrong.push(format!("{}: needs {}, the authority that vouches for it", names.client_san, names.client_ca));
    }
    TlsSettings { names, certificate, key, client_ca: client_ca.map(PathBuf::from), client_san }
}
