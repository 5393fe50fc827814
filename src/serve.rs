//! The process, phase by phase: settings, rules, store, listeners, ready, drain, deadline. Owns every task and every
//! thread; one that ends early ends the process.

mod api;
mod backend;
mod cores;
mod decision_log;
mod embedded;
mod heartbeat;
mod insight;
mod lifecycle;
mod limiting;
mod listen;
mod logging;
mod modes;
mod open_files;
mod phase;
mod rule_source;
mod run_time;
mod snapshots;
mod stats;
mod surfaces;
mod tasks;
mod traces;
mod watching;

use std::sync::Arc;

use tokio::{sync::Notify, time};
use tokio_util::sync::CancellationToken;

use self::{
    lifecycle::Lifecycle,
    limiting::Limiting,
    listen::{bind::BoundListeners, connection_limit::ConnectionLimit},
    phase::Phase,
    rule_source::RuleSource,
    surfaces::Surfaces,
};
use crate::{metrics::Metrics, settings::Settings};

pub use embedded::Embedded;
pub use logging::start as start_logging;
pub use modes::modes;

/// Serves until `stop` is cancelled, then drains. `reload` asks for the rules to be read again (SIGHUP).
pub async fn serve(settings: Settings, stop: CancellationToken, reload: Arc<Notify>) -> anyhow::Result<()> {
    Phase::Settings.begin();
    open_files::raise(&settings.overload);
    let metrics = Arc::new(Metrics::new(stats::reference(&settings.stats)));
    let lifecycle = Lifecycle::new();

    Phase::Rules.begin();
    let mut rules = RuleSource::open(&settings, &metrics, Arc::clone(&reload))?;
    if !settings.rules.force_start && !rules.arrive(&stop).await {
        return Ok(());
    }
    rules.announce();

    Phase::Store.begin();
    let limiting = Limiting::open(&settings, &rules.publisher, &metrics, &lifecycle.support)?;
    let limiting = limiting.traced(settings.traces.as_ref(), &lifecycle.support);

    Phase::Listeners.begin();
    let bound = BoundListeners::open(&settings.listeners, &metrics).await?;
    let surfaces = Surfaces::start(&settings, &limiting, bound, reload, &lifecycle).await?;
    lifecycle.support.spawn("reload", rules.feeding);

    Phase::Ready.begin();
    let connection_limit =
        ConnectionLimit::new(settings.overload.grpc_connections_max, settings.overload.peer_connections_max);
    let served = tokio::select! {
        never = surfaces.grpc.distribute(&surfaces.cores, &connection_limit, &metrics) => match never {},
        ended_early = lifecycle.ended_early() => Err(ended_early),
        () = until_drained(&settings, &surfaces, &stop) => Ok(()),
    };

    Phase::Deadline { timeout: settings.process.shutdown_timeout }.begin();
    // The acceptor is gone with the select, and its listener with this.
    drop(surfaces.grpc);
    lifecycle.finish(surfaces.cores, settings.process.shutdown_timeout).await;
    served
}

/// Waits until the process is to stop, and then for as long as load balancers need to notice.
async fn until_drained(settings: &Settings, surfaces: &Surfaces, stop: &CancellationToken) {
    stop.cancelled().await;
    let delay = settings.process.drain_delay;
    Phase::Drain { delay }.begin();
    surfaces.health.drain().await;
    time::sleep(delay).await;
}
