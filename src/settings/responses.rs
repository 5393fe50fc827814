//! What answers carry besides the decision: headers and dynamic metadata. It knows their names, not their contents.

use super::{
    Flags, SettingsReader, parse,
    partners::{self, RequiredSetting},
};

/// What answers carry besides the decision. All is off by default, and then costs nothing.
#[derive(Clone, Debug, Default)]
pub struct ResponseSettings {
    pub limit_headers: Option<LimitHeaders>,
    /// The header with the seconds after which a refused client may come again.
    pub retry_after_header: Option<String>,
    pub dynamic_metadata: bool,
}

/// The names of the headers about a limit.
#[derive(Clone, Debug)]
pub struct LimitHeaders {
    pub limit: String,
    pub remaining: String,
    pub reset: String,
}

impl ResponseSettings {
    /// Whether answers have nothing but the decision.
    pub fn is_plain(&self) -> bool {
        self.limit_headers.is_none() && self.retry_after_header.is_none() && !self.dynamic_metadata
    }
}

pub(super) fn responses(flags: &Flags, read: &mut SettingsReader) -> ResponseSettings {
    let enabled =
        read.or("LIMIT_RESPONSE_HEADERS_ENABLED", &flags.limit_response_headers_enabled, false, parse::boolean);
    let names = partners::names(&[
        ("LIMIT_LIMIT_HEADER", &flags.limit_limit_header),
        ("LIMIT_REMAINING_HEADER", &flags.limit_remaining_header),
        ("LIMIT_RESET_HEADER", &flags.limit_reset_header),
    ]);
    let without = "no answer has these headers; false says that none is meant to";
    let switch = "LIMIT_RESPONSE_HEADERS_ENABLED";
    read.beside(&RequiredSetting::switch(switch, &flags.limit_response_headers_enabled, without), &names);
    // Read even if they are off, so that a wrong name is reported now and not when they are turned on.
    let mut name = |variable, text, default: &str| read.or(variable, text, default.to_string(), header);
    let headers = LimitHeaders {
        limit: name("LIMIT_LIMIT_HEADER", &flags.limit_limit_header, "RateLimit-Limit"),
        remaining: name("LIMIT_REMAINING_HEADER", &flags.limit_remaining_header, "RateLimit-Remaining"),
        reset: name("LIMIT_RESET_HEADER", &flags.limit_reset_header, "RateLimit-Reset"),
    };
    ResponseSettings {
        limit_headers: enabled.then_some(headers),
        retry_after_header: read.or("TOLLGATE_RETRY_AFTER_HEADER", &flags.retry_after_header, None, switch_or_header),
        dynamic_metadata: read.or("RESPONSE_DYNAMIC_METADATA", &flags.response_dynamic_metadata, false, parse::boolean),
    }
}

fn header(text: &str) -> Result<String, String> {
    match http::HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_string()),
        Err(_) => Err("expected a header's name".into()),
    }
}

fn switch_or_header(text: &str) -> Result<Option<String>, String> {
    match parse::boolean(text) {
        Ok(on) => Ok(on.then(|| "Retry-After".to_string())),
        Err(_) => header(text).map(Some).map_err(|_| "expected true, false or a header's name".into()),
    }
}
