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

use super::{connection::GrpcListener, connection_limit::ConnectionPermit};
use crate::serve::tasks::{Needed, Tasks};

/// An accepted connection, not yet of any runtime.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection on its way to a core, with what it holds until it ends.
struct HandedOver {
    connection: Accepted,
    place: Arc<ConnectionPermit>,
    counted: Counted,
}

/// One of the connections of a core, from its acceptance until this is dropped.
struct Counted(Arc<AtomicUsize>);

/// The other end of a core's thread.
pub(crate) struct Core {
    connections: mpsc::UnboundedSender<HandedOver>,
    open: Arc<AtomicUsize>,
    /// Told by the thread when it has ended as it should; closed if it ended otherwise.
    finished: oneshot::Receiver<()>,
    abandon: CancellationToken,
}

impl Core {
    /// Starts a thread, which holds `needed` until it ends. `build` runs inside its runtime and makes what its connections
    /// share; `tasks` are stopped after the last connection.
    pub(crate) fn start(
        number: usize,
        tasks: Tasks,
        needed: Needed,
        build: impl FnOnce(&Tasks) -> Arc<GrpcListener> + Send + 'static,
    ) -> io::Result<Core> {
        let (connections, accepted) = mpsc::unbounded_channel();
        let (finish, finished) = oneshot::channel();
        let abandon = CancellationToken::new();
        let abandoned = abandon.clone();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name(format!("core-{number}")).spawn(move || {
            let _needed = needed;
            runtime.block_on(abandoned.run_until_cancelled(run(build, accepted, tasks)));
            // What blocks, such as a look-up of Redis' name, is not waited for.
            runtime.shutdown_background();
            // Nobody asks where the process ends early.
            let _ = finish.send(());
        })?;
        Ok(Core { connections, open: Arc::default(), finished, abandon })
    }

    /// Connections that this core has now.
    pub(super) fn load(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Hands over a connection.
    pub(super) fn take(&self, connection: Accepted, permit: Arc<ConnectionPermit>) {
        let counted = Counted::new(&self.open);
        // Where the thread is gone the connection closes, and the process ends because of the thread.
        let _ = self.connections.send(HandedOver { connection, place: permit, counted });
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

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Counted {
        open.fetch_add(1, Relaxed);
        Counted(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

async fn run(
    build: impl FnOnce(&Tasks) -> Arc<GrpcListener>,
    mut accepted: mpsc::UnboundedReceiver<HandedOver>,
    tasks: Tasks,
) {
    let connections = TaskTracker::new();
    let grpc = build(&tasks);
    while let Some(handed_over) = accepted.recv().await {
        connections.spawn(serve(Arc::clone(&grpc), handed_over));
    }
    connections.close();
    connections.wait().await;
    tasks.stop();
    tasks.ended().await;
}

async fn serve(grpc: Arc<GrpcListener>, HandedOver { connection, place: permit, counted }: HandedOver) {
    let _counted = counted;
    // A socket that can't be registered has lost its client already.
    match connection {
        Accepted::Tcp(stream) => {
            if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                let peer = stream.peer_addr().ok();
                grpc.greet(stream, peer, &permit).await;
            }
        }
        Accepted::Unix(stream) => {
            if let Ok(stream) = tokio::net::UnixStream::from_std(stream) {
                grpc.greet(stream, None, &permit).await;
            }
        }
    }
}
