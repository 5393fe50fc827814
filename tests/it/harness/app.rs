//! The app behind Envoy: answers every request and counts those that reached it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::Router;
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) struct App {
    pub(crate) address: SocketAddr,
    reached: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl App {
    pub(crate) async fn start() -> App {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let reached = Arc::new(AtomicUsize::new(0));
        let counter = reached.clone();
        let router = Router::new().fallback(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            async { "ok\n" }
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("an app serves") });
        App { address, reached, server }
    }

    pub(crate) fn reached(&self) -> usize {
        self.reached.load(Ordering::Relaxed)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}
