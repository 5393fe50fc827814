//! Checks ids of overrides, and makes the ones of overrides whose author chose none: the one maker for the command line,
//! the library and examples/node. The same match always has the same id, so that setting it again replaces the override.
//! It knows nothing of what is stored.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _};

use sha2::{Digest as _, Sha256};

use super::{Entry, OverrideSpec, bounds::shown, problem::ApiError};
use crate::rules::{domain_prefix, star};

/// Bytes of an id.
const ID_MAX: usize = 128;

/// Characters of a longer id that can be read.
const READABLE: usize = 80;

/// Whether an override may have this id.
pub(super) fn check(id: &str) -> Result<(), ApiError> {
    let is_allowed = |byte: u8| is_good(byte) || b"~:".contains(&byte);
    if (1..=ID_MAX).contains(&id.len()) && id.bytes().all(is_allowed) {
        return Ok(());
    }
    let what = format!("`{}` is no id of an override", shown(id));
    Err(ApiError::invalid("id", what, format!("1 to {ID_MAX} letters, digits and -._~:@")))
}

/// The same for an override that is to be: not an id that a path of HTTP can't name, since `.` and `..` are steps there.
pub(super) fn check_new(id: &str) -> Result<(), ApiError> {
    if [".", ".."].contains(&id) {
        let what = format!("`{id}` is a step in a path, so over HTTP nobody could read or delete it");
        return Err(ApiError::invalid("id", what, "choose another, such as one with a letter"));
    }
    check(id)
}

/// The id of what `spec` says in `domain`, which may be left empty where no rule is named with its domain.
///
/// `user:alice`, where other characters are `~` and two digits for each byte; the rule that is for that key alone changes
/// nothing, as it is the one that is meant. Several keys are joined by `~`. What has another rule, other characters in
/// several keys, or is longer than an id, ends with a digest.
pub(crate) fn make(domain: &str, spec: &OverrideSpec) -> String {
    let rule = rule_of(domain, spec);
    // By the values that are meant, however their stars are written.
    let meant = |entry: &Entry| Entry {
        key: entry.key.clone(),
        value: star::read(&entry.value).map_or_else(|| entry.value.clone(), Cow::into_owned),
    };
    let entries: Vec<Entry> = spec.r#match.iter().map(meant).collect();
    let plain = match entries.as_slice() {
        [only] => Some(format!("{}:{}", escaped(&only.key), escaped(&only.value))),
        several => several.iter().all(is_plain).then(|| joined(several)),
    };
    let plain = plain.filter(|id| rule.is_empty() && id.len() <= ID_MAX);
    plain.unwrap_or_else(|| digested(rule, &entries))
}

/// Without the domain, and empty where it is that of the only key.
fn rule_of<'s>(domain: &str, spec: &'s OverrideSpec) -> &'s str {
    let rule = spec.rule.as_str();
    let rule = if domain.is_empty() { rule } else { rule.strip_prefix(&domain_prefix(domain)).unwrap_or(rule) };
    match spec.r#match.as_slice() {
        [only] if only.key == rule => "",
        _ => rule,
    }
}

/// Bytes that stand in an id as they are; `:` and `~` have a meaning.
fn is_good(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._@".contains(&byte)
}

fn is_plain(entry: &Entry) -> bool {
    entry.key.bytes().chain(entry.value.bytes()).all(is_good)
}

fn joined(entries: &[Entry]) -> String {
    entries.iter().map(|entry| format!("{}:{}", entry.key, entry.value)).collect::<Vec<_>>().join("~")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match is_good(byte) {
            true => out.push(char::from(byte)),
            false => {
                let _ = write!(out, "~{byte:02x}");
            }
        }
    }
    out
}

fn digested(rule: &str, entries: &[Entry]) -> String {
    let mut hash = Sha256::new();
    for text in [rule].into_iter().chain(entries.iter().flat_map(|entry| [&*entry.key, &*entry.value])) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let digest = hex::encode(&hash.finalize()[..16]);
    let whole = [rule, &joined(entries)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("~");
    let readable: String =
        whole.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(READABLE).collect();
    format!("{readable}~{digest}")
}
