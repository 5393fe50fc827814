//! TLS of the gRPC listener, as the environment asks for it.

use std::path::PathBuf;

use super::{Flags, Reader, parse, set};

/// Files of the gRPC listener's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
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
    let path = |flag: &Option<String>| set(flag).map(PathBuf::from);
    let mut needed = |variable: &str, flag: &Option<String>| {
        path(flag).unwrap_or_else(|| {
            read.wrong.push(format!("{variable}: is needed where GRPC_SERVER_USE_TLS is true"));
            PathBuf::new()
        })
    };
    let certificate = needed("GRPC_SERVER_TLS_CERT", &flags.grpc_server_tls_cert);
    let key = needed("GRPC_SERVER_TLS_KEY", &flags.grpc_server_tls_key);
    // Envoy Gateway's name for it: what its author believes to be enforced is.
    let client_ca = path(&flags.grpc_client_tls_cacert).or_else(|| path(&flags.grpc_server_tls_ca_cert));
    let client_san = set(&flags.grpc_client_tls_san).map(str::to_string);
    if client_san.is_some() && client_ca.is_none() {
        read.wrong.push("GRPC_CLIENT_TLS_SAN: needs GRPC_CLIENT_TLS_CACERT, the authority that vouches for it".into());
    }
    Some(TlsSettings { certificate, key, client_ca, client_san })
}
