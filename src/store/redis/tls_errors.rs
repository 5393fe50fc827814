//! Explains what is wrong with a certificate or a password, in words that name the setting. It knows errors, and no
//! connections.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};
use rustls::{AlertDescription, CertificateError};

use super::settings::{RedisSettings, RedisTls};

/// The error as text, with its meaning if it is about TLS or the password: which certificate is wrong, or that only one
/// side uses TLS.
pub(super) fn explained(error: &RedisError, settings: &RedisSettings) -> String {
    let meaning = match (find::<rustls::Error>(error), &settings.tls) {
        (_, Some(tls)) if lacks_certificates(tls) => Some(untrusted(tls)),
        (Some(rustls::Error::InvalidCertificate(CertificateError::Other(why))), Some(_)) => {
            let meaning = format!("Redis shows {}{TRUST_IT}", why.0);
            return settings.names.in_message(&meaning);
        }
        (Some(error), Some(tls)) => meaning(error, tls),
        (None, None) if is_cut_off(error) && !settings.topology.has_socket() => Some(CLEAR.into()),
        // In RESP2 the library makes this error itself, without Redis' code.
        (None, _) if error.kind() == ErrorKind::AuthenticationFailed => Some(PASSWORD.into()),
        _ => None,
    };
    match meaning {
        Some(meaning) => format!("{} ({error})", settings.names.in_message(&meaning)),
        None => error.to_string(),
    }
}

/// What it may mean that Redis sends nothing at all, after a colon.
pub(super) fn silence(settings: &RedisSettings) -> String {
    let why = match settings.tls {
        Some(_) => ": a Redis that speaks no TLS says nothing to one that does: is REDIS_TLS to be false?",
        None => ": does Redis listen there, and does it run?",
    };
    settings.names.in_message(why)
}

const PASSWORD: &str = "Redis refuses the user or password of {auth}";

/// The end of a message about a certificate that isn't trusted.
const TRUST_IT: &str = ": if it is that of your Redis, its file belongs into REDIS_TLS_CACERT";

const CLEAR: &str = "the connection was closed before a word: a Redis that wants TLS does so: is REDIS_TLS to be true?";

/// Whether the other side ended the connection. A file that can't be read is an I/O error too.
fn is_cut_off(error: &RedisError) -> bool {
    let kind = find::<io::Error>(error).map(io::Error::kind);
    // Nor does a port on which nobody listens say anything of TLS.
    error.is_connection_dropped() && !matches!(kind, Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
}

/// Whether nobody listens at the address. A socket's file is then missing, as the file of a certificate may be elsewhere.
pub(super) fn is_refused(error: &RedisError, settings: &RedisSettings) -> bool {
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => true,
        Some(io::ErrorKind::NotFound) => settings.topology.has_socket(),
        _ => false,
    }
}

/// The error of type `T` behind it: redis-rs shares its errors, and an I/O error keeps its cause inside rather than as
/// its source.
fn find<T: Error + 'static>(error: &RedisError) -> Option<&T> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            Some(&**shared)
        } else if let Some(shared) = error.downcast_ref::<Arc<io::Error>>() {
            Some(&**shared)
        } else if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner)
        } else {
            error.source()
        };
    }
    None
}

fn meaning(error: &rustls::Error, tls: &RedisTls) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => return Some(untrusted(tls)),
            _ if lacks_certificates(tls) => return Some(untrusted(tls)),
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
             key that can't be checked, such as one of P-521 (make one of P-256, as docs/src/guides/moving-differences.md has it)"
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
    }))
}

/// The message about a certificate of Redis that isn't trusted: which side is wrong depends on which authorities are
/// trusted.
fn untrusted(tls: &RedisTls) -> Cow<'static, str> {
    match &tls.ca_file {
        None => {
            "the certificate of Redis is of no authority that everybody trusts, and REDIS_TLS_CACERT isn't set: set it \
            to the certificate of the authority"
                .into()
        }
        Some(file) if lacks_certificates(tls) => {
            format!("{}, the file of REDIS_TLS_CACERT, holds no certificate", file.display()).into()
        }
        Some(_) => "the certificate of Redis is of another authority than those of REDIS_TLS_CACERT".into(),
    }
}

/// Whether the file of authorities can be read and has no certificate in it.
fn lacks_certificates(tls: &RedisTls) -> bool {
    let text = tls.ca_file.as_ref().and_then(|file| std::fs::read(file).ok());
    text.is_some_and(|text| !text.windows(BEGIN.len()).any(|window| window == BEGIN))
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
