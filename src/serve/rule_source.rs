//! The first rules, and what brings the later ones: files that are watched, or a control plane.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    metrics::Metrics,
    settings::Settings,
    sources::publish::{self, Publisher},
};

/// Rules in force, and the task that brings newer ones.
pub(super) struct RuleSource {
    pub publisher: Publisher,
    /// Polled by [`RuleSource::arrive`] until there are rules, and as a task of its own from then on.
    pub feeding: Pin<Box<dyn Future<Output = Infallible> + Send>>,
}

impl RuleSource {
    /// Reads rules from files; an error in them ends the start. A control plane's are brought by
    /// [`RuleSource::feeding`]. `reload` asks for files to be read again.
    pub(super) fn open(settings: &Settings, metrics: &Arc<Metrics>, reload: Arc<Notify>) -> anyhow::Result<RuleSource> {
        let (publisher, feed) = publish::open(settings, metrics)?;
        let feeding = Box::pin(feed.run(reload, publisher.clone()));
        Ok(RuleSource { publisher, feeding })
    }

    /// Waits for the first rules; `false` where `stop` is cancelled before there are any.
    pub(super) async fn arrive(&mut self, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = self.publisher.loaded() => true,
            never = &mut self.feeding => match never {},
            () = stop.cancelled() => false,
        }
    }

    /// Logs how many rules there are, and in which domains.
    pub(super) fn announce(&self) {
        let snapshot = self.publisher.snapshot.load();
        let count = snapshot.rules.count();
        info!(files = count.files, domains = count.domains, rules = count.rules, "rules are in force");
        for domain in snapshot.rules.domains() {
            info!(domain = domain.name(), rules = domain.rules().len(), "a domain has rules");
        }
    }
}
