//! The admin listener: what is in force and why, for operators, as text, as JSON and as a page. It reports, and asks for a
//! reload; it changes nothing itself.

mod explain;
mod hosts;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    blocking::blocking,
    clock,
    front::{
        api::{Api, LimitSwitch},
        console, full_rules,
    },
    limit::{CountDenied, EnforcedShare, Unit, UnixMicros, moment},
    limiter::Snapshot,
    metrics::Metrics,
    rules::{
        Domain, DomainIndex, Problem, Rule, RuleLimit,
        rows::{OverrideTable, RowRef},
    },
};

pub use explain::Explainer;
pub use hosts::AllowedHosts;

#[derive(Clone)]
struct AdminState {
    snapshot: Arc<ArcSwap<Snapshot>>,
    reload: Arc<Notify>,
    api: Arc<Api>,
}

/// The router of the admin listener. `reload` is notified when a request asks for the rules to be read again. Only
/// requests to an address, `localhost` or one of the `hosts` are answered, and none that a page of another site makes.
/// `api` only looks, but for callers with a token.
pub fn router(
    snapshot: Arc<ArcSwap<Snapshot>>,
    reload: Arc<Notify>,
    explaining: Explainer,
    api: Arc<Api>,
    hosts: AllowedHosts,
) -> Router {
    let explained = Router::new().route("/explain", get(explain::explain)).with_state(Arc::new(explaining));
    Router::new()
        .route("/rules", get(rules))
        .route("/rlconfig", get(rlconfig))
        .route("/-/reload", post(ask_for_reload))
        .fallback(async || (StatusCode::NOT_FOUND, INDEX))
        .with_state(AdminState { snapshot, reload, api: Arc::clone(&api) })
        .merge(explained)
        .merge(console::at_root(api, INDEX))
        .layer(middleware::from_fn_with_state(hosts, hosts::reject_foreign_requests))
}

/// `/metrics`, on a listener of its own.
pub fn metrics_router(path: &str, snapshot: Arc<ArcSwap<Snapshot>>, metrics: Arc<Metrics>) -> Router {
    let render = async move || {
        let (metrics, snapshot) = (Arc::clone(&metrics), snapshot.load_full());
        let page = blocking(move || metrics.render(&snapshot.rules, &snapshot.meters)).await;
        ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], page)
    };
    Router::new().route(path, get(render))
}

/// The list of paths, sorted as envoyproxy/ratelimit has it; shown for every unknown path.
const INDEX: &str = "/-/reload: POST reads the rules again\n\
                     /explain: what a request would be answered and why, as JSON (?domain=api&entry=user=alice)\n\
                     /rlconfig: the limits in force, a line each\n\
                     /rules: the rules in force and the problems of those that aren't, as JSON (?full=true with all that they say)\n\
                     /v1: the API's calls that only look, without a token (/v1/openapi.json)\n";

async fn ask_for_reload(State(served): State<AdminState>) -> impl IntoResponse {
    served.reload.notify_one();
    (StatusCode::ACCEPTED, "the rules are read again; /rules tells how it went\n")
}

/// The answer of `/rules`.
#[derive(Serialize)]
struct RulesView<'a> {
    version: u64,
    hash: &'a str,
    /// When these rules came into force, in seconds since the Unix epoch.
    loaded_at_seconds: f64,
    files: Vec<String>,
    domains: Vec<DomainView<'a>>,
    /// Errors and warnings of the files as they are now.
    problems: Vec<&'a Problem>,
}

#[derive(Serialize)]
struct DomainView<'a> {
    domain: &'a str,
    /// Whether its files have errors, so that these are the last rules without any.
    kept: bool,
    limits: Vec<LimitView<'a>>,
    tiers: usize,
    overrides: OverridesView,
    /// What is switched of its limits, which are shown as the files have them.
    switches: Vec<&'a LimitSwitch>,
}

/// The override rows of files.
#[derive(Serialize)]
struct OverridesView {
    rows: usize,
    expired: usize,
    /// Some of the expired rows, which should be removed.
    expired_rows: Vec<ExpiredView>,
}

#[derive(Serialize)]
struct ExpiredView {
    r#match: String,
    expires: String,
    place: String,
}

/// Number of expired rows that are listed.
const EXPIRED_MAX: usize = 100;

#[derive(Serialize)]
struct LimitView<'a> {
    id: &'a str,
    requests: u32,
    window_seconds: f64,
    algorithm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    enforced: bool,
    /// The share of clients that it denies, where it isn't all or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced_share: Option<String>,
    count_denied: &'static str,
    /// Whether hits are reported once they are spent, and charged though they are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<bool>,
    /// Since when, for limits with `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_since: Option<String>,
    place: String,
}

/// How much of the rules is asked for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RulesQuery {
    /// Whether all that rules say is told, with override rows.
    full: bool,
}

/// Not on the thread that answers probes, because it goes through every rule.
async fn rules(State(served): State<AdminState>, Query(asked): Query<RulesQuery>) -> Response {
    let snapshot = served.snapshot.load_full();
    let switches = served.api.switches(&snapshot);
    if asked.full {
        let (head, domains) = blocking(move || whole_rules(&snapshot, &switches)).await;
        return full_rules::response(head, domains);
    }
    let view = blocking(move || {
        serde_json::to_value(rules_view(&snapshot, &switches)).expect("plain fields have a JSON form").to_string()
    });
    ([("content-type", "application/json")], view.await).into_response()
}

