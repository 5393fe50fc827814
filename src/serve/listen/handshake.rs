//! Why a TLS handshake failed, in words that say which certificate and what is wrong with it: counted each time, logged
//! at most once a minute for each reason, because anybody may cause them. It knows a listener by its name only.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{AlertDescription, CertificateError, Error};
use tracing::warn;

use crate::{
    clock::{self, log_throttle::PacedEvents},
    metrics::{HandshakeFailure, Metrics},
};

/// Counts and tells.
pub(super) struct HandshakeReporter {
    listener: &'static str,
    metrics: Arc<Metrics>,
    /// By reason.
    lines: [PacedEvents; HandshakeFailure::ALL.len()],
}

impl HandshakeReporter {
    pub(super) fn new(listener: &'static str, metrics: Arc<Metrics>) -> HandshakeReporter {
        HandshakeReporter { listener, metrics, lines: Default::default() }
    }

    pub(super) fn timed_out(&self, peer: Option<SocketAddr>) {
        self.report(HandshakeFailure::Timeout, peer, &"no handshake came");
    }

    /// `peer` is the client; `None` where it comes over a Unix socket, or has gone.
    pub(super) fn failed(&self, error: &io::Error, peer: Option<SocketAddr>) {
        self.report(reason(error), peer, error);
    }

    fn report(&self, reason: HandshakeFailure, peer: Option<SocketAddr>, error: &dyn std::fmt::Display) {
        self.metrics.handshakes.failed(reason);
        let Some(left_out) = self.lines[reason as usize].happened(1, clock::now()) else { return };
        let (listener, peer) = (self.listener, peer.map(tracing::field::display));
        warn!(listener, peer, %error, more_since_the_last_line = left_out, "a TLS handshake failed: {}", meaning(reason));
    }
}

fn meaning(reason: HandshakeFailure) -> &'static str {
    match reason {
        HandshakeFailure::UnknownAuthority => "the client's certificate is of another authority than the one given",
        HandshakeFailure::Expired => "the client's certificate is not valid now: it has expired, or a clock is wrong",
        HandshakeFailure::WrongName => "the client's certificate has another name than the one asked for",
        HandshakeFailure::NoCertificate => "the client shows no certificate",
        HandshakeFailure::Refused => {
            "the client refuses this server's certificate: its authority, name or time, as it says"
        }
        HandshakeFailure::NotTls => "the client speaks no TLS",
        HandshakeFailure::Timeout => "the client did not finish it in time",
        HandshakeFailure::Other => "see the error",
    }
}

fn reason(error: &io::Error) -> HandshakeFailure {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return HandshakeFailure::Other;
    };
    match error {
        Error::NoCertificatesPresented => HandshakeFailure::NoCertificate,
        Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => HandshakeFailure::UnknownAuthority,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => HandshakeFailure::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => HandshakeFailure::WrongName,
            _ => HandshakeFailure::Other,
        },
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            // The signature of an authority that only has the same name.
            | AlertDescription::DecryptError
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate,
        ) => HandshakeFailure::Refused,
        Error::InvalidMessage(_) => HandshakeFailure::NotTls,
        _ => HandshakeFailure::Other,
    }
}
