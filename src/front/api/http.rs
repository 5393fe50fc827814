//! The calls over HTTP, as JSON by resource below `/v1`, and the document that describes them. Reads paths, parameters,
//! headers and bodies; everything that is refused is a problem with its place.

mod events;
mod headers;
mod read;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::*},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get, post, put},
};
use serde::{Deserialize, Serialize};

pub(crate) use headers::authorization;

use self::{
    headers::{etag, if_match, if_none_match, limit_headers},
    read::{HttpError, parameters, path, read},
};
use super::{
    Api, ApiError, CheckRequest, DeleteOverrideRequest, GetFleetRequest, GetHistoryRequest, GetOverrideRequest,
    GetRuleTextRequest, GetRulesRequest, ListAuditRequest, ListChangesRequest, ListLimitsRequest, ListOverridesRequest,
    ListSwitchesRequest, OverrideSpec, ResetCounterRequest, RestoreLimitRequest, SetOverrideRequest, SetSwitchRequest,
    TopRequest, WatchDecisionsRequest, problem,
};
use crate::front::{envoy::MESSAGE_BYTES_MAX, escape};

/// Longer bodies are refused: an override with 32 limits takes a tenth of it. Checks may have as much as over gRPC.
const BODY_BYTES_MAX: usize = 256 << 10;

const OPENAPI: &str = include_str!("openapi.json");

type ApiState = State<Arc<Api>>;
type Body = Result<Bytes, BytesRejection>;
type HttpResult = Result<Response, HttpError>;

/// A path, its methods, and what answers them.
type ApiRoute = (&'static str, &'static [Method], MethodRouter<Arc<Api>>);

/// Every path below `/v1` with its methods: [`tests`] holds the document to it.
fn routes() -> [ApiRoute; 18] {
    const GET: &[Method] = &[Method::GET];
    const POST: &[Method] = &[Method::POST];
    const RESOURCE: &[Method] = &[Method::GET, Method::PUT, Method::DELETE];
    [
        ("/v1/check", POST, post(check).layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))),
        ("/v1/explain", POST, post(explain).layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))),
        ("/v1/domains/{domain}/overrides", GET, get(list_overrides)),
        ("/v1/domains/{domain}/overrides/{id}", RESOURCE, put(set_override).get(get_override).delete(delete_override)),
        ("/v1/counters:reset", POST, post(reset_counter)),
        ("/v1/audit", GET, get(list_audit)),
        ("/v1/domains/{domain}/switches", RESOURCE, put(set_switch).get(list_switches).delete(restore_limit)),
        ("/v1/switches", GET, get(list_all_switches)),
        ("/v1/fleet", GET, get(get_fleet)),
        ("/v1/changes", GET, get(list_changes)),
        ("/v1/top", GET, get(top)),
        ("/v1/decisions", GET, get(watch_decisions)),
        ("/v1/rules", GET, get(whole_rules)),
        ("/v1/history", GET, get(get_history)),
        ("/v1/limits", GET, get(list_limits)),
        ("/v1/rule-files", GET, get(get_rules)),
        ("/v1/rule-files/text", GET, get(get_rule_text)),
        ("/v1/openapi.json", GET, get(openapi)),
    ]
}

pub fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new().route("/v1/{*nowhere}", any(not_found)).route("/v1", any(not_found));
    for (path, methods, handlers) in routes() {
        let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let refuse = move || async move { refused_method(&allowed) };
        router = router.route(path, handlers.fallback(refuse));
    }
    router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(api)
}

async fn not_found() -> Response {
    let detail = "nothing is here: /v1/openapi.json lists what there is".to_owned();
    problem::response(StatusCode::NOT_FOUND, detail, &[])
}

