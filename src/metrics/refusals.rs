//! What HTTP/2 or gRPC refuses before any limit is looked at. Envoy lets such requests pass, so each is counted by reason,
//! and logged at most once a minute for each reason with what to change.

use std::net::SocketAddr;

use metrics::Counter;
use tracing::warn;

use super::{recorder::Recorder, table::Metric};
use crate::clock::{self, log_throttle::PacedEvents};

/// Why a stream, or a connection for all that it would have brought, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The `:authority` is empty.
    Authority,
    Malformed,
    HeadersTooLarge,
    TooManyStreams,
    Internal,
    /// The client broke the protocol, and its connection was ended with all calls on it.
    Connection,
    ContentType,
    UnknownMethod,
    Compressed,
    /// The message is no request.
    Message,
    MessageTooLarge,
    /// The client did not take an answer in time, or left too many.
    UnreadAnswer,
    Http1,
    Tls,
}

impl Refusal {
    const ALL: [Refusal; 14] = [
        Refusal::Authority,
        Refusal::Malformed,
        Refusal::HeadersTooLarge,
        Refusal::TooManyStreams,
        Refusal::Internal,
        Refusal::Connection,
        Refusal::ContentType,
        Refusal::UnknownMethod,
        Refusal::Compressed,
        Refusal::Message,
        Refusal::MessageTooLarge,
        Refusal::UnreadAnswer,
        Refusal::Http1,
        Refusal::Tls,
    ];

    const fn name(self) -> &'static str {
        match self {
            Refusal::Authority => "authority",
            Refusal::Malformed => "malformed",
            Refusal::HeadersTooLarge => "headers_too_large",
            Refusal::TooManyStreams => "too_many_streams",
            Refusal::Internal => "internal",
            Refusal::Connection => "connection",
            Refusal::ContentType => "content_type",
            Refusal::UnknownMethod => "unknown_method",
            Refusal::Compressed => "compressed",
            Refusal::Message => "message",
            Refusal::MessageTooLarge => "message_too_large",
            Refusal::UnreadAnswer => "unread_answer",
            Refusal::Http1 => "http1",
            Refusal::Tls => "tls",
        }
    }

    /// What was wrong, and what to change.
    const fn advice(self) -> &'static str {
        match self {
            Refusal::Authority => {
                "its :authority is empty; set `authority` in the client, in Envoy in `grpc_service.envoy_grpc`"
            }
            Refusal::Malformed => {
                "its headers are not those of an HTTP/2 request: a name, path, scheme or pseudo-header is wrong or missing; \
                 see what the client is"
            }
            Refusal::HeadersTooLarge => {
                "its headers have more than 96 KiB; take out of the client's calls what is long, such as tracing baggage"
            }
            Refusal::TooManyStreams => {
                "its connection has 4,096 requests under way already; let the client open more connections, and heed \
                 SETTINGS_MAX_CONCURRENT_STREAMS"
            }
            Refusal::Internal => "HTTP/2 failed on this side; please report it with what was logged around it",
            Refusal::Connection => {
                "its client broke HTTP/2 or used it against us, and the connection was ended with all calls on it; see \
                 what the client is"
            }
            Refusal::ContentType => {
                "its content-type is not application/grpc; plain HTTP clients ask /json or /v1/check on the HTTP port"
            }
            Refusal::UnknownMethod => {
                "it calls a method that is not served here; Envoy needs `transport_api_version: V3`"
            }
            Refusal::Compressed => {
                "its message is compressed by something else than gzip; take that or none in the client"
            }
            Refusal::Message => "its body is not one gRPC message with a RateLimitRequest; see what the client is",
            Refusal::MessageTooLarge => "its message has more than 4 MiB; send fewer or shorter descriptors",
            Refusal::UnreadAnswer => {
                "its answers were not taken within TOLLGATE_CLIENT_TIMEOUT, or too many waited, and the connection was \
                 ended; see whether the client hangs"
            }
            Refusal::Http1 => {
                "its connection does not speak HTTP/2; give Envoy's cluster `http2_protocol_options`, or ask the HTTP port"
            }
            Refusal::Tls => {
                "its connection speaks TLS and this listener does not; set GRPC_SERVER_USE_TLS and its certificate, or \
                 take TLS off the client's cluster"
            }
        }
    }
}

pub struct Refusals {
    counters: [Counter; Refusal::ALL.len()],
    /// By reason.
    lines: [PacedEvents; Refusal::ALL.len()],
}

impl Refusals {
    pub(super) fn new(recorder: &Recorder) -> Refusals {
        let counters = recorder.counters(Metric::RefusedStreams, Refusal::ALL.map(Refusal::name));
        Refusals { counters, lines: Default::default() }
    }

    /// One was refused; `peer` is the client, where it came over TCP and is known.
    pub fn refused(&self, reason: Refusal, peer: Option<SocketAddr>) {
        self.refused_times(reason, 1, peer);
    }

    /// So many of one client at once.
    pub fn refused_times(&self, reason: Refusal, times: u64, peer: Option<SocketAddr>) {
        self.counters[reason as usize].increment(times);
        let Some(left_out) = self.lines[reason as usize].happened(times, clock::now()) else { return };
        let peer = peer.map(tracing::field::display);
        warn!(
            reason = reason.name(),
            peer,
            more_since_the_last_line = left_out,
            "a call was rejected before any limit was checked, so Envoy may let its request pass: {}",
            reason.advice()
        );
    }
}
