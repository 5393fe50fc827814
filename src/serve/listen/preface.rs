//! The first bytes of an HTTP/2 connection, waited for with an end: hyper itself would wait for ever. Knows nothing of what
//! follows them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
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

/// A stream whose first bytes were read already, and are read again.
pub(super) struct Prefaced<T> {
    first: [u8; LENGTH],
    given: usize,
    io: T,
}

impl<T: AsyncRead + Unpin> Prefaced<T> {
    /// `None` where they don't come within `patience`; an error where the client hung up before.
    pub(super) async fn read(mut io: T, patience: Duration) -> Option<io::Result<Prefaced<T>>> {
        let mut first = [0; LENGTH];
        let read = time::timeout(patience, io.read_exact(&mut first)).await.ok()?;
        Some(read.map(|_| Prefaced { first, given: 0, io }))
    }
}

impl<T> Prefaced<T> {
    /// Why nothing that follows can be HTTP/2, if so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.first {
            PREFACE => None,
            first if first.starts_with(&HELLO) => Some(Refusal::Tls),
            _ => Some(Refusal::Http1),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefaced<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.given == LENGTH {
            return Pin::new(&mut this.io).poll_read(cx, into);
        }
        let left = &this.first[this.given..];
        let now = left.len().min(into.remaining());
        into.put_slice(&left[..now]);
        this.given += now;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefaced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
