//! Tokens of the pages that lists are read in.

use super::ApiError;

/// A page token has the position of the next page; in hexadecimal digits, so that nobody depends on its form.
pub(super) fn write_token(place: &str) -> String {
    hex::encode(place)
}

/// Reads a page token; `None` for the first page.
pub(super) fn read_token(token: &str) -> Result<Option<String>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).map(Some).ok_or_else(bad_token)
}

/// The error of a page token that no answer gave out.
pub(super) fn bad_token() -> ApiError {
    ApiError::invalid("page_token", "it isn't one that was given out", "send the answer's next_page_token as it came")
}
