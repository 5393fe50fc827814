//! The process: load, bind, serve, drain. Owns every task and every thread; one that ends early ends the process.

mod api;
mod backend;
mod embedded;
mod listen;
mod logging;
mod modes;
mod open_files;
mod run_time;
mod snapshots;
mod stats;
mod traces;

use crate::sources::publish;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, thread::available_parallelism, time::Duration};

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use futures_util::{FutureExt, future::join_all};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codec::CompressionEncoding::Gzip, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tracing::{info, warn};

use self::backend::Backend;
use crate::serve::listen::{
    accept::Listener, connection::Grpc, core::Core, http_listener::HttpListener, places::Places, tls::Tls,
};
use crate::sources::publish::Publisher;
use crate::{
    front::{
        admin::{self, Explaining, Hosts},
        api::{Api, grpc_service},
        envoy::{CoreAnswers, FILE_DESCRIPTORS, RateLimit},
        health::Health,
        http,
    },
    limiter::{Degraded, Limiter, Snapshot},
    metrics::{self, Metrics, Surface},
    run_time::RunTime,
    settings::{DecisionSettings, ListenerSettings, OverloadSettings, ResponseSettings, Settings, TlsSettings},
    store::{
        Store,
        memory::{Memory, MemorySettings},
    },
    trace::Tracer,
};

pub use embedded::Embedded;
pub use logging::start as start_logging;
pub use modes::modes;

/// Listeners that are bound, before anything is served: a port that is taken is an error at once.
struct Bound {
    grpc: Listener,
    http: TcpListener,
    admin: TcpListener,
    metrics: Option<TcpListener>,
}

/// Serves until `stop` is cancelled, then drains. `reload` asks for the rules to be read again (SIGHUP).
pub async fn serve(settings: Settings, stop: CancellationToken, reload: Arc<Notify>) -> anyhow::Result<()> {
    open_files::raise(&settings.overload);
    let metrics = Arc::new(Metrics::new(stats::reference(&settings.stats)));
    let (publisher, feed) = publish::open(&settings, &metrics)?;
    let snapshot = Arc::clone(&publisher.snapshot);
    let mut feeding = Box::pin(feed.run(Arc::clone(&reload), publisher.clone()));
    if !settings.rules.force_start && !has_rules(&publisher, &mut feeding, &stop).await {
        return Ok(());
    }
    announce_rules(&snapshot.load());
    let backend = Backend::new(&settings.store, settings.decisions.algorithm)?;
    announce_store(&backend, &settings);
    let load = |tls: &Option<TlsSettings>| tls.as_ref().map(|tls| Tls::load(tls, &metrics)).transpose();
    let (tls, certificates) = load(&settings.listeners.tls)?.unzip();
    let (http_tls, http_certificates) = load(&settings.listeners.http_tls)?.unzip();
    let bound = bind(&settings.listeners).await?;
    // `goaway` ends connections that decide, `closed` what they needed: the store's tasks outlive the last request, and so
    // does what tells how they fare.
    let (goaway, closed) = (CancellationToken::new(), CancellationToken::new());
    let (deciding, control) = (TaskTracker::new(), TaskTracker::new());
    let local = Arc::new(Memory::new(MemorySettings { max_bytes: settings.store.memory_max_bytes }));
    let limiting = Limiting::open(&settings, backend, &local, (&publisher, &metrics), (&control, &closed))?;

    let core_ended = CancellationToken::new();
    let (service, store) = limiting.service(&control, &closed);
    let (api, tokens) = api::open(&settings, service.limiter(), service.guard())?;
    let explaining = Explaining { limiter: service.limiter().clone(), patience: settings.decisions.store_timeout };
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let others = other_services(health_service, &api)?;
    let cores = start_cores(&settings, &limiting, (&others, &tls), &goaway, &core_ended)?;
    let ways = (store.clone(), Arc::clone(&limiting.run_time.overrides));
    let health = Health::new(reporter, ways, (Arc::clone(&snapshot), Arc::clone(&metrics)), settings.health).await;
    let health = Arc::new(health);

    let mut parts = Parts::new();
    let mut serve_http = |surface: Surface, listener, tls, router, stop: &CancellationToken| {
        let (bounds, metrics, stop) = (settings.overload, Arc::clone(&metrics), stop.clone());
        let serving = HttpListener { surface, router, tls, bounds, metrics, stop }.serve(listener);
        let serving = serving.map(move |()| (surface.name(), Ok(())));
        match surface {
            Surface::Http => parts.spawn(deciding.track_future(serving)),
            _ => parts.spawn(serving),
        };
    };
    serve_http(Surface::Http, bound.http, http_tls, http::router(Arc::clone(&health), service, api), &goaway);
    let hosts = Hosts::new(&settings.listeners.admin_hosts);
    let admin = admin::router(Arc::clone(&snapshot), reload, explaining, hosts);
    serve_http(Surface::Admin, bound.admin, None, admin, &closed);
    if let Some(listener) = bound.metrics {
        let router = admin::metrics_router(&settings.listeners.metrics_path, snapshot, Arc::clone(&metrics));
        serve_http(Surface::Metrics, listener, None, router, &closed);
    }
    limiting.start_chores(&settings, store, local, (&control, &closed));
    let watched = Arc::clone(&health);
    control.spawn(closed.clone().run_until_cancelled_owned(async move { watched.watch().await }));
    if let Some(tokens) = tokens {
        control.spawn(closed.clone().run_until_cancelled_owned(tokens.run()));
    }
    for certificates in [certificates, http_certificates].into_iter().flatten() {
        control.spawn(closed.clone().run_until_cancelled_owned(certificates.run()));
    }
    let until = closed.clone();
    parts.spawn(async move {
        tokio::select! {
            never = feeding => match never {},
            () = until.cancelled() => ("reload", Ok(())),
        }
    });

    let OverloadSettings { grpc_connections_max, peer_connections_max, .. } = settings.overload;
    let grpc_places = Places::new(grpc_connections_max, peer_connections_max);
    let ended_early = tokio::select! {
        never = bound.grpc.deal(&cores, &grpc_places, &limiting.metrics) => match never {},
        () = core_ended.cancelled() => Some(anyhow!("a core's thread ended early")),
        Some(part) = parts.join_next() => Some(early(part)),
        () = async { stop.cancelled().await; drain(&settings, &health).await } => None,
    };
    // The acceptor is gone with the select, and its listener with this.
    drop(bound.grpc);
    wind_down(&settings, (cores, deciding), (parts, control), (goaway, closed)).await;
    ended_early.map_or(Ok(()), Err)
}

