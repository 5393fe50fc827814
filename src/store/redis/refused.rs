//! What is wrong with a certificate, in words that name the setting to look at. It knows errors, and no connections.

use std::error::Error;
use std::sync::Arc;

use redis::RedisError;
use rustls::{AlertDescription, CertificateError};

/// The error, and where it is about certificates which one, and what to look at.
pub(super) fn explained(error: &RedisError) -> String {
    match tls(error).and_then(meaning) {
        Some(meaning) => format!("{meaning} ({error})"),
        None => error.to_string(),
    }
}

/// The TLS error behind it: redis-rs shares its errors, and an I/O error keeps it inside rather than as its source.
fn tls(error: &RedisError) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            Some(&**shared)
        } else if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner)
        } else {
            error.source()
        };
    }
    None
}

fn meaning(error: &rustls::Error) -> Option<&'static str> {
    Some(match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the certificate of Redis is of another authority than those of REDIS_TLS_CACERT"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "the certificate of Redis is not valid now: it has expired, or a clock is wrong"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate of Redis has another name than the host in REDIS_URL"
            }
            _ => return None,
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "Redis asks for a client's certificate: set REDIS_TLS_CLIENT_CERT and REDIS_TLS_CLIENT_KEY"
        }
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "Redis asks for a client's certificate (set REDIS_TLS_CLIENT_CERT and REDIS_TLS_CLIENT_KEY), or its own has a \
             key that can't be checked, such as one of P-521 (make one of P-256, as docs/migrating.md has it)"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "Redis refuses the certificate of REDIS_TLS_CLIENT_CERT: it has expired"
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError
            | AlertDescription::CertificateUnknown,
        ) => "Redis refuses the certificate of REDIS_TLS_CLIENT_CERT: it knows another authority",
        rustls::Error::InvalidMessage(_) => "what answers speaks no TLS: is the port right, or REDIS_TLS to be false?",
        _ => return None,
    })
}
