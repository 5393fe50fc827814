//! Tollgate within another program: the service without its listeners, and its simple calls as methods. Above `Limiter`,
//! not on it, because these calls mean domains, shortcuts and overrides, which a limiter doesn't know: they are the very
//! functions that HTTP and gRPC call.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    api,
    backend::{self, Backend},
    modes, run_time, stats,
};
use crate::sources::publish;
use crate::{
    front::{
        api::{Api, ApiError, CheckRequest, CheckResponse, Entry, Limit, OverrideSpec, SetOverrideRequest},
        envoy, escape,
    },
    limiter::Limiter,
    metrics::Metrics,
    settings::Settings,
    store::memory::{Memory, MemorySettings},
};

/// Decides in this process, by rules that are reloaded when their files change, counting in its memory or in Redis as the
/// settings say. Must be opened and used within a tokio runtime; share it in an `Arc`. Dropped, its tasks end.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use tollgate::{Embedded, settings::{Flags, Settings}};
///
/// let flags = Flags { rules: vec!["config".into()], ..Flags::default() };
/// let tollgate = Embedded::open(&Settings::resolve(&flags)?).await?;
/// if tollgate.is_allowed("alice").await? {
///     // serve her
/// }
/// # Ok(())
/// # }
/// ```
pub struct Embedded {
    api: Arc<Api>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

impl Embedded {
    /// Loads the rules and opens the store. What is wrong with either is an error, with every problem; a Redis that
    /// isn't there is none: until it comes, `on_store_failure` answers.
    pub async fn open(settings: &Settings) -> anyhow::Result<Embedded> {
        let metrics = Arc::new(Metrics::new(stats::reference(&settings.stats)));
        let (publisher, feed) = publish::open(settings, &metrics)?;
        let snapshot = Arc::clone(&publisher.snapshot);
        let backend = Backend::new(&settings.store, settings.decisions.algorithm)?;
        let local = Arc::new(Memory::new(MemorySettings { max_bytes: settings.store.memory_max_bytes }));
        let swept = [Some(Arc::clone(&local)), backend.memory()].into_iter().flatten().collect();

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let degraded = Arc::new(backend::stand_in(settings, &local));
        let store = backend.open(&degraded.owed, &tasks, &stop);
        let seen_by = (&publisher, &*metrics);
        let run_time = run_time::open(&backend, &settings.store, (&local, &degraded.owed), seen_by, (&tasks, &stop))?;
        let modes = modes(&settings.decisions, true);
        let (seen, told) = (Arc::clone(&degraded), Arc::clone(&metrics));
        tasks.spawn(backend::be_present(store.clone(), seen, told, stop.clone()));
        tasks.spawn(backend::sweep(swept, Arc::clone(&degraded.owed), stop.clone()));
        let limiter = Limiter::new(snapshot, store, degraded, modes, Arc::clone(&metrics)).with_run_time(run_time);
        let (api, tokens) = api::open(settings, &limiter, Arc::new(envoy::Guard::new(&settings.overload)))?;
        let feeding = feed.run(Arc::new(Notify::new()), publisher.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(feeding));
        if let Some(tokens) = tokens {
            tasks.spawn(stop.clone().run_until_cancelled_owned(tokens.run()));
        }
        tasks.spawn(backend.keep(stop.clone()));
        publisher.loaded().await;
        Ok(Embedded { api, metrics, tasks, _stop_when_dropped: stop.clone().drop_guard(), stop })
    }

    /// Whether one more request of this user may pass. Counts it.
    pub async fn is_allowed(&self, user: &str) -> Result<bool, ApiError> {
        let request = CheckRequest { user: Some(user.to_owned()), ..CheckRequest::default() };
        Ok(self.check(request).await?.allowed)
    }

    /// Whether one more request of this user to this endpoint may pass. Counts it.
    pub async fn allow_request(&self, user: &str, endpoint: &str) -> Result<bool, ApiError> {
        let (user, endpoint) = (Some(user.to_owned()), Some(endpoint.to_owned()));
        Ok(self.check(CheckRequest { user, endpoint, ..CheckRequest::default() }).await?.allowed)
    }

    /// Whether this user may do this once more: `limit` times in any `window`, besides what the rules say. Counts it.
    /// The answer says when to come again.
    pub async fn rate_limit(
        &self,
        user: &str,
        action: &str,
        limit: u32,
        window: Duration,
    ) -> Result<CheckResponse, ApiError> {
        let (user, action) = (Some(user.to_owned()), Some(action.to_owned()));
        let (limit, window_seconds) = (Some(limit), Some(window.as_secs_f64()));
        self.check(CheckRequest { user, action, limit, window_seconds, ..CheckRequest::default() }).await
    }

    /// Gives one user a limit of their own, which beats the rule for users, from now on and on all replicas.
    /// That rule has the first key of the domain's shortcut for users as its id (`user`); without it there is nothing to
    /// beat, which is an error.
    pub async fn configure_user_limit(&self, user: &str, limit: u32, window: Duration) -> Result<(), ApiError> {
        let key = self.api.user_key()?;
        let window = format!("{}us", window.as_micros());
        let spec = OverrideSpec {
            r#match: vec![Entry { key: key.clone(), value: escape::text(user).into_owned() }],
            rule: key,
            limit: vec![Limit { requests: Some(limit), window, ..Limit::default() }],
            ..OverrideSpec::default()
        };
        let request = SetOverrideRequest { spec: Some(spec), ..SetOverrideRequest::default() };
        self.api.set_override_here(request).await.map(drop)
    }

    /// A check in any of its forms.
    pub async fn check(&self, request: CheckRequest) -> Result<CheckResponse, ApiError> {
        self.api.check_here(request.escaped()).await.map(|checked| checked.answer)
    }

    /// The page that Prometheus would scrape.
    pub fn metrics(&self) -> String {
        self.metrics.render(&self.api.limiter.snapshot())
    }

    /// Ends its tasks and waits for them, at most `patience`: counters in memory are kept, where they have a state
    /// directory.
    pub async fn close(self, patience: Duration) {
        self.stop.cancel();
        self.tasks.close();
        let _ = time::timeout(patience, self.tasks.wait()).await;
    }
}
