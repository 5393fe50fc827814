//! Who is answered, and where: the services behind each listener, from the shared limiter to the probes.

use std::sync::Arc;

use axum::Router;
use tokio::sync::Notify;
use tonic::{codec::CompressionEncoding::Gzip, service::Routes};
use tonic_health::pb::health_server::HealthServer;

use super::{
    api, cores,
    heartbeat::{self, Heart, Identity},
    lifecycle::Lifecycle,
    limiting::Limiting,
    listen::{accept::Listener, bind::BoundListeners, core::Core, http_listener::HttpListener},
    tasks::Tasks,
    watching,
};
use crate::{
    front::{
        admin::{self, AllowedHosts, Explainer},
        api::{Api, grpc_service, router},
        envoy::FILE_DESCRIPTORS,
        health::Health,
        http::{self, ConsoleTls},
    },
    metrics::ListenerKind,
    settings::Settings,
};

/// What answers from now on. Connections come over `grpc` to the cores; HTTP's listeners are tasks.
pub(super) struct Surfaces {
    pub grpc: Listener,
    pub cores: Vec<Core>,
    pub health: Arc<Health>,
}

impl Surfaces {
    /// Starts the cores, HTTP, and all that looks after them. `reload` is what the admin listener asks for rules with.
    pub(super) async fn start(
        settings: &Settings,
        limiting: &Limiting,
        bound: BoundListeners,
        reload: Arc<Notify>,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Surfaces> {
        let Lifecycle { connections, support } = lifecycle;
        let (service, store) = limiting.service(support);
        let (insight, ending) = (Arc::clone(&limiting.insight), connections.stopping());
        let (api, tokens) = api::open(settings, service.limiter(), service.admission(), insight, ending)?;
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let others = other_services(health_service, &api)?;
        let cores = cores::start(settings, limiting, (&others, &bound.grpc_tls), connections)?;
        let ways = (store.clone(), Arc::clone(&limiting.run_time.overrides));
        let seen = (Arc::clone(&limiting.snapshot), Arc::clone(&limiting.metrics));
        let health = Arc::new(Health::new(reporter, ways, seen, settings.health).await);

        let explaining = Explainer { limiter: service.limiter().clone(), patience: settings.decisions.store_timeout };
        let listening = [bound.grpc.address(), bound.http.local_addr().ok()].into_iter().flatten().collect::<Vec<_>>();
        let heart = Heart {
            identity: Identity::new(settings.api.replica_name.as_deref(), &listening),
            snapshot: Arc::clone(&limiting.snapshot),
            metrics: Arc::clone(&limiting.metrics),
            run_time: limiting.run_time.clone(),
            store: store.clone(),
            top: limiting.insight.top.clone(),
        };
        limiting.insight.feed.name_replica(heart.identity.name());
        watching::start(&limiting.insight.feed, &limiting.run_time.fleet, support);
        heartbeat::start(heart, support);
        let hosts = AllowedHosts::new(&settings.listeners.admin_hosts);
        let looking = Arc::new(api.to_look());
        let admin = admin::router(Arc::clone(&limiting.snapshot), reload, explaining, looking, hosts);
        let tls = if settings.listeners.http_tls.is_some() { ConsoleTls::On } else { ConsoleTls::Off };
        let console = settings.listeners.console.then_some(tls);
        let http = http::router(Arc::clone(&health), service, api, console);
        let grpc = start_http(settings, limiting, bound, (http, admin), lifecycle);

        limiting.keep_decision_log(support)?;
        limiting.keep_counters(store.clone(), support);
        limiting.report(&settings.stats, store, support);
        let watched = Arc::clone(&health);
        support.spawn("the watch of health", async move { watched.watch().await });
        if let Some(tokens) = tokens {
            support.spawn("reading API tokens", tokens.run());
        }
        Ok(Surfaces { grpc, cores, health })
    }
}

/// Serves HTTP on all listeners but gRPC's, which is given back. Pages that show how the process fares are there until all
/// requests are done.
fn start_http(
    settings: &Settings,
    limiting: &Limiting,
    bound: BoundListeners,
    (http, admin): (Router, Router),
    Lifecycle { connections, support }: &Lifecycle,
) -> Listener {
    let serve = |surface: ListenerKind, listener, tls, router, tasks: &Tasks| {
        let (bounds, metrics, stop) = (settings.overload, Arc::clone(&limiting.metrics), tasks.stopping().clone());
        let serving = HttpListener { surface, router, tls, bounds, metrics, stop }.serve(listener);
        tasks.spawn_to_finish(surface.name(), serving);
    };
    serve(ListenerKind::Http, bound.http, bound.http_tls, http, connections);
    serve(ListenerKind::Admin, bound.admin, None, admin, support);
    if let Some(listener) = bound.metrics {
        let (snapshot, metrics) = (Arc::clone(&limiting.snapshot), Arc::clone(&limiting.metrics));
        let router = admin::metrics_router(&settings.listeners.metrics_path, snapshot, metrics);
        serve(ListenerKind::Metrics, listener, None, router, support);
    }
    for certificates in bound.certificates {
        support.spawn("reading certificates", certificates.run());
    }
    bound.grpc
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
    let routes = routes.add_service(v1.accept_compressed(Gzip)).add_service(v1alpha.accept_compressed(Gzip));
    // The command line asks for JSON here too, so that it needs to know of one listener only.
    Ok(Routes::from(routes.into_axum_router().merge(router(Arc::clone(api)))))
}