/// Waits for the first rules; `false` where it is told to stop before there are any.
async fn has_rules(
    publisher: &Publisher,
    feeding: &mut (impl Future<Output = Infallible> + Unpin),
    stop: &CancellationToken,
) -> bool {
    tokio::select! {
        () = publisher.loaded() => true,
        never = feeding => match never {},
        () = stop.cancelled() => false,
    }
}

/// What is no request, such as spans that wait for their collector, has at least so long at the end.
const LAST: Duration = Duration::from_millis(500);

/// Lets what was begun be finished, and then all end that it needed. Takes no longer than the timeout and [`LAST`],
/// whatever peers do.
async fn wind_down(
    settings: &Settings,
    (cores, deciding): (Vec<Core>, TaskTracker),
    (mut parts, control): (Parts, TaskTracker),
    (goaway, closed): (CancellationToken, CancellationToken),
) {
    let deadline = Instant::now() + settings.process.shutdown_timeout;
    goaway.cancel();
    info!("finishing requests in flight");
    let finished = finish(cores, deciding, settings, deadline).await;
    closed.cancel();
    control.close();
    let rest = async {
        control.wait().await;
        while parts.join_next().await.is_some() {}
    };
    let _ = time::timeout_at(deadline.max(Instant::now() + LAST), rest).await;
    info!(complete = finished, "stopped");
}

