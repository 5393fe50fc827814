//! The acceptor: takes gRPC connections and deals each to the core with the fewest. One acceptor rather than
//! SO_REUSEPORT, because an Envoy has few connections and the kernel's hash would leave cores idle.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::FileTypeExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, UnixListener},
    time,
};
use tracing::warn;

use super::{
    connection_limit::ConnectionLimit,
    core::{Accepted, Core},
};
use crate::metrics::{ListenerKind, Metrics};

/// After an error such as "too many open files": trying at once would only spin.
const RETRY: Duration = Duration::from_millis(50);

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Its address, if it is one of IP.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }
}

/// Attempts to accept that failed one after the other: one line of the log, however many there are.
pub(super) struct Failures {
    surface: ListenerKind,
    is_logged: bool,
}

impl Failures {
    pub(super) fn of(surface: ListenerKind) -> Failures {
        Failures { surface, is_logged: false }
    }

    /// Another attempt failed; the next is made after this.
    pub(super) async fn wait_after(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_logged, true) {
            warn!(listener = self.surface.name(), %error, "connections can't be accepted, retrying");
        }
        time::sleep(RETRY).await;
    }

    /// A connection was accepted.
    pub(super) fn end(&mut self) {
        self.is_logged = false;
    }
}

impl Listener {
    /// Binds a Unix socket. One that a process left behind is replaced; anything else in its place is not.
    pub(crate) fn bind_unix(path: &Path) -> io::Result<Listener> {
        let stale = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if stale && std::os::unix::net::UnixStream::connect(path).is_err() {
            std::fs::remove_file(path)?;
        }
        UnixListener::bind(path).map(Listener::Unix)
    }

    /// A connection, and who is at its other end, if it came over TCP.
    async fn accept(&self) -> io::Result<(Accepted, Option<IpAddr>)> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                (Accepted::Tcp(stream.into_std()?), Some(peer.ip()))
            }
            Listener::Unix(listener) => (Accepted::Unix(listener.accept().await?.0.into_std()?), None),
        })
    }

    /// Accepts for ever. What finds no place is closed: its client tries another replica.
    pub(crate) async fn distribute(
        &self,
        cores: &[Core],
        connection_limit: &Arc<ConnectionLimit>,
        metrics: &Metrics,
    ) -> Infallible {
        let mut failures = Failures::of(ListenerKind::Grpc);
        loop {
            match self.accept().await {
                Ok((connection, peer)) => {
                    failures.end();
                    let (permit, made_room) = connection_limit.acquire(peer);
                    // Who asks for health over gRPC can't be told from who asks for limits.
                    let permit = permit.filter(|permit| !permit.is_for_probes());
                    if permit.is_none() || made_room {
                        metrics.clients.refused(ListenerKind::Grpc);
                    }
                    if let Some(permit) = permit
                        && let Some(least) = cores.iter().min_by_key(|core| core.load())
                    {
                        least.take(connection, permit);
                    }
                }
                Err(error) => failures.wait_after(&error).await,
            }
        }
    }
}
