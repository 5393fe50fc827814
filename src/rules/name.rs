//! Ids of rules and limits, which metrics, JSON, explain and the API share, and the metric key of envoyproxy/ratelimit.

use super::{Level, LevelValue};

/// The id of a rule: `api/user/endpoint=/checkout`. No two paths have the same: separators within a word are escaped as
/// in URLs, except slashes in a last value that begins with one, which can't be mistaken.
pub(super) fn rule_id(domain: &str, path: &[std::sync::Arc<Level>]) -> String {
    let mut id = String::new();
    escape(domain, true, &mut id);
    for (index, level) in path.iter().enumerate() {
        id.push('/');
        escape(&level.key, true, &mut id);
        if let Some(value) = level.value.text() {
            id.push('=');
            let last = index + 1 == path.len();
            escape(value, !(last && value.starts_with('/')), &mut id);
        }
    }
    id
}

/// The beginning of the ids of a domain's rules: `api/`.
pub(crate) fn domain_prefix(domain: &str) -> String {
    let mut prefix = String::new();
    escape(domain, true, &mut prefix);
    prefix.push('/');
    prefix
}

/// The id of a limit with a name: `api/user/endpoint=/checkout#hourly`.
pub(super) fn limit_id(rule: &str, name: &str) -> String {
    let mut id = format!("{rule}#");
    escape(name, true, &mut id);
    id
}

/// The id of limits of overrides that correspond to no limit of the rule: the rule is known only when an override
/// applies.
pub(crate) fn override_limit_id(domain: &str) -> String {
    format!("{domain}/(override)")
}

/// The `domain.k1_v1.k2` of envoyproxy/ratelimit. It isn't unique: (a, b_c) and (a_b, c) have the same.
pub(super) fn metric_key(domain: &str, path: &[std::sync::Arc<Level>]) -> String {
    let mut key = domain.to_owned();
    for level in path {
        key.push('.');
        key.push_str(&level.key);
        if let Some(value) = level.value.text() {
            key.push('_');
            key.push_str(value);
        }
    }
    key
}

impl LevelValue {
    /// The value as the rule writes it; none if any value matches.
    pub fn text(&self) -> Option<&str> {
        match self {
            LevelValue::Any => None,
            LevelValue::Exact(text) => Some(text),
            LevelValue::Pattern(pattern) => Some(pattern.text()),
        }
    }
}

fn escape(text: &str, slashes: bool, out: &mut String) {
    for character in text.chars() {
        match character {
            '%' => out.push_str("%25"),
            '#' => out.push_str("%23"),
            '=' => out.push_str("%3D"),
            '/' if slashes => out.push_str("%2F"),
            character if character.is_control() => out.extend(character.escape_default()),
            character => out.push(character),
        }
    }
}
