//! Paths, parameters and bodies of requests, and what is said of those that can't be read.

use axum::{
    body::Bytes,
    extract::{
        Path, Query,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

use crate::api::problem::{self, ApiError};

/// What is answered instead: a call's error, or HTTP's own.
pub(super) enum Refusal {
    Call(ApiError),
    Http(StatusCode, String),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        Refusal::Call(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Call(error) => error.into_response(),
            Refusal::Http(status, detail) => problem::response(status, detail, &[]),
        }
    }
}

/// The body's JSON: one message, all of whose fields are known.
pub(super) fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| Refusal::Http(rejection.status(), rejection.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| {
        let place = format!("body, line {}, column {}", error.line(), error.column());
        let said = error.to_string();
        // The place stands beside it.
        let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
        ApiError::invalid(place, what, "/v1/openapi.json says what a body may have").into()
    })
}

pub(super) fn path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Refusal> {
    let Path(parts) = path.map_err(|rejection| {
        ApiError::invalid("path", rejection.body_text(), "percent-encode what stands in it, as UTF-8")
    })?;
    Ok(parts)
}

pub(super) fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    let Query(parameters) = query.map_err(|rejection| {
        let said = rejection.body_text();
        let what = said.strip_prefix("Failed to deserialize query string: ").unwrap_or(&said);
        ApiError::invalid("parameters", what, "/v1/openapi.json says which there are")
    })?;
    Ok(parameters)
}
