//! The frames of one gRPC connection (HTTP/2, RFC 9113), between its socket and the h2 library, which refuses streams before
//! any service sees them: what need not be refused is mended on its way in, and each refusal is seen on its way out. It
//! knows frames and headers as bytes, and nothing of calls.

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
use super::preface::PREFACE_BYTES;
use crate::metrics::{Metrics, Refusal};

/// Of a frame.
const HEAD: usize = 9;

/// As the server's settings leave it: what is longer ends the connection.
const FRAME_BYTES_MAX: usize = 16 << 10;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

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

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    /// `None` where it isn't all there.
    fn read(bytes: &[u8]) -> Option<Head> {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit is reserved.
        Some(Head { length, kind, flags, stream: u32::from_be_bytes([d & 0x7f, e, f, g]) })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        out.extend([self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }

    /// The block of headers in the payload of a frame of headers; `None` where the frame is none.
    fn block<'p>(&self, payload: &'p [u8]) -> Option<&'p [u8]> {
        let (padding, rest) = match self.flags & PADDED {
            0 => (0, payload),
            _ => payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
        };
        let priority = if self.flags & PRIORITY == 0 { 0 } else { 5 };
        rest.get(priority..rest.len().checked_sub(padding)?)
    }

    /// What stands before that block and must stay.
    fn priority<'p>(&self, payload: &'p [u8]) -> &'p [u8] {
        let from = usize::from(self.flags & PADDED != 0);
        let length = if self.flags & PRIORITY == 0 { 0 } else { 5 };
        payload.get(from..from + length).unwrap_or_default()
    }
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
