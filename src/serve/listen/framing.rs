//! The frames of one gRPC connection (HTTP/2, RFC 9113), between its socket and the h2 library, which refuses streams before
//! any service sees them: what need not be refused is mended on its way in, and each refusal is seen on its way out. It
//! knows frames and headers as bytes, and nothing of calls.

mod head;
mod hpack;
mod huffman;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{incoming::Incoming, outgoing::Outgoing};
use crate::metrics::{Metrics, Refusal};

/// Read at once beside the reader's own buffer: where that has no room for what is held, or much is, which is not copied
/// to and fro for every byte that comes.
const APART: usize = 4 << 10;
const HELD_MUCH: usize = 1 << 10;

/// A stream of frames.
pub(super) struct Framed<T> {
    io: T,
    incoming: Incoming,
    outgoing: Outgoing,
    metrics: Arc<Metrics>,
    peer: Option<SocketAddr>,
}

impl<T> Framed<T> {
    /// From the preface on, whose `first` bytes were read from `io` already.
    pub(super) fn new(first: &[u8], io: T, metrics: Arc<Metrics>, peer: Option<SocketAddr>) -> Framed<T> {
        let mut incoming = Incoming::default();
        incoming.add(first);
        Framed { io, incoming, outgoing: Outgoing::default(), metrics, peer }
    }

    fn sent(&mut self, bytes: &[u8]) {
        let Framed { incoming, outgoing, metrics, peer, .. } = self;
        outgoing.sent(bytes, |stream, code| {
            if let Some(why) = refusal(code, incoming.why(stream)) {
                metrics.refusals.refused(why, *peer);
            }
        });
    }
}

/// Why a stream was reset, if that was a refusal: by the code (RFC 9113, section 7), and by what its headers have told.
fn refusal(code: u32, told: Option<Refusal>) -> Option<Refusal> {
    const NO_ERROR: u32 = 0;
    const INTERNAL_ERROR: u32 = 2;
    const STREAM_CLOSED: u32 = 5;
    const REFUSED_STREAM: u32 = 7;
    const CANCEL: u32 = 8;
    match code {
        // An answer was there before all of the request; nobody waits any more; the second answer to what was refused.
        NO_ERROR | CANCEL | STREAM_CLOSED => None,
        INTERNAL_ERROR => Some(Refusal::Internal),
        REFUSED_STREAM => Some(Refusal::TooManyStreams),
        _ => Some(told.unwrap_or(Refusal::Malformed)),
    }
}

impl<T: AsyncRead + Unpin> Framed<T> {
    /// Reads into the reader's own buffer, behind what is held; `None` where nothing passes yet.
    fn poll_beside(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<Option<()>>> {
        let start = into.filled().len();
        into.put_slice(self.incoming.held());
        let from = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        if !matches!(read, Poll::Ready(Ok(()))) {
            into.set_filled(start);
            return read.map_ok(Some);
        }
        if into.filled().len() == from {
            into.set_filled(start);
            return Poll::Ready(Ok(self.ended()));
        }
        let passed = self.incoming.take(&into.filled()[start..]);
        into.set_filled(start + passed);
        Poll::Ready(Ok((passed > 0).then_some(())))
    }

    /// Reads a little beside it.
    fn poll_apart(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<()>>> {
        let mut apart = [0; APART];
        let mut apart = ReadBuf::new(&mut apart);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut apart))?;
        if apart.filled().is_empty() {
            return Poll::Ready(Ok(self.ended()));
        }
        self.incoming.add(apart.filled());
        Poll::Ready(Ok(None))
    }

    /// The end; but not before what is held has passed.
    fn ended(&mut self) -> Option<()> {
        self.incoming.end();
        self.incoming.ready().is_empty().then_some(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Framed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let ready = this.incoming.ready();
            if !ready.is_empty() {
                let now = ready.len().min(into.remaining());
                into.put_slice(&ready[..now]);
                this.incoming.gave(now);
                return Poll::Ready(Ok(()));
            }
            let read = if this.incoming.held().len() < into.remaining().min(HELD_MUCH) {
                ready!(this.poll_beside(cx, into))?
            } else {
                ready!(this.poll_apart(cx))?
            };
            if read.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Framed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, parts))?;
        let mut left = written;
        for part in parts {
            let now = left.min(part.len());
            self.sent(&part[..now]);
            left -= now;
        }
        Poll::Ready(Ok(written))
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
