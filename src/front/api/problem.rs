//! Why a call isn't answered as asked, split by what the caller does next, and its forms: RFC 9457's
//! `application/problem+json`, and gRPC's status. What went wrong inside is for the log, not for the caller.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tonic::Status;

use crate::{
    limiter::{DecideError, ResetError},
    rules::Problems,
    run_time::overrides::OverridesError,
    store::StoreError,
};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// Change the request: everything that is wrong with it.
    #[error("{}", lines(.0))]
    Invalid(Vec<InvalidField>),
    /// Send a token.
    #[error("{0}")]
    Unauthenticated(String),
    /// Send a token that allows this.
    #[error("{0}")]
    Forbidden(String),
    /// Name something that exists.
    #[error("{0}")]
    NotFound(String),
    /// Read it again: it has changed since, or exists already.
    #[error("{0}")]
    Conflict(String),
    /// Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// Tell the operators: the storage is full.
    #[error("{0}")]
    Exhausted(String),
    /// Try again in a second: there were too many in this one.
    #[error("{0}")]
    TooMany(String),
    /// This service isn't configured for it.
    #[error("{0}")]
    Unimplemented(String),
}

/// One problem of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvalidField {
    /// The location: a field's path, a line and column of the body, a parameter, a header.
    pub place: String,
    pub what: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    pub fn invalid(place: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> ApiError {
        ApiError::Invalid(vec![InvalidField { place: place.into(), what: what.into(), hint: Some(hint.into()) }])
    }

    fn status(&self) -> StatusCode {
        match self {
            ApiError::Invalid(_) => StatusCode::BAD_REQUEST,
            ApiError::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            ApiError::Forbidden(_) => StatusCode::FORBIDDEN,
            ApiError::NotFound(_) => StatusCode::NOT_FOUND,
            ApiError::Conflict(_) => StatusCode::PRECONDITION_FAILED,
            ApiError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Exhausted(_) => StatusCode::INSUFFICIENT_STORAGE,
            ApiError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            ApiError::Unimplemented(_) => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

/// Errors of an override as its domain's rules find them, each at its field.
pub fn invalid_fields(problems: &Problems) -> Vec<InvalidField> {
    let fault = |problem: &crate::rules::Problem| InvalidField {
        place: problem.field.clone().filter(|field| !field.is_empty()).unwrap_or_else(|| "override".into()),
        what: problem.what.clone(),
        hint: problem.hint.clone(),
    };
    problems.errors().map(fault).collect()
}

/// RFC 9457.
#[derive(Serialize)]
struct ProblemDetails<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "<[InvalidField]>::is_empty")]
    errors: &'a [InvalidField],
}

/// A problem's response; also for what HTTP refuses before there is a call.
pub(super) fn response(status: StatusCode, detail: String, errors: &[InvalidField]) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let problem = ProblemDetails { r#type: "about:blank", title, status: status.as_u16(), detail, errors };
    let body = serde_json::to_vec(&problem).expect("plain fields have a JSON form");
    let kind = HeaderValue::from_static("application/problem+json");
    let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let ask = HeaderValue::from_static("Bearer realm=\"tollgate\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let faults: &[InvalidField] = if let ApiError::Invalid(faults) = &self { faults } else { &[] };
        response(self.status(), self.to_string(), faults)
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        let said = error.to_string();
        match error {
            ApiError::Invalid(_) => Status::invalid_argument(said),
            ApiError::Unauthenticated(_) => Status::unauthenticated(said),
            ApiError::Forbidden(_) => Status::permission_denied(said),
            ApiError::NotFound(_) => Status::not_found(said),
            ApiError::Conflict(_) => Status::failed_precondition(said),
            ApiError::Unavailable(_) => Status::unavailable(said),
            ApiError::Exhausted(_) | ApiError::TooMany(_) => Status::resource_exhausted(said),
            ApiError::Unimplemented(_) => Status::unimplemented(said),
        }
    }
}

/// As in gRPC: the message is gentle, and the detail goes to log and metrics.
impl From<DecideError> for ApiError {
    fn from(error: DecideError) -> ApiError {
        let field = |place: &str, hint: &str| ApiError::invalid(place, error.to_string(), hint);
        match error {
            DecideError::NoRules => ApiError::Unavailable("no rules are loaded yet".into()),
            DecideError::Store(ref store) => store.clone().into(),
            DecideError::EmptyDomain => field("domain", "name one of the domains that rule files have"),
            DecideError::NoDescriptors => field("descriptors", "send at least one"),
            DecideError::TooManyDescriptors | DecideError::TooManyEntries => field("descriptors", "split the request"),
        }
    }
}

impl From<ResetError> for ApiError {
    fn from(error: ResetError) -> ApiError {
        match error {
            ResetError::Request(error) => error.into(),
            // Some counters may have been reset all the same: the error promises nothing about them.
            ResetError::Kept(OverridesError::Store(error)) => error.into(),
            ResetError::Kept(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        ApiError::Unavailable(match error {
            StoreError::Overloaded | StoreError::Timeout(_) | StoreError::Defect => error.to_string(),
            StoreError::Unreachable(_) => "the store can't be reached".into(),
            StoreError::Refused(_) => "the store refused".into(),
        })
    }
}

fn lines(faults: &[InvalidField]) -> String {
    let line = |fault: &InvalidField| match &fault.hint {
        Some(hint) => format!("{}: {} ({hint})", fault.place, fault.what),
        None => format!("{}: {}", fault.place, fault.what),
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}
