//! Why a TLS handshake failed, in words that say which certificate and what is wrong with it: counted each time, logged
//! at most once a minute for each reason, because anybody may cause them. It knows a listener by its name only.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{AlertDescription, CertificateError, Error};
use tracing::warn;

use crate::{
    clock::{self, paced::PacedEvents},
    metrics::{Handshake, Metrics},
};

/// Counts and tells.
pub(super) struct Failures {
    listener: &'static str,
    metrics: Arc<Metrics>,
    /// By reason.
    lines: [PacedEvents; Handshake::ALL.len()],
}

impl Failures {
    pub(super) fn new(listener: &'static str, metrics: Arc<Metrics>) -> Failures {
        Failures { listener, metrics, lines: Default::default() }
    }

    pub(super) fn timed_out(&self, peer: Option<SocketAddr>) {
        self.tell(Handshake::Timeout, peer, &"no handshake came");
    }

    /// `peer` is the client; `None` where it comes over a Unix socket, or has gone.
    pub(super) fn failed(&self, error: &io::Error, peer: Option<SocketAddr>) {
        self.tell(reason(error), peer, error);
    }

    fn tell(&self, reason: Handshake, peer: Option<SocketAddr>, error: &dyn std::fmt::Display) {
        self.metrics.handshakes.failed(reason);
        let Some(left_out) = self.lines[reason as usize].happened(1, clock::now()) else { return };
        let (listener, peer) = (self.listener, peer.map(tracing::field::display));
        warn!(listener, peer, %error, more_since_the_last_line = left_out, "a TLS handshake failed: {}", meaning(reason));
    }
}

fn meaning(reason: Handshake) -> &'static str {
    match reason {
        Handshake::UnknownAuthority => "the client's certificate is of another authority than the one given",
        Handshake::Expired => "the client's certificate is not valid now: it has expired, or a clock is wrong",
        Handshake::WrongName => "the client's certificate has another name than the one asked for",
        Handshake::NoCertificate => "the client shows no certificate",
        Handshake::Refused => "the client refuses this server's certificate: its authority, name or time, as it says",
        Handshake::NotTls => "the client speaks no TLS",
        Handshake::Timeout => "the client did not finish it in time",
        Handshake::Other => "see the error",
    }
}

fn reason(error: &io::Error) -> Handshake {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return Handshake::Other;
    };
    match error {
        Error::NoCertificatesPresented => Handshake::NoCertificate,
        Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Handshake::UnknownAuthority,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Handshake::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Handshake::WrongName,
            _ => Handshake::Other,
        },
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            // The signature of an authority that only has the same name.
            | AlertDescription::DecryptError
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate,
        ) => Handshake::Refused,
        Error::InvalidMessage(_) => Handshake::NotTls,
        _ => Handshake::Other,
    }
}
