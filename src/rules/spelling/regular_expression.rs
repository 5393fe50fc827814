//! Whether a text is likely meant as a regular expression, which nothing here reads. A wildcard, a path and a name of a
//! directory are none.

/// What no path, name or wildcard is likely to have.
const SIGNS: [&str; 14] =
    ["(?", ".*$", "/.*", "/.+", "\\.", "\\/", "\\d+", "\\d*", "\\d{", "\\w+", "\\w*", "\\s*", "\\s+", "[[:"];

/// Beginnings of classes of characters; `[::1]` is an address.
const CLASSES: [&str; 5] = ["[^", "[0-", "[a-z", "[A-Z", "[\\"];

pub(super) fn is_likely(text: &str) -> bool {
    let is_anchored = (text.starts_with('^') && text.len() > 1)
        || (text.ends_with('$') && text.contains(['*', '+', '(', '[', '\\', '|']));
    let is_class = CLASSES.iter().any(|class| text.split_once(class).is_some_and(|(_, rest)| rest.contains(']')));
    let is_choice = text
        .split_once('(')
        .is_some_and(|(_, rest)| rest.split_once(')').is_some_and(|(within, _)| within.contains('|')));
    let is_any = matches!(text, ".*" | ".+");
    is_anchored || is_class || is_choice || is_any || SIGNS.iter().any(|sign| text.contains(sign))
}

/// The wildcards that match about the same, if it is simple enough to say.
pub(super) fn as_wildcards(text: &str) -> Option<String> {
    let core = text.strip_prefix('^').unwrap_or(text);
    let core = core.strip_suffix('$').unwrap_or(core);
    let plain = core.replace("[^/]+", "*").replace("[^/]*", "*").replace(".*", "*").replace(".+", "*");
    let plain = plain.replace("\\.", ".").replace("\\/", "/").replace("\\d+", "*").replace("\\w+", "*");
    let plain = plain.replace("[0-9]+", "*").replace("[a-z]+", "*");
    let is_simple = !plain.is_empty() && !plain.contains(['^', '$', '+', '(', ')', '[', ']', '\\', '|', '{', '}', '?']);
    is_simple.then_some(plain)
}
