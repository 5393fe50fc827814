//! TLS of the gRPC and the HTTP listener, as the environment sets it.

use std::path::PathBuf;

use clap::Args;

use super::{
    Flags, SettingsReader, parse,
    partners::{self, RequiredSetting},
    set,
};

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

/// A listener, with the names of its settings.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsNames {
    pub listener: &'static str,
    pub certificate: &'static str,
    pub key: &'static str,
    pub client_ca: &'static str,
    pub client_san: &'static str,
    /// The protocol's name in ALPN.
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

/// Files of a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    pub names: &'static TlsNames,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The authority that must have signed a client's certificate.
    pub client_ca: Option<PathBuf>,
    /// The DNS name that a client's certificate must have.
    pub client_san: Option<String>,
}

pub(super) fn tls(flags: &Flags, read: &mut SettingsReader) -> Option<TlsSettings> {
    let is_on = read.or("GRPC_SERVER_USE_TLS", &flags.grpc_server_use_tls, false, parse::boolean);
    if !is_on {
        without_tls(flags, read);
        return None;
    }
    let needed = |read: &mut SettingsReader, variable: &str, flag: &Option<String>| {
        set(flag).map(PathBuf::from).unwrap_or_else(|| {
            read.missing(variable, "is needed where GRPC_SERVER_USE_TLS is true");
            PathBuf::new()
        })
    };
    let certificate = needed(read, GRPC.certificate, &flags.grpc_server_tls_cert);
    let key = needed(read, GRPC.key, &flags.grpc_server_tls_key);
    // Envoy Gateway's name for the setting: its author believes that it is enforced, so it is.
    let client_ca = set(&flags.grpc_client_tls_cacert).or_else(|| set(&flags.grpc_server_tls_ca_cert));
    Some(settings(&GRPC, (certificate, key), client_ca, &flags.grpc_client_tls_san, read))
}

/// Reports certificates of a listener without TLS. Whoever requires client certificates doesn't want to serve
/// everybody, so that is refused even if TLS was switched off.
fn without_tls(flags: &Flags, read: &mut SettingsReader) {
    let of_clients = partners::names(&[
        (GRPC.client_ca, &flags.grpc_client_tls_cacert),
        ("GRPC_SERVER_TLS_CA_CERT", &flags.grpc_server_tls_ca_cert),
        (GRPC.client_san, &flags.grpc_client_tls_san),
    ]);
    let own = [(GRPC.certificate, &flags.grpc_server_tls_cert), (GRPC.key, &flags.grpc_server_tls_key)];
    let own = partners::names(&own);
    let switch = "GRPC_SERVER_USE_TLS";
    if of_clients.is_empty() {
        let without = "gRPC is served in the clear; false says that it is meant to be";
        read.beside(&RequiredSetting::switch(switch, &flags.grpc_server_use_tls, without), &own);
    } else {
        let beside = partners::listed(&[of_clients, own].concat());
        let without = "without it gRPC is served in the clear, to anybody";
        read.missing(switch, &format!("true is needed beside {beside}: {without}"));
        let client_ca = set(&flags.grpc_client_tls_cacert).or_else(|| set(&flags.grpc_server_tls_ca_cert));
        need_authority(&GRPC, client_ca, &flags.grpc_client_tls_san, read);
    }
}

/// TLS of the HTTP listener: there if it has a certificate.
pub(super) fn http_tls(flags: &HttpTlsFlags, read: &mut SettingsReader) -> Option<TlsSettings> {
    let client_ca = set(&flags.http_client_tls_cacert);
    let (certificate, key) = ((HTTP.certificate, &flags.http_tls_cert), (HTTP.key, &flags.http_tls_key));
    let (Some(certificate), Some(key)) = (set(certificate.1), set(key.1)) else {
        read.pair(certificate, key);
        let of_clients = partners::names(&[
            (HTTP.client_ca, &flags.http_client_tls_cacert),
            (HTTP.client_san, &flags.http_client_tls_san),
        ]);
        if !of_clients.is_empty() && set(certificate.1).is_none() && set(key.1).is_none() {
            let beside = partners::listed(&of_clients);
            for needed in [HTTP.certificate, HTTP.key] {
                read.missing(needed, &format!("is needed beside {beside}: without it HTTP is served in the clear"));
            }
        }
        need_authority(&HTTP, client_ca, &flags.http_client_tls_san, read);
        return None;
    };
    let pair = (PathBuf::from(certificate), PathBuf::from(key));
    Some(settings(&HTTP, pair, client_ca, &flags.http_client_tls_san, read))
}

/// A client's name means nothing without an authority that confirms it.
fn need_authority(names: &TlsNames, client_ca: Option<&str>, client_san: &Option<String>, read: &mut SettingsReader) {
    if set(client_san).is_some() && client_ca.is_none() {
        read.missing(
            names.client_ca,
            &format!("is needed beside {}: the authority that vouches for it", names.client_san),
        );
    }
}

fn settings(
    names: &'static TlsNames,
    (certificate, key): (PathBuf, PathBuf),
    client_ca: Option<&str>,
    client_san: &Option<String>,
    read: &mut SettingsReader,
) -> TlsSettings {
    need_authority(names, client_ca, client_san, read);
    let client_san = set(client_san).map(str::to_string);
    TlsSettings { names, certificate, key, client_ca: client_ca.map(PathBuf::from), client_san }
}
