//! A control plane that answers by the rule of go-control-plane's snapshot cache (0.13.4: `CreateWatch` and
//! `respondSOTWWatches` in pkg/cache/v3/simple.go, `process` in pkg/server/sotw/v3/xds.go), on which Envoy Gateway
//! stands: versions are counted from 1 at each start, a request is answered where its version differs from the
//! snapshot's, and a set that changes is sent only to a request that waits.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use envoy_types::pb::{
    envoy::service::discovery::v3::DiscoveryRequest, ratelimit::config::ratelimit::v3::RateLimitConfig,
};
use tokio::{sync::watch, task::JoinHandle};

use super::control_plane::{ControlPlane, Stream};

pub(crate) struct SnapshotCache {
    pub(crate) address: SocketAddr,
    snapshot: watch::Sender<Snapshot>,
    seen: Arc<Mutex<Seen>>,
    serving: JoinHandle<()>,
}

/// Version 0 is none yet.
#[derive(Clone, Default)]
struct Snapshot {
    version: u64,
    set: Vec<RateLimitConfig>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<DiscoveryRequest>,
    is_waited_on: bool,
}

impl SnapshotCache {
    pub(crate) async fn start() -> SnapshotCache {
        SnapshotCache::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> SnapshotCache {
        let mut plane = ControlPlane::start_at(address, None).await;
        let (address, snapshot) = (plane.address, watch::Sender::new(Snapshot::default()));
        let seen = Arc::<Mutex<Seen>>::default();
        let (current, noted) = (snapshot.subscribe(), Arc::clone(&seen));
        let serving = tokio::spawn(async move {
            loop {
                serve(plane.stream_some_time().await, current.clone(), &noted).await;
            }
        });
        SnapshotCache { address, snapshot, seen, serving }
    }

    /// The next snapshot.
    pub(crate) fn set(&self, set: &[RateLimitConfig]) {
        self.snapshot.send_modify(|snapshot| *snapshot = Snapshot { version: snapshot.version + 1, set: set.to_vec() });
    }

    /// Requests that refuse a set.
    pub(crate) fn refusals(&self) -> usize {
        self.seen.lock().unwrap().requests.iter().filter(|request| request.error_detail.is_some()).count()
    }

    /// Begins to count requests anew.
    pub(crate) fn forget(&self) {
        self.seen.lock().unwrap().requests.clear();
    }

    /// Whether a client waits for the snapshot after the present one.
    pub(crate) fn is_waited_on(&self) -> bool {
        self.seen.lock().unwrap().is_waited_on
    }

    /// Gone, with every connection.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.serving.abort();
        assert!(self.serving.await.is_err(), "it serves until it is stopped");
        self.address
    }
}

/// Answers one client until its stream ends.
async fn serve(mut stream: Stream, mut snapshot: watch::Receiver<Snapshot>, seen: &Mutex<Seen>) {
    let (mut waiting, mut sent) = (None::<DiscoveryRequest>, 0);
    loop {
        tokio::select! {
            request = stream.requests.recv() => {
                let Some(request) = request else { return };
                seen.lock().unwrap().requests.push(request.clone());
                if sent == 0 || request.response_nonce == nonce(sent) {
                    waiting = Some(request);
                }
            }
            changed = snapshot.changed() => if changed.is_err() { return },
        }
        let Snapshot { version, mut set } = snapshot.borrow_and_update().clone();
        if version > 0 && waiting.take_if(|request| request.version_info != version.to_string()).is_some() {
            sent += 1;
            // Go's maps have no order.
            let length = set.len().max(1);
            set.rotate_left(sent % length);
            stream.send_with_nonce(&version.to_string(), &nonce(sent), &set);
        }
        seen.lock().unwrap().is_waited_on = waiting.is_some();
    }
}

fn nonce(sent: usize) -> String {
    sent.to_string()
}
