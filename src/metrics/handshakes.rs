//! TLS handshakes that failed, by reason.

use metrics::Counter;

use super::{recorder::Recorder, table::Metric};

/// Why a client did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
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

impl Handshake {
    pub const ALL: [Handshake; 8] = [
        Handshake::UnknownAuthority,
        Handshake::Expired,
        Handshake::WrongName,
        Handshake::NoCertificate,
        Handshake::Refused,
        Handshake::NotTls,
        Handshake::Timeout,
        Handshake::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            Handshake::UnknownAuthority => "unknown_authority",
            Handshake::Expired => "expired",
            Handshake::WrongName => "wrong_name",
            Handshake::NoCertificate => "no_certificate",
            Handshake::Refused => "refused_by_client",
            Handshake::NotTls => "not_tls",
            Handshake::Timeout => "timeout",
            Handshake::Other => "other",
        }
    }
}

pub struct Handshakes([Counter; Handshake::ALL.len()]);

impl Handshakes {
    pub(super) fn new(recorder: &Recorder) -> Handshakes {
        Handshakes(recorder.counters(Metric::TlsHandshakeFailures, Handshake::ALL.map(Handshake::name)))
    }

    pub fn failed(&self, reason: Handshake) {
        self.0[reason as usize].increment(1);
    }
}
