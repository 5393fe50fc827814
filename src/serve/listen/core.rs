//! The threads that decide: one single-threaded runtime each, with its own connections and its own way to the store,
//! so that a request never changes threads.

use std::{
    io,
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{connection::Grpc, places::Place};

/// An accepted connection, not yet of any runtime.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The other end of a core's thread.
pub(crate) struct Core {
    connections: mpsc::UnboundedSender<(Accepted, Arc<Place>)>,
    open: Arc<AtomicUsize>,
    /// Told by the thread when it has ended as it should; closed if it ended otherwise.
    finished: oneshot::Receiver<()>,
    abandon: CancellationToken,
}

impl Core {
    /// Starts a thread. `build` runs inside its runtime and makes what its connections share; the tasks that it
    /// spawns go on the tracker and end by their own token. `ended` is cancelled when the thread ends, however it does.
    pub(crate) fn start(
        number: usize,
        ended: CancellationToken,
        build: impl FnOnce(&TaskTracker) -> Arc<Grpc> + Send + 'static,
    ) -> io::Result<Core> {
        let (connections, accepted) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        let (finish, finished) = oneshot::channel();
        let abandon = CancellationToken::new();
        let abandoned = abandon.clone();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name(format!("core-{number}")).spawn(move || {
            let _ended = ended.drop_guard();
            runtime.block_on(abandoned.run_until_cancelled(run(build, accepted, counted)));
            // What blocks, such as a look-up of Redis' name, is not waited for.
            runtime.shutdown_background();
            // Nobody asks where the process ends early.
            let _ = finish.send(());
        })?;
        Ok(Core { connections, open, finished, abandon })
    }

    /// Connections that this core has now.
    pub(super) fn load(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Hands over a connection.
    pub(super) fn take(&self, connection: Accepted, place: Arc<Place>) {
        self.open.fetch_add(1, Relaxed);
        // Where the thread is gone the connection closes, and `ended` ends the process.
        let _ = self.connections.send((connection, place));
    }

    /// Ends whatever is left on it, once it is cancelled.
    pub(crate) fn abandon(&self) -> CancellationToken {
        self.abandon.clone()
    }

    /// Waits until the last connection has ended; whether the thread ended as it should. No more can come once this is
    /// called.
    pub(crate) async fn finish(self) -> bool {
        drop(self.connections);
        self.finished.await.is_ok()
    }
}

async fn run(
    build: impl FnOnce(&TaskTracker) -> Arc<Grpc>,
    mut accepted: mpsc::UnboundedReceiver<(Accepted, Arc<Place>)>,
    open: Arc<AtomicUsize>,
) {
    let tasks = TaskTracker::new();
    let connections = TaskTracker::new();
    let grpc = build(&tasks);
    while let Some((connection, place)) = accepted.recv().await {
        let (grpc, open) = (Arc::clone(&grpc), Arc::clone(&open));
        connections.spawn(async move {
            // A socket that can't be registered has lost its client already.
            match connection {
                Accepted::Tcp(stream) => {
                    if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                        let peer = stream.peer_addr().ok();
                        grpc.greet(stream, peer, &place).await;
                    }
                }
                Accepted::Unix(stream) => {
                    if let Ok(stream) = tokio::net::UnixStream::from_std(stream) {
                        grpc.greet(stream, None, &place).await;
                    }
                }
            }
            open.fetch_sub(1, Relaxed);
        });
    }
    connections.close();
    connections.wait().await;
    grpc.closed.cancel();
    tasks.close();
    tasks.wait().await;
}
