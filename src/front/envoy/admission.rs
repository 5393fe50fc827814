//! Admission control: limits how many requests of one core may wait, for their bodies or for the store, and how many
//! bytes of partial bodies they hold. A request that is answered at once needs no permit. Knows nothing of rate limits.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::unsent::ConnectionAnswers;
use crate::{
    front::decider::{Permit, Permits},
    settings::OverloadSettings,
};

/// Bytes of bodies that come in several parts and are joined. Honest bodies come whole, so this is for attackers.
const JOINED_BYTES_MAX: usize = 64 << 20;

/// Number of calls of one connection that may wait for their bodies even if all common places are taken, so that other
/// connections can't starve it.
const OWN_PERMITS: usize = 16;

/// A body's next frame; `None` at its end.
type NextFrame<E> = Option<Result<Frame<Bytes>, E>>;

/// The bounds on waiting requests of one core, or of HTTP and Tollgate's own API.
pub struct AdmissionControl {
    /// Places for requests that wait for the store.
    pub(crate) store_permits: Permits,
    /// Places for requests that wait for their own bodies. They are separate, or clients that send no body would keep
    /// others from the store.
    body_permits: Permits,
    joined: AtomicUsize,
    patience: Duration,
}

/// What the calls of one connection share: places of their own, and the client's address.
pub struct ClientConnection {
    permits: Permits,
    pub(super) answers: Arc<ConnectionAnswers>,
    /// The client's address, over TCP.
    pub(super) peer: Option<SocketAddr>,
}

/// The wait of one request for its body: begins with the first frame that isn't there yet.
pub(super) struct BodyWait<'g> {
    guard: &'g AdmissionControl,
    caller: &'g ClientConnection,
    begun: Option<(Pin<Box<Sleep>>, Permit<'g>)>,
}

/// The parts of a body, put together.
pub(super) struct JoinedBody<'g> {
    guard: &'g AdmissionControl,
    bytes: BytesMut,
}

impl AdmissionControl {
    pub(crate) fn new(bounds: &OverloadSettings) -> AdmissionControl {
        let places = || Permits::new(bounds.in_flight_max);
        AdmissionControl {
            store_permits: places(),
            body_permits: places(),
            joined: AtomicUsize::new(0),
            patience: bounds.client_timeout,
        }
    }

    pub(super) fn wait_for_body<'g>(&'g self, caller: &'g ClientConnection) -> BodyWait<'g> {
        BodyWait { guard: self, caller, begun: None }
    }

    pub(super) fn join_body(&self) -> JoinedBody<'_> {
        JoinedBody { guard: self, bytes: BytesMut::new() }
    }
}

impl ClientConnection {
    pub fn new(answers: Arc<ConnectionAnswers>, peer: Option<SocketAddr>) -> ClientConnection {
        ClientConnection { permits: Permits::new(OWN_PERMITS), answers, peer }
    }

    /// A caller without a connection.
    pub fn detached() -> ClientConnection {
        ClientConnection::new(ConnectionAnswers::detached(), None)
    }
}

impl<'g> BodyWait<'g> {
    pub(super) fn guard(&self) -> &'g AdmissionControl {
        self.guard
    }

    /// The next frame; RESOURCE_EXHAUSTED where there is no place to wait for it, DEADLINE_EXCEEDED where it is not
    /// waited for any longer.
    pub(super) fn poll_frame<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        body: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<Result<NextFrame<B::Error>, Status>> {
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(Ok(frame));
        }
        let (until, _) = match &mut self.begun {
            Some(begun) => begun,
            None => {
                let Some(permit) = self.caller.permits.acquire().or_else(|| self.guard.body_permits.acquire()) else {
                    return Poll::Ready(Err(Status::resource_exhausted("too many requests are under way")));
                };
                self.begun.insert((Box::pin(sleep(self.guard.patience)), permit))
            }
        };
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(Status::deadline_exceeded("the request did not come in time")))
    }
}

impl JoinedBody<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn add(&mut self, part: &[u8]) -> Result<(), Status> {
        let before = self.guard.joined.fetch_add(part.len(), Relaxed);
        // The counted bytes are released with the whole body.
        self.bytes.extend_from_slice(part);
        match before + part.len() > JOINED_BYTES_MAX {
            true => Err(Status::resource_exhausted("too many bytes of requests are under way")),
            false => Ok(()),
        }
    }
}

impl Drop for JoinedBody<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.guard.joined.fetch_sub(self.bytes.len(), Relaxed);
        }
    }
}
