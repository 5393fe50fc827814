//! Bounds on what clients may use: connections, requests in flight, time. It knows the variables' names, not where each
//! bound is applied.

use std::time::Duration;

use clap::Args;

use super::{Flags, SettingsReader, parse};

/// Flags of the bounds on clients.
#[derive(Args, Clone, Debug, Default)]
pub struct OverloadFlags {
    /// Requests in flight on one core; more are answered by their limits' failure policies at once [default: 4096]
    #[arg(long, value_name = "N", env = "TOLLGATE_MAX_IN_FLIGHT", help_heading = "Overload")]
    pub max_in_flight: Option<String>,
    /// Open gRPC connections; more are closed at once [default: 10000]
    #[arg(long, value_name = "N", env = "TOLLGATE_MAX_GRPC_CONNECTIONS", help_heading = "Overload")]
    pub max_grpc_connections: Option<String>,
    /// Open connections of each HTTP listener; more are closed at once [default: 1000]
    #[arg(long, value_name = "N", env = "TOLLGATE_MAX_HTTP_CONNECTIONS", help_heading = "Overload")]
    pub max_http_connections: Option<String>,
    /// Open connections of one client address to each listener; a further one closes the one that has been idle longest, or is closed [default: a quarter of the listener's, at least 16]
    #[arg(long, value_name = "N", env = "TOLLGATE_MAX_CONNECTIONS_PER_PEER", help_heading = "Overload")]
    pub max_connections_per_peer: Option<String>,
    /// Time that a client has for a request's headers, for its body, to read an answer, and to answer a ping [default: 10s]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_CLIENT_TIMEOUT", help_heading = "Overload")]
    pub client_timeout: Option<String>,
    /// Time after which a silent gRPC connection is pinged; 0 is never [default: 30s]
    #[arg(long, value_name = "DURATION", env = "TOLLGATE_GRPC_PING_INTERVAL", help_heading = "Overload")]
    pub grpc_ping_interval: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct OverloadSettings {
    /// Requests in flight on each core.
    pub in_flight_max: usize,
    pub grpc_connections_max: usize,
    /// Open connections of each HTTP listener.
    pub http_connections_max: usize,
    /// Open connections of one client address to each listener; `None` is a quarter of the listener's.
    pub peer_connections_max: Option<usize>,
    pub client_timeout: Duration,
    /// Time without traffic after which a gRPC connection is pinged; zero is never.
    pub grpc_ping_interval: Duration,
}

pub(super) fn overload(flags: &Flags, read: &mut SettingsReader) -> OverloadSettings {
    let flags = &flags.overload;
    let mut number =
        |variable, text, default| read.or(variable, text, default, parse::at_least(1)).try_into().unwrap_or(usize::MAX);
    OverloadSettings {
        in_flight_max: number("TOLLGATE_MAX_IN_FLIGHT", &flags.max_in_flight, 4_096),
        grpc_connections_max: number("TOLLGATE_MAX_GRPC_CONNECTIONS", &flags.max_grpc_connections, 10_000),
        http_connections_max: number("TOLLGATE_MAX_HTTP_CONNECTIONS", &flags.max_http_connections, 1_000),
        peer_connections_max: {
            let of_peer = |text: &str| parse::at_least(1)(text).map(|number| usize::try_from(number).ok());
            read.or("TOLLGATE_MAX_CONNECTIONS_PER_PEER", &flags.max_connections_per_peer, None, of_peer)
        },
        client_timeout: read.or(
            "TOLLGATE_CLIENT_TIMEOUT",
            &flags.client_timeout,
            Duration::from_secs(10),
            parse::some_time,
        ),
        grpc_ping_interval: read.or(
            "TOLLGATE_GRPC_PING_INTERVAL",
            &flags.grpc_ping_interval,
            Duration::from_secs(30),
            parse::duration,
        ),
    }
}
