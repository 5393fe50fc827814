//! Sends this replica's decisions to watches that other replicas were asked for. While there are none it sleeps.

use std::{convert::Infallible, sync::Arc};

use tokio::time;
use tracing::warn;

use super::tasks::Tasks;
use crate::{
    clock::{self, log_throttle::LogThrottle},
    limiter::decision_feed::{DecisionFeed, DecisionWatch},
    run_time::fleet::{Fleet, PUBLISH_EVERY, PostedWatch, Published, lines_per_look},
    store::StoreError,
};

pub(super) fn start(feed: &Arc<DecisionFeed>, fleet: &Arc<Fleet>, tasks: &Tasks) {
    if fleet.board().is_some() {
        let sender = Sender { feed: Arc::clone(feed), fleet: Arc::clone(fleet), watches: Vec::new() };
        tasks.spawn("sending decisions to watches", sender.run());
    }
}

struct Sender {
    feed: Arc<DecisionFeed>,
    fleet: Arc<Fleet>,
    /// Those of other replicas.
    watches: Vec<(PostedWatch, Arc<DecisionWatch>)>,
}

impl Sender {
    async fn run(mut self) -> Infallible {
        let mut heard = self.fleet.watches();
        let refused = LogThrottle::default();
        loop {
            let posted = heard.borrow_and_update().clone();
            self.follow(posted);
            let is_idle = self.watches.is_empty();
            tokio::select! {
                // The sender is the fleet's, so that the wait can't fail.
                _ = heard.changed() => continue,
                () = time::sleep(PUBLISH_EVERY), if !is_idle => {}
            }
            if let Err(StoreError::Refused(error)) = self.send().await
                && refused.is_due(clock::now())
            {
                warn!(error, "can't send decisions to a watch: `tollgate tail` doesn't show those of this replica");
            }
        }
    }

    /// Begins and ends watches as the blackboard has them.
    fn follow(&mut self, posted: Vec<PostedWatch>) {
        let own = self.fleet.id();
        let is_there = |watch: &PostedWatch| posted.iter().any(|other| other.id == watch.id);
        self.watches.retain(|(watch, _)| {
            let stays = is_there(watch);
            if !stays {
                self.feed.end(&watch.id);
            }
            stays
        });
        let is_known = |watch: &PostedWatch| self.watches.iter().any(|(known, _)| known.id == watch.id);
        let news: Vec<PostedWatch> =
            posted.iter().filter(|watch| *watch.by != *own && !is_known(watch)).cloned().collect();
        for posted in news {
            let watch = Arc::new(DecisionWatch::new(&posted.id, posted.filter.clone()));
            // A random part of a line, so that a thousand replicas don't all send their first line at once.
            watch.take(lines_per_look(self.fleet.heard().replicas).max(rand::random::<f64>()));
            self.feed.begin(Arc::clone(&watch));
            self.watches.push((posted, watch));
        }
    }

    /// Publishes what there is; the first error, where there is one.
    async fn send(&self) -> Result<(), StoreError> {
        let Some(board) = self.fleet.board() else { return Ok(()) };
        let room = lines_per_look(self.fleet.heard().replicas);
        let mut first = Ok(());
        for (posted, watch) in &self.watches {
            let (lines, left_out) = watch.take(room);
            if lines.is_empty() && left_out == 0 {
                continue;
            }
            let sent = board.publish(posted, &Published { lines, left_out }.encode()).await;
            first = first.and(sent);
        }
        first
    }
}
