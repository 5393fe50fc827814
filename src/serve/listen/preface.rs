//! The first bytes of an HTTP/2 connection, waited for with an end: hyper itself would wait for ever. Knows nothing of what
//! follows them.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time,
};

use crate::metrics::Refusal;

/// RFC 9113, section 3.4.
pub(super) const PREFACE: [u8; LENGTH] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LENGTH: usize = 24;

/// A record of TLS that begins a handshake, and the first byte of its version.
const HELLO: [u8; 2] = [0x16, 3];

/// How many bytes come before the first frame.
pub(super) const PREFACE_BYTES: usize = LENGTH;

/// The first bytes of a connection, whatever they are.
pub(super) struct FirstBytes([u8; LENGTH]);

impl FirstBytes {
    /// `None` where they don't come within `patience`; an error where the client hung up before.
    pub(super) async fn read(io: &mut (impl AsyncRead + Unpin), patience: Duration) -> Option<io::Result<FirstBytes>> {
        let mut first = [0; LENGTH];
        let read = time::timeout(patience, io.read_exact(&mut first)).await.ok()?;
        Some(read.map(|_| FirstBytes(first)))
    }

    /// Why nothing that follows can be HTTP/2, if so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.0 {
            PREFACE => None,
            first if first.starts_with(&HELLO) => Some(Refusal::Tls),
            _ => Some(Refusal::Http1),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
