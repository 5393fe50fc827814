//! Tollgate within another program: the service without its listeners, and its simple calls as methods. Above `Limiter`,
//! not on it, because these calls mean domains, shortcuts and overrides, which a limiter doesn't know: they are the very
//! functions that HTTP and gRPC call.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{api, limiting::Limiting, phase::Phase, rule_source::RuleSource, stats, tasks::Tasks};
use crate::{
    front::{
        api::{
            Api, ApiError, CheckRequest, CheckResponse, Entry, Limit, OverrideSpec, SetOverrideRequest,
            write_match_value,
        },
        escape,
    },
    metrics::Metrics,
    settings::Settings,
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
    tasks: Tasks,
    _stop_when_dropped: DropGuard,
}

impl Embedded {
    /// Loads the rules and opens the store. What is wrong with either is an error, with every problem; a Redis that
    /// isn't there is none: until it comes, `on_store_failure` answers.
    pub async fn open(settings: &Settings) -> anyhow::Result<Embedded> {
        Phase::Settings.begin();
        let metrics = Arc::new(Metrics::new(stats::reference(&settings.stats)));
        let tasks = Tasks::default();
        let stop_when_dropped = tasks.stop_when_dropped();

        Phase::Rules.begin();
        let mut rules = RuleSource::open(settings, &metrics, Arc::new(Notify::new()))?;
        rules.arrive(&CancellationToken::new()).await;

        Phase::Store.begin();
        let limiting = Limiting::open(settings, &rules.publisher, &metrics, &tasks)?;
        let (service, store) = limiting.service(&tasks);
        let insight = Arc::clone(&limiting.insight);
        let (api, tokens) = api::open(settings, service.limiter(), service.admission(), insight, tasks.stopping())?;
        limiting.keep_decision_log(&tasks)?;
        limiting.keep_counters(store, &tasks);
        tasks.spawn("reload", rules.feeding);
        if let Some(tokens) = tokens {
            tasks.spawn("reading API tokens", tokens.run());
        }

        Phase::Ready.begin();
        Ok(Embedded { api, metrics, tasks, _stop_when_dropped: stop_when_dropped })
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
            r#match: vec![Entry { key: key.clone(), value: write_match_value(&escape::text(user)).into_owned() }],
            rule: key,
            limit: vec![Limit { requests: Some(limit), window, ..Limit::default() }],
            ..OverrideSpec::default()
        };
        let request = SetOverrideRequest { spec: Some(spec), ..SetOverrideRequest::default() };
        self.api.set_override_embedded(request).await.map(drop)
    }

    /// A check in any of its forms.
    pub async fn check(&self, request: CheckRequest) -> Result<CheckResponse, ApiError> {
        self.api.check_embedded(request.escaped()).await.map(|checked| checked.answer)
    }

    /// The page that Prometheus would scrape.
    pub fn metrics(&self) -> String {
        let snapshot = self.api.limiter.snapshot();
        self.metrics.render(&snapshot.rules, &snapshot.meters)
    }

    /// Ends its tasks and waits for them, at most `patience`: counters in memory are kept, where they have a state
    /// directory.
    pub async fn close(self, patience: Duration) {
        Phase::Deadline { timeout: patience }.begin();
        self.tasks.stop();
        let _ = time::timeout(patience, self.tasks.ended()).await;
    }
}