/// The same object, and what comes before the whole of each domain in it.
fn whole_rules(snapshot: &Snapshot, switches: &[LimitSwitch]) -> (String, Vec<(String, Arc<Domain>)>) {
    let view = rules_view(snapshot, switches);
    let said = view.domains.iter().map(|domain| serde_json::to_string(domain).expect("plain fields have a JSON form"));
    let domains = said.zip(snapshot.rules.domains().iter().cloned()).collect();
    let mut head = serde_json::to_value(&view).expect("plain fields have a JSON form");
    if let Some(head) = head.as_object_mut() {
        head.remove("domains");
        head.insert("process_defaults".to_owned(), full_rules::process_defaults(&snapshot.rules));
    }
    (head.to_string(), domains)
}

fn rules_view<'a>(snapshot: &'a Snapshot, switches: &'a [LimitSwitch]) -> RulesView<'a> {
    RulesView {
        version: snapshot.version,
        hash: snapshot.rules.hash(),
        loaded_at_seconds: snapshot.loaded_at.0 as f64 / 1e6,
        files: snapshot
            .rules
            .files()
            .chain(snapshot.rules.override_files())
            .map(|path| path.display().to_string())
            .collect(),
        domains: (0..)
            .map(DomainIndex)
            .zip(snapshot.rules.domains())
            .map(|(index, domain)| domain_view((index, domain), snapshot, switches))
            .collect(),
        problems: snapshot.problems.iter().collect(),
    }
}

fn domain_view<'a>(
    (index, domain): (DomainIndex, &'a Domain),
    snapshot: &'a Snapshot,
    switches: &'a [LimitSwitch],
) -> DomainView<'a> {
    let now = clock::now();
    let limits = domain.rules().iter().flat_map(|rule| {
        rule.limits.iter().enumerate().map(move |(place, limit)| {
            let learned = snapshot.budgets.of(index, rule, Some(place)).since(now);
            limit_view(rule, limit, learned.filter(|_| limit.count_denied == CountDenied::Auto))
        })
    });
    DomainView {
        domain: domain.name(),
        kept: snapshot.kept_domains.iter().any(|kept| **kept == *domain.name()),
        limits: limits.collect(),
        tiers: domain.tiers(),
        overrides: overrides_view(domain.overrides(), now),
        switches: switches.iter().filter(|switch| switch.domain == domain.name()).collect(),
    }
}

fn overrides_view(table: &OverrideTable, now: UnixMicros) -> OverridesView {
    let expired = table.expired(now);
    let rows = table.rows().filter(|row| row.is_expired(now)).take(expired.min(EXPIRED_MAX));
    let view = |row: RowRef<'_>| ExpiredView {
        r#match: row.to_string(),
        expires: row.expires().map(moment::write).unwrap_or_default(),
        place: format!("{}:{}", row.location().path.display(), row.location().line),
    };
    OverridesView { rows: table.len(), expired, expired_rows: rows.map(view).collect() }
}

fn limit_view<'a>(rule: &'a Rule, limit: &'a RuleLimit, budget_since: Option<UnixMicros>) -> LimitView<'a> {
    let numbers = limit.limit;
    let share = if rule.shadow_mode { EnforcedShare::NONE } else { limit.enforce };
    LimitView {
        id: &limit.id,
        requests: numbers.requests,
        window_seconds: numbers.window.0 as f64 / 1e6,
        algorithm: numbers.algorithm.name(),
        burst: numbers.algorithm.has_burst().then_some(numbers.burst),
        enforced: !share.is_none(),
        enforced_share: share.is_partial().then(|| share.to_string()),
        count_denied: limit.count_denied.name(),
        budget: limit.count_denied.is_budget(budget_since),
        budget_since: budget_since.map(moment::write),
        place: format!("{}:{}", rule.file.display(), rule.line),
    }
}

/// The reference's text, but sorted.
async fn rlconfig(State(served): State<AdminState>) -> String {
    let snapshot = served.snapshot.load_full();
    blocking(move || rlconfig_lines(&snapshot)).await
}

fn rlconfig_lines(snapshot: &Snapshot) -> String {
    let mut lines: Vec<String> = Vec::new();
    for rule in snapshot.rules.domains().iter().flat_map(|domain| domain.rules()) {
        let numbers =
            |limit: &RuleLimit| (Unit::of(limit.limit.window).map_or("unknown", Unit::name), limit.limit.requests);
        let unlimited = rule.unlimited.then_some(("unknown", 0));
        for (unit, requests) in rule.limits.iter().map(numbers).chain(unlimited) {
            lines.push(format!(
                "{}: unit={} requests_per_unit={requests}, shadow_mode: {}, quota_mode: {}",
                rule.metric_key,
                unit.to_ascii_uppercase(),
                rule.shadow_mode,
                rule.quota_mode
            ));
        }
    }
    lines.sort_unstable();
    lines.into_iter().map(|line| line + "\n").collect()
}
