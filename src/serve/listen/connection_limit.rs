//! Limits the open connections of one listener, in total and per peer. At the limit the connection that has been idle
//! longest is closed, so that silent sockets keep nobody out; a few more connections are admitted for probes alone.
//! Knows peers as addresses, and nothing of their requests.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Beyond the bounds, for connections that may ask for health and nothing else.
const FOR_PROBES: usize = 16;

/// A small listener is not divided further than this.
const OF_PEER_MIN: usize = 16;

pub(crate) struct ConnectionLimit {
    connections_max: usize,
    peer_connections_max: usize,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    /// By number, in the order of their coming.
    all: HashMap<u64, ConnectionEntry>,
    by_peer: HashMap<IpAddr, usize>,
    for_probes: usize,
    next: u64,
}

struct ConnectionEntry {
    /// `None` where it did not come over TCP.
    peer: Option<IpAddr>,
    for_probes: bool,
    /// When it was last taken up or put down, in the order of all such moments; `None` while it is busy.
    idle_since: Option<u64>,
    close: CancellationToken,
}

/// One connection's place, until it is dropped.
pub(super) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    number: u64,
    for_probes: bool,
    close: CancellationToken,
    requests: AtomicUsize,
}

/// A request that a connection is busy with, until it is dropped.
pub(super) struct BusyGuard(Arc<ConnectionPermit>);

/// An answer's body, with which its connection is busy.
pub(super) struct BusyBody<B> {
    body: B,
    _busy: BusyGuard,
}

impl ConnectionLimit {
    /// `of_peer` is how many of them one peer may have; a quarter where nobody said.
    pub(crate) fn new(number: usize, of_peer: Option<usize>) -> Arc<ConnectionLimit> {
        let of_peer = of_peer.unwrap_or((number / 4).max(OF_PEER_MIN)).min(number);
        Arc::new(ConnectionLimit { connections_max: number, peer_connections_max: of_peer, open: Mutex::default() })
    }

    /// A place for a connection of `peer`, and whether another had to go for it; `None` where there is none.
    pub(super) fn acquire(self: &Arc<ConnectionLimit>, peer: Option<IpAddr>) -> (Option<Arc<ConnectionPermit>>, bool) {
        let peer = peer.map(|peer| peer.to_canonical());
        let mut taken = self.open.lock();
        let has_all = |taken: &OpenConnections| taken.all.len() - taken.for_probes >= self.connections_max;
        let peer_has_all = |taken: &OpenConnections| {
            peer.is_some_and(|peer| taken.by_peer.get(&peer).is_some_and(|has| *has >= self.peer_connections_max))
        };
        let mut made_room = false;
        if peer_has_all(&taken) {
            made_room = taken.close_idlest(|entry| entry.peer == peer && !entry.for_probes);
        } else if has_all(&taken) {
            made_room = taken.close_idlest(|entry| !entry.for_probes);
        }
        let for_probes = has_all(&taken) || peer_has_all(&taken);
        if for_probes {
            if taken.for_probes >= FOR_PROBES && !taken.close_idlest(|entry| entry.for_probes) {
                return (None, false);
            }
            taken.for_probes += 1;
        } else if let Some(peer) = peer {
            *taken.by_peer.entry(peer).or_default() += 1;
        }
        let (number, close) = (taken.tick(), CancellationToken::new());
        taken.all.insert(number, ConnectionEntry { peer, for_probes, idle_since: Some(number), close: close.clone() });
        drop(taken);
        let (of, requests) = (Arc::clone(self), AtomicUsize::new(0));
        (Some(Arc::new(ConnectionPermit { limit: of, number, for_probes, close, requests })), made_room)
    }
}

impl OpenConnections {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Closes the connection that has been idle longest among those of a kind; `false` where none is idle.
    fn close_idlest(&mut self, of_kind: impl Fn(&ConnectionEntry) -> bool) -> bool {
        let idle = self.all.iter().filter(|(_, entry)| of_kind(entry));
        let idle = idle.filter_map(|(number, entry)| entry.idle_since.map(|since| (since, *number)));
        let Some((_, number)) = idle.min() else { return false };
        self.leave(number);
        true
    }

    fn leave(&mut self, number: u64) {
        let Some(ConnectionEntry { peer, for_probes, close, .. }) = self.all.remove(&number) else { return };
        close.cancel();
        if for_probes {
            self.for_probes -= 1;
        } else if let Some(peer) = peer
            && let Some(has) = self.by_peer.get_mut(&peer)
        {
            *has -= 1;
            if *has == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }
}

impl ConnectionPermit {
    /// Whether it may ask for health only.
    pub(super) fn is_for_probes(&self) -> bool {
        self.for_probes
    }

    /// What comes of `wait`; `None` where another connection needs it before.
    pub(super) async fn until_closed<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        self.close.run_until_cancelled(wait).await
    }

    /// It has a request, or is of use in another way: nobody else's from now on.
    pub(super) fn busy(self: &Arc<ConnectionPermit>) -> BusyGuard {
        if self.requests.fetch_add(1, Relaxed) == 0
            && let Some(entry) = self.limit.open.lock().all.get_mut(&self.number)
        {
            entry.idle_since = None;
        }
        BusyGuard(Arc::clone(self))
    }
}

impl<B> BusyBody<B> {
    pub(super) fn new(body: B, busy: BusyGuard) -> BusyBody<B> {
        BusyBody { body, _busy: busy }
    }
}

impl<B: Body + Unpin> Body for BusyBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Relaxed) == 1 {
            let mut taken = self.0.limit.open.lock();
            let now = taken.tick();
            if let Some(entry) = taken.all.get_mut(&self.0.number) {
                entry.idle_since = Some(now);
            }
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limit.open.lock().leave(self.number);
    }
}
