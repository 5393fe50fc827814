//! The HTTP listener: probes, and the rate limit service as JSON. It knows the service's answers, not how they are
//! made.

use std::{borrow::Cow, sync::Arc};

use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, rate_limit_response::Code};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Json, Response},
    routing::{any, get},
};

use crate::{
    front::{
        api::{self, Api, ApiError},
        console,
        envoy::{CallContext, MESSAGE_BYTES_MAX, RateLimit, json_request, json_response, to_request},
        health::Health,
    },
    trace::{Span, SpanKind},
};

/// Whether browsers reach the console over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleTls {
    On,
    Off,
}

#[derive(Clone)]
struct HttpState {
    health: Arc<Health>,
    service: RateLimit,
    api: Arc<Api>,
}

/// The router of the HTTP listener; with the console if `console` says so, which then knows whether the listener has TLS.
pub fn router(health: Arc<Health>, service: RateLimit, api: Arc<Api>, console: Option<ConsoleTls>) -> Router {
    let v1 = api::router(Arc::clone(&api));
    let console = console.map(|tls| console::below_console(Arc::clone(&api), tls == ConsoleTls::On));
    Router::new()
        .route("/healthcheck", any(healthcheck))
        .route("/livez", get(async || "OK"))
        .route("/readyz", get(readyz))
        .route("/json", any(json))
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
        .with_state(HttpState { health, service, api })
        .merge(v1)
        .merge(console.unwrap_or_default())
}

/// As envoyproxy/ratelimit: 200 `OK`, or 500 with an empty body.
async fn healthcheck(State(served): State<HttpState>) -> Response {
    if served.health.is_fit() { "OK".into_response() } else { StatusCode::INTERNAL_SERVER_ERROR.into_response() }
}

async fn readyz(State(served): State<HttpState>) -> Response {
    let readiness = served.health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// As envoyproxy/ratelimit: 200 for OK, 429 for OVER_LIMIT, 400 for a request that can't be decided; but 503 if the
/// store failed, so that a caller can distinguish its own mistake from a failure here.
async fn json(State(served): State<HttpState>, headers: HeaderMap, body: Bytes) -> Response {
    let mut span = served.service.start_span(&headers, "/json");
    let response = answer(&served, &headers, &body, span.as_ref()).await;
    if let Some(span) = &mut span {
        span.set_int("http.response.status_code", response.status().as_u16().into());
    }
    response
}

/// Limits and refunds of a request need the same tokens as those of a check.
async fn permit(served: &HttpState, headers: &HeaderMap, request: &RateLimitRequest) -> Result<(), ApiError> {
    // Most requests have none.
    if request.descriptors.iter().all(|it| it.limit.is_none() && !it.is_negative_hits) {
        return Ok(());
    }
    served.api.permit(api::authorization(headers), &to_request(request)).await
}

async fn answer(served: &HttpState, headers: &HeaderMap, body: &[u8], span: Option<&Span>) -> Response {
    let request = match json_request(body) {
        Ok(request) => request,
        Err(error) => {
            served.service.limiter().metrics().invalid();
            return (StatusCode::BAD_REQUEST, format!("Bad Request: {error}\n")).into_response();
        }
    };
    // It is a check by another name: if checks need a token, so does this.
    if let Err(refused) = served.api.may_check(api::authorization(headers), &request.domain) {
        return refused.into_response();
    }
    if let Err(refused) = permit(served, headers, &request).await {
        return refused.into_response();
    }
    let answer = match span {
        None => served.service.answer(&request, CallContext::default()).await,
        Some(span) => served.service.answer_traced(&request, CallContext::default(), span).await,
    };
    match answer {
        Ok(response) => {
            let rest = span.map(|span| span.child("NewJsonHandler Remaining Execution", SpanKind::Internal));
            let body = json_response(&response);
            if let Some(mut rest) = rest {
                let shown = match served.service.shown_answer(&response) {
                    Cow::Borrowed(_) => String::from_utf8_lossy(&body).into_owned(),
                    Cow::Owned(shown) => String::from_utf8_lossy(&json_response(&shown)).into_owned(),
                };
                rest.set_text("response", shown);
            }
            let over = response.overall_code == i32::from(Code::OverLimit);
            let status = if over { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) if error.code() == tonic::Code::InvalidArgument => {
            (StatusCode::BAD_REQUEST, format!("Bad Request: {}\n", error.message())).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.message())).into_response(),
    }
}
