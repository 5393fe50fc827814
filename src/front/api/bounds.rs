//! Limits on the size of what callers send: ids, texts, pages. Checked before anything is stored or compared.

#[cfg(test)]
mod tests;

use super::{Entry, OverrideSpec, problem::ApiError};

/// Bytes of a user, endpoint or action, and of a key or value that an override or a reset names.
pub(super) const VALUE_MAX: usize = 4_096;

/// Bytes of a reason or an owner.
const WORDS_MAX: usize = 1_024;

/// Entries of a descriptor that an override or a reset names: rules go no deeper.
const ENTRIES_MAX: usize = 32;

/// Limits of one override.
const LIMITS_MAX: usize = 32;

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// Bytes of a page token: those that are given out are shorter.
const PAGE_TOKEN_MAX: usize = 1_024;

/// What an override must have and may not exceed; what it means is read against the rules.
pub(super) fn check_spec(spec: Option<&OverrideSpec>) -> Result<(), ApiError> {
    let Some(spec) = spec else {
        return Err(ApiError::invalid("spec", "there is no override", "send match and limit"));
    };
    check_entries("match", &spec.r#match)?;
    if spec.limit.is_empty() || spec.limit.len() > LIMITS_MAX {
        let what = format!("an override has 1 to {LIMITS_MAX} limits, not {}", spec.limit.len());
        return Err(ApiError::invalid("limit", what, "such as \"300/m\", or \"unlimited\""));
    }
    if !spec.expires.is_empty() && !spec.r#for.is_empty() {
        return Err(ApiError::invalid("for", "`for` and `expires` both say when it ends", "send one of them"));
    }
    for (field, text) in [("reason", &spec.reason), ("owner", &spec.owner)] {
        check_words(field, text)?;
    }
    check_value("rule", &spec.rule)?;
    check_value("expires", &spec.expires)?;
    check_value("for", &spec.r#for)
}

pub(super) fn check_entries(field: &str, entries: &[Entry]) -> Result<(), ApiError> {
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        let what = format!("it must have 1 to {ENTRIES_MAX} keys with their values, not {}", entries.len());
        return Err(ApiError::invalid(field, what, "such as {\"user\": \"alice\"}"));
    }
    for entry in entries {
        check_filled(field, &entry.key)?;
        check_filled(&format!("{field}.{}", shown(&entry.key)), &entry.value)?;
    }
    Ok(())
}

/// Text that must be there, and not too much of it.
pub(super) fn check_filled(field: &str, text: &str) -> Result<(), ApiError> {
    if text.is_empty() {
        return Err(ApiError::invalid(field, "it must not be empty", "leave the field out if it isn't meant"));
    }
    check_value(field, text)
}

pub(super) fn check_words(field: &str, text: &str) -> Result<(), ApiError> {
    check_length(field, text, WORDS_MAX)
}

pub(super) fn check_value(field: &str, text: &str) -> Result<(), ApiError> {
    check_length(field, text, VALUE_MAX)
}

fn check_length(field: &str, text: &str, max: usize) -> Result<(), ApiError> {
    if text.len() <= max {
        return Ok(());
    }
    let what = format!("{} bytes are more than {max}", text.len());
    Err(ApiError::invalid(field, what, "send a digest of what is so long, or less of it"))
}

/// The size of a page; 0 is the default.
pub(super) fn page_size(asked: u32) -> Result<u32, ApiError> {
    match asked {
        0 => Ok(PAGE_DEFAULT),
        1..=PAGE_MAX => Ok(asked),
        _ => Err(ApiError::invalid("page_size", format!("a page has at most {PAGE_MAX}"), "ask for the next page")),
    }
}

pub(super) fn check_page_token(token: &str) -> Result<(), ApiError> {
    check_length("page_token", token, PAGE_TOKEN_MAX)
}

pub(super) fn check_filter(key: &str, value_prefix: &str) -> Result<(), ApiError> {
    if key.is_empty() && !value_prefix.is_empty() {
        let hint = "add key=user, say";
        return Err(ApiError::invalid("value_prefix", "a prefix of a value needs the key that it is of", hint));
    }
    check_value("key", key)?;
    check_value("value_prefix", value_prefix)
}

/// The beginning of a text, for messages: what a client sends may be of any length.
pub(super) fn shown(text: &str) -> String {
    const SHOWN: usize = 64;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
