//! Reads paths, parameters and bodies of requests, and words the errors of those that can't be read.

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

use super::BODY_BYTES_MAX;
use crate::front::{
    api::{
        json::{self, Misread},
        problem::{self, ApiError},
    },
    envoy::MESSAGE_BYTES_MAX,
};

/// The answer to a request that can't be read: a call's error, or HTTP's own.
pub(crate) enum HttpError {
    Call(ApiError),
    Http(StatusCode, String),
}

impl From<ApiError> for HttpError {
    fn from(error: ApiError) -> HttpError {
        HttpError::Call(error)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        match self {
            HttpError::Call(error) => error.into_response(),
            HttpError::Http(status, detail) => problem::response(status, detail, &[]),
        }
    }
}

/// The body's JSON: one message, all of whose fields are known.
pub(super) fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, HttpError> {
    let body = body.map_err(|rejection| {
        let status = rejection.status();
        let said = if status == StatusCode::PAYLOAD_TOO_LARGE { body_too_long() } else { rejection.body_text() };
        HttpError::Http(status, said)
    })?;
    json::read(&body).map_err(|Misread { line, column, what }| {
        let place = format!("body, line {line}, column {column}");
        ApiError::invalid(place, what, "/v1/openapi.json says what a body may have").into()
    })
}

fn body_too_long() -> String {
    let (check, other) = (MESSAGE_BYTES_MAX >> 20, BODY_BYTES_MAX >> 10);
    format!(
        "the body is too long: a check or an explanation has at most {check} MiB, every other call at most {other} KiB"
    )
}

/// What a parser expected in other words than Rust's, of parameters, whose values are text.
fn parameter_in_words(what: &str) -> String {
    const WORDS: [(&str, &str); 5] = [
        ("invalid digit found in string", "expected a whole number, at least 0"),
        ("number too large to fit in target type", "expected a smaller whole number"),
        ("number too small to fit in target type", "expected a larger whole number"),
        ("cannot parse integer from empty string", "expected a whole number, at least 0, not nothing"),
        ("provided string was not `true` or `false`", "expected true or false"),
    ];
    WORDS.iter().fold(what.to_owned(), |text, (rust, ours)| text.replace(rust, ours))
}

pub(super) fn path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, HttpError> {
    let Path(parts) = path.map_err(|rejection| {
        ApiError::invalid("path", rejection.body_text(), "percent-encode what stands in it, as UTF-8")
    })?;
    Ok(parts)
}

pub(crate) fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, HttpError> {
    let Query(parameters) = query.map_err(|rejection| {
        let said = rejection.body_text();
        let what = said.strip_prefix("Failed to deserialize query string: ").unwrap_or(&said);
        ApiError::invalid("parameters", parameter_in_words(what), "/v1/openapi.json says which there are")
    })?;
    Ok(parameters)
}