fn refused_method(allowed: &str) -> Response {
    let detail = format!("this path takes {allowed}");
    let mut response = problem::response(StatusCode::METHOD_NOT_ALLOWED, detail, &[]);
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

async fn openapi() -> Response {
    json(StatusCode::OK, OPENAPI.as_bytes().to_vec())
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

fn ok(body: &impl Serialize) -> Response {
    json(StatusCode::OK, serde_json::to_vec(body).expect("a message has a JSON form"))
}

/// As `/json` has it: bytes that are no text are escaped.
fn escaped(body: Body) -> Body {
    body.map(|body| match escape::json(&body) {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(escaped) => escaped.into(),
    })
}

/// 200 or 429, each with how the limits stand.
async fn check(State(api): ApiState, headers: HeaderMap, body: Body) -> HttpResult {
    let request: CheckRequest = read(escaped(body))?;
    let checked = api.check(authorization(&headers), request).await?;
    let mut response = ok(&checked.answer);
    if !checked.answer.allowed {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    limit_headers(response.headers_mut(), &checked);
    Ok(response)
}

async fn explain(State(api): ApiState, headers: HeaderMap, body: Body) -> HttpResult {
    let request: CheckRequest = read(body)?;
    Ok(ok(&api.explain(authorization(&headers), request).await?))
}

/// Of a change.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChangeQuery {
    dry_run: bool,
    reason: String,
}

type OverridePath = Result<Path<(String, String)>, PathRejection>;

async fn set_override(
    State(api): ApiState,
    id: OverridePath,
    change: Result<Query<ChangeQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> HttpResult {
    let ((domain, id), change) = (path(id)?, parameters(change)?);
    let domain = api.in_path(domain);
    let mut spec: OverrideSpec = read(body)?;
    if spec.reason.is_empty() {
        spec.reason = change.reason;
    }
    let (if_match, create_only) = (if_match(&headers)?, if_none_match(&headers)?);
    let spec = Some(spec);
    let request = SetOverrideRequest { domain, id, spec, dry_run: change.dry_run, if_match, create_only };
    let answer = api.set_override(authorization(&headers), request).await?;
    let saved = answer.saved.unwrap_or_default();
    let mut response = ok(&saved);
    if answer.created && !change.dry_run {
        *response.status_mut() = StatusCode::CREATED;
    }
    etag(response.headers_mut(), &saved.etag);
    Ok(response)
}

async fn get_override(State(api): ApiState, id: OverridePath, headers: HeaderMap) -> HttpResult {
    let (domain, id) = path(id)?;
    let domain = api.in_path(domain);
    let found = api.get_override(authorization(&headers), GetOverrideRequest { domain, id }).await?;
    let mut response = ok(&found);
    etag(response.headers_mut(), &found.etag);
    Ok(response)
}

async fn delete_override(
    State(api): ApiState,
    id: OverridePath,
    change: Result<Query<ChangeQuery>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    let ((domain, id), change) = (path(id)?, parameters(change)?);
    let domain = api.in_path(domain);
    let (dry_run, reason, if_match) = (change.dry_run, change.reason, if_match(&headers)?);
    let request = DeleteOverrideRequest { domain, id, dry_run, if_match, reason };
    let answer = api.delete_override(authorization(&headers), request).await?;
    Ok(ok(&answer.deleted.unwrap_or_default()))
}

/// A page of overrides.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PageQuery {
    page_size: u32,
    page_token: String,
    key: String,
    value_prefix: String,
}

async fn list_overrides(
    State(api): ApiState,
    domain: Result<Path<String>, PathRejection>,
    page: Result<Query<PageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    let (domain, page) = (path(domain)?, parameters(page)?);
    let domain = api.in_path(domain);
    let PageQuery { page_size, page_token, key, value_prefix } = page;
    let request = ListOverridesRequest { domain, page_size, page_token, key, value_prefix };
    Ok(ok(&api.list_overrides(authorization(&headers), request).await?))
}

async fn reset_counter(State(api): ApiState, headers: HeaderMap, body: Body) -> HttpResult {
    let request: ResetCounterRequest = read(body)?;
    Ok(ok(&api.reset_counter(authorization(&headers), request).await?))
}

async fn list_audit(
    State(api): ApiState,
    request: Result<Query<ListAuditRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.list_audit(authorization(&headers), parameters(request)?).await?))
}

type DomainPath = Result<Path<String>, PathRejection>;

/// The domain of the path counts; one in the body must be the same.
fn of_path(path: String, body: String) -> Result<String, HttpError> {
    if !body.is_empty() && body != path {
        let hint = "leave it out of the body";
        return Err(ApiError::invalid("domain", "the path and the body name different domains", hint).into());
    }
    Ok(path)
}

async fn set_switch(
    State(api): ApiState,
    domain: DomainPath,
    change: Result<Query<ChangeQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> HttpResult {
    let (domain, change) = (path(domain)?, parameters(change)?);
    let mut request: SetSwitchRequest = read(body)?;
    request.domain = api.in_path(of_path(domain, request.domain)?);
    request.dry_run |= change.dry_run;
    if request.reason.is_empty() {
        request.reason = change.reason;
    }
    Ok(ok(&api.set_switch(authorization(&headers), request).await?))
}

async fn restore_limit(
    State(api): ApiState,
    domain: DomainPath,
    request: Result<Query<RestoreLimitRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    let mut request = parameters(request)?;
    request.domain = api.in_path(of_path(path(domain)?, request.domain)?);
    Ok(ok(&api.restore_limit(authorization(&headers), request).await?))
}

async fn list_switches(State(api): ApiState, domain: DomainPath, headers: HeaderMap) -> HttpResult {
    let request = ListSwitchesRequest { domain: api.in_path(path(domain)?) };
    Ok(ok(&api.list_switches(authorization(&headers), request).await?))
}

async fn list_all_switches(
    State(api): ApiState,
    request: Result<Query<ListSwitchesRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.list_switches(authorization(&headers), parameters(request)?).await?))
}

async fn get_fleet(
    State(api): ApiState,
    request: Result<Query<GetFleetRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.get_fleet(authorization(&headers), parameters(request)?).await?))
}

async fn list_changes(
    State(api): ApiState,
    request: Result<Query<ListChangesRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.list_changes(authorization(&headers), parameters(request)?).await?))
}

/// Of which domain the rules are asked; empty: of all that the caller may see.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RulesQuery {
    domain: String,
}

async fn whole_rules(
    State(api): ApiState,
    request: Result<Query<RulesQuery>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    let RulesQuery { domain } = parameters(request)?;
    Ok(api.whole_rules(authorization(&headers), &domain)?.response())
}

async fn top(
    State(api): ApiState,
    request: Result<Query<TopRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.top(authorization(&headers), parameters(request)?).await?))
}

async fn watch_decisions(
    State(api): ApiState,
    request: Result<Query<WatchDecisionsRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    let watching = api.watch_decisions(authorization(&headers), parameters(request)?).await?;
    Ok(events::response(watching))
}

async fn get_history(
    State(api): ApiState,
    request: Result<Query<GetHistoryRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.get_history(authorization(&headers), parameters(request)?).await?))
}

async fn list_limits(
    State(api): ApiState,
    request: Result<Query<ListLimitsRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.list_limits(authorization(&headers), parameters(request)?).await?))
}

async fn get_rule_text(
    State(api): ApiState,
    request: Result<Query<GetRuleTextRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.get_rule_text(authorization(&headers), parameters(request)?).await?))
}

async fn get_rules(
    State(api): ApiState,
    request: Result<Query<GetRulesRequest>, QueryRejection>,
    headers: HeaderMap,
) -> HttpResult {
    Ok(ok(&api.get_rules(authorization(&headers), parameters(request)?).await?))
}
