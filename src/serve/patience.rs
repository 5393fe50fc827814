//! An end to what a slow client may hold: its body must come in time, and it must take what it asked for. Wraps bodies and
//! streams, and knows nothing of what they carry.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A wait that begins when there is something to wait for, and ends with it.
struct Wait {
    patience: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    fn new(patience: Duration) -> Wait {
        Wait { patience, until: None }
    }

    /// Ready once the patience is at its end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        self.until.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx)
    }
}

/// A body that must have come whole within a time, counted from the first wait for it.
pub(super) struct Timed<B, L> {
    body: B,
    wait: Wait,
    /// Told when it did not.
    late: L,
}

impl<B, L: FnMut()> Timed<B, L> {
    pub(super) fn new(body: B, patience: Duration, late: L) -> Timed<B, L> {
        Timed { body, wait: Wait::new(patience), late }
    }
}

impl<B: Body<Data = Bytes> + Unpin, L: FnMut() + Unpin> Body for Timed<B, L>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => {
                ready!(this.wait.poll(cx));
                (this.late)();
                Poll::Ready(Some(Err("the body did not come in time".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that fails once its other end has taken nothing for a time, though there is something for it.
pub(super) struct Patient<T> {
    io: T,
    wait: Wait,
}

impl<T> Patient<T> {
    pub(super) fn new(io: T, patience: Duration) -> Patient<T> {
        Patient { io, wait: Wait::new(patience) }
    }

    fn bounded<R>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.wait.until = None;
            return polled;
        }
        ready!(self.wait.poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.bounded(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.bounded(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.bounded(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.bounded(cx, polled)
    }
}