/// What must go on for as long as the process serves, by name.
type Parts = JoinSet<(&'static str, anyhow::Result<()>)>;

/// What every core makes its limiter of.
#[derive(Clone)]
struct Limiting {
    run_time: RunTime,
    snapshot: Arc<ArcSwap<Snapshot>>,
    backend: Backend,
    degraded: Arc<Degraded>,
    metrics: Arc<Metrics>,
    decisions: DecisionSettings,
    responses: ResponseSettings,
    bounds: OverloadSettings,
    tracer: Option<Arc<Tracer>>,
}

impl Limiting {
    /// `local` is where this replica counts while the store can't be reached.
    fn open(
        settings: &Settings,
        backend: Backend,
        local: &Arc<Memory>,
        (publisher, metrics): (&Publisher, &Arc<Metrics>),
        (control, closed): (&TaskTracker, &CancellationToken),
    ) -> anyhow::Result<Limiting> {
        let degraded = Arc::new(backend::stand_in(settings, local));
        let run_time = run_time::open(
            &backend,
            &settings.store,
            (local, &degraded.owed),
            (publisher, metrics),
            (control, closed),
        )?;
        Ok(Limiting {
            run_time,
            snapshot: Arc::clone(&publisher.snapshot),
            backend,
            degraded,
            metrics: Arc::clone(metrics),
            decisions: settings.decisions,
            responses: settings.responses.clone(),
            bounds: settings.overload,
            tracer: traces::start(settings.traces.as_ref(), metrics, control, closed),
        })
    }

    /// What goes on beside the requests until `closed`: sweeping, looking after the store, telling of oneself.
    fn start_chores(
        &self,
        settings: &Settings,
        store: Store,
        local: Arc<Memory>,
        (control, closed): (&TaskTracker, &CancellationToken),
    ) {
        let (metrics, degraded) = (&self.metrics, &self.degraded);
        let sinks = stats::sinks(&settings.stats);
        if !sinks.is_empty() {
            let (metrics, snapshot) = (Arc::clone(metrics), Arc::clone(&self.snapshot));
            control.spawn(metrics::flush(sinks, settings.stats.flush_interval, metrics, snapshot, closed.clone()));
        }
        let swept = [Some(local), self.backend.memory()].into_iter().flatten().collect();
        control.spawn(backend::sweep(swept, Arc::clone(&degraded.owed), closed.clone()));
        control.spawn(backend::watch_room(store.clone(), closed.clone()));
        control.spawn(backend::be_present(store, Arc::clone(degraded), Arc::clone(metrics), closed.clone()));
        control.spawn(self.backend.clone().keep(closed.clone()));
    }

    /// A service with its own way to the store, whose tasks go on `tasks` and end with `stop`.
    fn service(&self, tasks: &TaskTracker, stop: &CancellationToken) -> (RateLimit, Store) {
        let modes = modes(&self.decisions, self.responses.dynamic_metadata);
        let store = self.backend.open(&self.degraded.owed, tasks, stop);
        self.metrics.watch(store.clone());
        let (snapshot, degraded) = (Arc::clone(&self.snapshot), Arc::clone(&self.degraded));
        let limiter = Limiter::new(snapshot, store.clone(), degraded, modes, Arc::clone(&self.metrics))
            .with_run_time(self.run_time.clone());
        let service = RateLimit::new(limiter, self.decisions.store_timeout, &self.responses, &self.bounds);
        (service.traced(self.tracer.clone()), store)
    }
}

fn start_cores(
    settings: &Settings,
    limiting: &Limiting,
    (others, tls): (&Routes, &Option<Tls>),
    goaway: &CancellationToken,
    ended: &CancellationToken,
) -> anyhow::Result<Vec<Core>> {
    let number = settings.process.workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let start = |number| {
        let (limiting, others, tls, goaway) = (limiting.clone(), others.clone(), tls.clone(), goaway.clone());
        let (age, age_grace) = (settings.listeners.max_connection_age, settings.listeners.max_connection_age_grace);
        let bounds = settings.overload;
        let build = move |tasks: &TaskTracker| {
            let closed = CancellationToken::new();
            let (rate_limit, _) = limiting.service(tasks, &closed);
            let metrics = limiting.metrics;
            let answers = CoreAnswers::new(bounds.client_timeout);
            let other_calls = Arc::new(Semaphore::new(bounds.in_flight_max.min(Semaphore::MAX_PERMITS)));
            tasks.spawn(closed.clone().run_until_cancelled_owned(end_untaken(Arc::clone(&answers))));
            let stop = goaway;
            #[rustfmt::skip]
            let grpc = Grpc { rate_limit, others, metrics, tls, bounds, answers, other_calls, age, age_grace, stop, closed };
            Arc::new(grpc)
        };
        Core::start(number, ended.clone(), build).context("a thread can't be started")
    };
    (0..number).map(start).collect()
}

/// Ends connections whose answers are not taken in time, for ever.
async fn end_untaken(answers: Arc<CoreAnswers>) -> Infallible {
    loop {
        time::sleep(answers.pace()).await;
        answers.step();
    }
}

/// Not ready, then a pause in which load balancers notice.
async fn drain(settings: &Settings, health: &Health) {
    health.drain().await;
    info!(delay = ?settings.process.drain_delay, "stopping: not ready any more");
    time::sleep(settings.process.drain_delay).await;
}

/// Waits for the last connections, those of the cores and those over HTTP; `false` if some had to be left.
async fn finish(cores: Vec<Core>, deciding: TaskTracker, settings: &Settings, deadline: Instant) -> bool {
    deciding.close();
    let abandon: Vec<CancellationToken> = cores.iter().map(Core::abandon).collect();
    let all = async { tokio::join!(join_all(cores.into_iter().map(Core::finish)), deciding.wait()) };
    match time::timeout_at(deadline, all).await {
        Ok((finished, ())) => finished.into_iter().all(|finished| finished),
        Err(_) => {
            warn!(after = ?settings.process.shutdown_timeout, "connections are left unfinished");
            abandon.iter().for_each(CancellationToken::cancel);
            false
        }
    }
}

fn early(part: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Error {
    match part {
        Ok((name, Ok(()))) => anyhow!("{name} ended early"),
        Ok((name, Err(error))) => error.context(format!("{name} ended early")),
        Err(error) => anyhow!(error).context("a task ended early"),
    }
}

async fn bind(listeners: &ListenerSettings) -> anyhow::Result<Bound> {
    let grpc = match &listeners.grpc_uds {
        Some(path) => {
            let listener =
                Listener::bind_unix(path).with_context(|| format!("GRPC_UDS: can't bind {}", path.display()))?;
            info!(listener = "grpc", address = %path.display(), "listening");
            listener
        }
        None => Listener::Tcp(bind_tcp("grpc", "GRPC_PORT", listeners.grpc).await?),
    };
    let metrics = match listeners.metrics {
        Some(address) => Some(bind_tcp("metrics", "PROMETHEUS_ADDR", address).await?),
        None => None,
    };
    Ok(Bound {
        grpc,
        http: bind_tcp("http", "PORT", listeners.http).await?,
        admin: bind_tcp("admin", "DEBUG_PORT", listeners.admin).await?,
        metrics,
    })
}

async fn bind_tcp(listener: &'static str, variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await.with_context(|| format!("{variable}: can't listen on {address}"))?;
    info!(listener, address = %bound.local_addr()?, "listening");
    Ok(bound)
}

/// What is asked less often: our own service, health, and reflection, so that a client needs no proto files.
fn other_services(
    health: HealthServer<impl tonic_health::pb::health_server::Health>,
    api: &Arc<Api>,
) -> anyhow::Result<Routes> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
    let routes = Routes::new(health.accept_compressed(Gzip)).add_service(grpc_service(Arc::clone(api)));
    Ok(routes.add_service(v1.accept_compressed(Gzip)).add_service(v1alpha.accept_compressed(Gzip)))
}

fn announce_rules(snapshot: &Snapshot) {
    let count = snapshot.rules.count();
    let version = env!("CARGO_PKG_VERSION");
    info!(version, files = count.files, domains = count.domains, rules = count.rules, "rules");
    for domain in snapshot.rules.domains() {
        info!(domain = domain.name(), rules = domain.rules().len(), "domain");
    }
}

fn announce_store(backend: &Backend, settings: &Settings) {
    info!(store = backend.name(), because = settings.store.reason, "store");
    // Counting in memory is right for one replica; in a fleet each would give out the whole limit.
    if settings.store.kind == crate::settings::StoreKind::Memory
        && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    {
        warn!(
            "counting in memory inside Kubernetes: each replica gives out the whole limit; set REDIS_URL to share it"
        );
    }
}
