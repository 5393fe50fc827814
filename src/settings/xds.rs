//! How to reach a control plane that sends the rules: the CONFIG_GRPC_XDS_* and XDS_CLIENT_* variables. It knows
//! nothing of discovery itself.

use std::{fmt, path::PathBuf, time::Duration};

use super::{
    Flags, SettingsReader, parse,
    partners::{self, RequiredSetting},
    set,
};

/// The control plane that rules come from instead of files (CONFIG_TYPE=GRPC_XDS_SOTW).
#[derive(Clone)]
pub struct XdsSettings {
    /// Its address: `host:port`.
    pub server: String,
    pub node_id: String,
    pub node_metadata: Vec<(String, String)>,
    /// Headers that are sent with every stream; values may be secrets.
    pub headers: Vec<(String, String)>,
    /// TLS; `None` connects in the clear.
    pub tls: Option<XdsTls>,
    pub backoff: XdsBackoff,
    /// Largest response in bytes; a larger one ends the stream.
    pub max_message_bytes: usize,
}

/// Files of TLS. They are read at each connection, so that a renewed certificate is used without a restart.
#[derive(Clone, Debug, Default)]
pub struct XdsTls {
    /// Authorities that may sign the server's certificate; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// Certificate and key of this client.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have, if it isn't the host's.
    pub server_name: Option<String>,
}

/// Waits between attempts to connect: doubled with each attempt that brings nothing, up to `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct XdsBackoff {
    /// The first wait after a connection that couldn't be made.
    pub connect: Duration,
    /// The first wait after a stream that ended.
    pub initial: Duration,
    pub max: Duration,
    /// Up to this share of the wait is taken off at random, so that a fleet doesn't come back at once.
    pub jitter: f64,
}

impl fmt::Debug for XdsSettings {
    /// Without the headers' values, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("XdsSettings")
            .field("server", &self.server)
            .field("node_id", &self.node_id)
            .field("headers", &headers)
            .field("tls", &self.tls)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

/// The settings of the control plane; `None` if rules come from files.
pub(super) fn xds(flags: &Flags, read: &mut SettingsReader) -> Option<XdsSettings> {
    // In the spelling of envoyproxy/ratelimit only: a value with which it doesn't start must not start here with files.
    let is_on = read.or("CONFIG_TYPE", &flags.config_type, false, |text| match text {
        "FILE" => Ok(false),
        "GRPC_XDS_SOTW" => Ok(true),
        _ => Err("expected FILE or GRPC_XDS_SOTW".into()),
    });
    let partner = RequiredSetting {
        variable: "CONFIG_TYPE",
        value: "GRPC_XDS_SOTW",
        given: &flags.config_type,
        is_on,
        without: "rules come from files; FILE says that they are meant to",
    };
    read.beside(&partner, &beside(flags));
    // Read even if they aren't used, so that a wrong one is reported now.
    let text = |text: &Option<String>, default: &str| set(text).unwrap_or(default).to_owned();
    let settings = XdsSettings {
        server: read.or(
            "CONFIG_GRPC_XDS_SERVER_URL",
            &flags.config_grpc_xds_server_url,
            "localhost:18000".into(),
            server,
        ),
        node_id: text(&flags.config_grpc_xds_node_id, "default"),
        node_metadata: read.or(
            "CONFIG_GRPC_XDS_NODE_METADATA",
            &flags.config_grpc_xds_node_metadata,
            Vec::new(),
            |text| pairs(text, '='),
        ),
        headers: read.or(
            "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
            &flags.config_grpc_xds_client_additional_headers,
            Vec::new(),
            headers,
        ),
        tls: tls(flags, read),
        backoff: backoff(flags, read),
        max_message_bytes: read.or(
            "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES",
            &flags.xds_client_max_msg_size_in_bytes,
            MESSAGE_BYTES_DEFAULT,
            |text| {
                parse::at_least(0)(text).map(|bytes| if bytes == 0 { MESSAGE_BYTES_DEFAULT } else { bytes as usize })
            },
        ),
    };
    is_on.then_some(settings)
}

/// The variables that are set and are only for a control plane.
fn beside(flags: &Flags) -> Vec<String> {
    let mut names = partners::names(&[
        ("CONFIG_GRPC_XDS_SERVER_URL", &flags.config_grpc_xds_server_url),
        ("CONFIG_GRPC_XDS_NODE_ID", &flags.config_grpc_xds_node_id),
        ("CONFIG_GRPC_XDS_NODE_METADATA", &flags.config_grpc_xds_node_metadata),
        ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", &flags.config_grpc_xds_client_additional_headers),
        ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", &flags.config_grpc_xds_server_connect_retry_interval),
        ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", &flags.xds_client_backoff_initial_interval),
        ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", &flags.xds_client_backoff_max_interval),
        ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", &flags.xds_client_backoff_random_factor),
        ("XDS_CLIENT_BACKOFF_JITTER", &flags.xds_client_backoff_jitter),
        ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", &flags.xds_client_max_msg_size_in_bytes),
    ]);
    names.extend(partners::switches(&[("CONFIG_GRPC_XDS_SERVER_USE_TLS", &flags.config_grpc_xds_server_use_tls)]));
    names
}

/// The default of gRPC's libraries.
const MESSAGE_BYTES_DEFAULT: usize = 4 << 20;

fn tls(flags: &Flags, read: &mut SettingsReader) -> Option<XdsTls> {
    let is_on = read.or("CONFIG_GRPC_XDS_SERVER_USE_TLS", &flags.config_grpc_xds_server_use_tls, false, parse::boolean);
    let path = |text: &Option<String>| set(text).map(PathBuf::from);
    let certificate = ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &flags.config_grpc_xds_client_tls_cert);
    let key = ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &flags.config_grpc_xds_client_tls_key);
    read.pair(certificate, key);
    let identity = path(certificate.1).zip(path(key.1));
    let files = partners::names(&[
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &flags.config_grpc_xds_server_tls_cacert),
        ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", &flags.config_grpc_xds_server_tls_san),
        certificate,
        key,
    ]);
    let without = "the control plane is spoken to in the clear; false says that it is meant to be";
    let switch = "CONFIG_GRPC_XDS_SERVER_USE_TLS";
    read.beside(&RequiredSetting::switch(switch, &flags.config_grpc_xds_server_use_tls, without), &files);
    let ca = path(&flags.config_grpc_xds_server_tls_cacert);
    let server_name = set(&flags.config_grpc_xds_server_tls_san).map(str::to_owned);
    is_on.then_some(XdsTls { ca, identity, server_name })
}

