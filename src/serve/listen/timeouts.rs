//! Timeouts for slow clients: a body must arrive in time, and answers must be read. Wraps bodies and streams, and
//! doesn't know their contents.

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
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A timer that runs only while something is waited for.
struct PatienceTimer {
    patience: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl PatienceTimer {
    fn new(patience: Duration) -> PatienceTimer {
        PatienceTimer { patience, until: None }
    }

    /// Ready once the patience is at its end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        self.until.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx)
    }
}

/// A body that must have come whole within a time, counted from the first wait for it.
pub(super) struct TimedBody<B, L> {
    body: B,
    wait: PatienceTimer,
    /// Told when it did not.
    late: L,
}

impl<B, L: FnMut()> TimedBody<B, L> {
    pub(super) fn new(body: B, patience: Duration, late: L) -> TimedBody<B, L> {
        TimedBody { body, wait: PatienceTimer::new(patience), late }
    }
}

impl<B: Body<Data = Bytes> + Unpin, L: FnMut() + Unpin> Body for TimedBody<B, L>
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

/// A body that ends, with whatever has come, once a token is cancelled.
pub(super) struct CancellableBody<B> {
    body: B,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<B> CancellableBody<B> {
    pub(super) fn new(body: B, end: CancellationToken) -> CancellableBody<B> {
        CancellableBody { body, ended: Box::pin(end.cancelled_owned()) }
    }
}

impl<B: Body + Unpin> Body for CancellableBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => self.ended.as_mut().poll(cx).map(|()| None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the other end has to take within its patience while there is no room for more. A byte now and then would hold
/// whatever waits behind it for ever.
const TAKEN_MIN: usize = 64 << 10;

/// A stream that fails once its other end has taken too little for a time, though there was something for it all the while.
pub(super) struct TimedStream<T> {
    io: T,
    /// Begins when there is no room, and ends when all is gone that there was.
    wait: PatienceTimer,
    /// Bytes that were taken since it began.
    taken: usize,
}

impl<T> TimedStream<T> {
    pub(super) fn new(io: T, patience: Duration) -> TimedStream<T> {
        TimedStream { io, wait: PatienceTimer::new(patience), taken: 0 }
    }

    fn no_room<R>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        while self.wait.poll(cx).is_ready() {
            if self.taken < TAKEN_MIN {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            (self.wait.until, self.taken) = (None, 0);
        }
        Poll::Pending
    }

    fn wrote(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => self.no_room(cx),
            Poll::Ready(written) => {
                self.taken = self.taken.saturating_add(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
        }
    }

    fn finished(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if polled.is_pending() {
            return self.no_room(cx);
        }
        (self.wait.until, self.taken) = (None, 0);
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TimedStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TimedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.finished(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.finished(cx, polled)
    }
}
