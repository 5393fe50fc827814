//! Why a request is answered as it is, in words and numbers: which rule it meets and how, by the walk that decisions
//! take. Reads, and changes nothing.

#[cfg(test)]
mod tests;

use crate::{
    limit::Micros,
    rules::{Found, How, Step},
};

/// The way to a rule, or where it ended, on one line.
pub fn in_words(domain: &str, found: Found<'_>, steps: &[Step<'_>]) -> String {
    match found {
        Found::UnknownDomain => format!("there is no domain {domain}"),
        Found::Rule { rule, .. } => {
            let place = format!("{}:{}", rule.file.display(), rule.line);
            format!("{} meets {} ({place})", path(steps), rule.id)
        }
        Found::NoMatch => match steps.split_last() {
            Some((last, before)) => format!("{} meets no rule: {}", path(steps), dead_end(last, before)),
            None => "a descriptor without entries meets no rule".to_owned(),
        },
    }
}

/// `(user=alice)(endpoint=/login)`.
pub fn path(steps: &[Step<'_>]) -> String {
    steps.iter().map(|step| format!("({}={})", step.entry.key, step.entry.value)).collect()
}

/// Why the last of some steps led nowhere.
pub fn dead_end(last: &Step<'_>, before: &[Step<'_>]) -> String {
    let place = match before {
        [] => "at the first level".to_owned(),
        before => format!("below {}", path(before)),
    };
    let (key, value) = (last.entry.key, last.entry.value);
    match last.how {
        How::UnknownKey => format!("no rule {place} has the key {key}"),
        How::UnknownValue => format!("no rule {place} is for {key}={value}, nor for any {key}"),
        How::TooDeep => format!("there are no rules {place}"),
        // Each of its entries was met, but nothing was left to stop at: a descriptor without entries.
        How::Exact | How::Pattern(_) | How::KeyOnly => format!("no rule {place}"),
    }
}

/// A length of time as rule files write it: `1h30m`, `61s875ms`.
pub fn wait(wait: Micros) -> String {
    const UNITS: [(&str, u64); 6] =
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];
    let (mut left, mut text) = (wait.0, String::new());
    for (unit, micros) in UNITS {
        if left >= micros {
            text += &format!("{}{unit}", left / micros);
            left %= micros;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