fn backoff(flags: &Flags, read: &mut SettingsReader) -> XdsBackoff {
    let seconds = Duration::from_secs;
    // Without any wait a control plane that is away would be called in a loop.
    let wait = parse::some_time;
    let share = |text: &str| match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".into()),
    };
    let connect =
        ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", &flags.config_grpc_xds_server_connect_retry_interval);
    let initial = ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", &flags.xds_client_backoff_initial_interval);
    let jitter = read.or("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", &flags.xds_client_backoff_random_factor, 0.5, share);
    let jitters = read.or("XDS_CLIENT_BACKOFF_JITTER", &flags.xds_client_backoff_jitter, true, parse::boolean);
    XdsBackoff {
        connect: read.or(connect.0, connect.1, seconds(3), wait),
        initial: read.or(initial.0, initial.1, seconds(10), wait),
        max: read.or("XDS_CLIENT_BACKOFF_MAX_INTERVAL", &flags.xds_client_backoff_max_interval, seconds(60), wait),
        jitter: if jitters { jitter } else { 0.0 },
    }
}

/// Reads `host:port`, or `dns:///host:port`, which gRPC uses for names that DNS resolves.
fn server(text: &str) -> Result<String, String> {
    let target = text.strip_prefix("dns:///").unwrap_or(text);
    let authority = target.parse::<http::uri::Authority>().ok();
    match authority.filter(|it| it.port_u16().is_some() && !it.host().is_empty() && !it.as_str().contains('@')) {
        Some(authority) => Ok(authority.to_string()),
        None => Err("expected host:port, such as envoy-gateway:18001".into()),
    }
}

fn headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = pairs(text, ':')?;
    // By their numbers: a text that looks like a name may be the rest of a secret with a comma in it.
    for (number, (name, value)) in (1..).zip(&pairs) {
        if name.ends_with("-bin") || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(format!("expected headers, and the name of number {number} can't be that of a text header"));
        }
        if http::HeaderValue::from_str(value).is_err() {
            return Err(format!("expected headers, and the value of number {number} can't stand in one"));
        }
    }
    Ok(pairs)
}

/// Reads `a=1,b=2`. A value may have the character in it that separates it from its name.
fn pairs(text: &str, sign: char) -> Result<Vec<(String, String)>, String> {
    let pair = |part: &str| match part.split_once(sign) {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("expected name{sign}value, and a comma between one and the next")),
    };
    text.split(',').map(pair).collect()
}
