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

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n` (RFC 9113, section 3.4).
const LENGTH: usize = 24;

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
