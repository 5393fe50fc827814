//! TLS handshakes that failed, by reason.

use metrics::Counter;

use super::{recorder::Recorder, table::Metric};

/// Why a client did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    UnknownAuthority,
    Expired,
    WrongName,
    NoCertificate,
    /// The client did not like our certificate.
    Refused,
    NotTls,
    Timeout,
    Other,
}

impl HandshakeFailure {
    pub const ALL: [HandshakeFailure; 8] = [
        HandshakeFailure::UnknownAuthority,
        HandshakeFailure::Expired,
        HandshakeFailure::WrongName,
        HandshakeFailure::NoCertificate,
        HandshakeFailure::Refused,
        HandshakeFailure::NotTls,
        HandshakeFailure::Timeout,
        HandshakeFailure::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            HandshakeFailure::UnknownAuthority => "unknown_authority",
            HandshakeFailure::Expired => "expired",
            HandshakeFailure::WrongName => "wrong_name",
            HandshakeFailure::NoCertificate => "no_certificate",
            HandshakeFailure::Refused => "refused_by_client",
            HandshakeFailure::NotTls => "not_tls",
            HandshakeFailure::Timeout => "timeout",
            HandshakeFailure::Other => "other",
        }
    }
}

pub struct HandshakeFailures([Counter; HandshakeFailure::ALL.len()]);

impl HandshakeFailures {
    pub(super) fn new(recorder: &Recorder) -> HandshakeFailures {
        HandshakeFailures(
            recorder.counters(Metric::TlsHandshakeFailures, HandshakeFailure::ALL.map(HandshakeFailure::name)),
        )
    }

    pub fn failed(&self, reason: HandshakeFailure) {
        self.0[reason as usize].increment(1);
    }
}
