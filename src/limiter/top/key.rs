//! What a list shows of a counter: its limit's id and its descriptor, short, and fit to be shown. It knows what is hashed
//! for privacy, and nothing of counts.

use std::hash::Hasher as _;

use sha2::{Digest as _, Sha256};
use siphasher::sip::SipHasher13;

use crate::{privacy::Privacy, rules::Rule, store::Key};

/// Longer texts are cut.
pub(super) const TEXT_BYTES_MAX: usize = 128;

/// A counter as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TopKey {
    /// The domain's number, for lists of one domain.
    pub(super) domain: u64,
    /// The limit's id, and from `limit_end` the descriptor.
    text: Box<str>,
    limit_end: u16,
}

/// The most that a key takes with what the allocator adds: two allocations, and what shares the first.
pub(super) const TOP_KEY_BYTES: usize = TopKey::OWN_BYTES + 2 * TEXT_BYTES_MAX;

impl TopKey {
    /// Itself, two reference counts, and 16 bytes of slack.
    const OWN_BYTES: usize = size_of::<TopKey>() + 2 * size_of::<usize>() + 16;

    pub(super) fn new(domain: u64, limit: &str, descriptor: &str) -> TopKey {
        let (limit, descriptor) = (cut(limit), cut(descriptor));
        // Of its exact length, so that it is boxed as it is.
        let mut text = String::with_capacity(limit.len() + descriptor.len());
        text.push_str(&limit);
        text.push_str(&descriptor);
        TopKey { domain, text: text.into(), limit_end: limit.len() as u16 }
    }

    pub(super) fn limit(&self) -> &str {
        &self.text[..usize::from(self.limit_end)]
    }

    pub(super) fn descriptor(&self) -> &str {
        &self.text[usize::from(self.limit_end)..]
    }

    /// Whether an entry of the descriptor is this text.
    pub(super) fn has_entry(&self, text: &str) -> bool {
        let (descriptor, mut from) = (self.descriptor(), 0);
        loop {
            let end = end_of_entry(&descriptor[from..]) + from;
            if &descriptor[from..end] == text {
                return true;
            }
            from = end + 1;
            if from > descriptor.len() {
                return false;
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        TopKey::OWN_BYTES + self.text.len()
    }
}

/// Where the first entry of a descriptor ends: at a comma without a backslash before it.
fn end_of_entry(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b',' if !is_escaped => return at,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// The number by which lists know a domain: the same on all replicas.
pub(super) fn domain_number(name: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// As [`cut_to`], to [`TEXT_BYTES_MAX`] bytes.
pub(super) fn cut(text: &str) -> std::borrow::Cow<'_, str> {
    cut_to(text, TEXT_BYTES_MAX)
}

/// A text of at most `bytes_max` bytes. One that is cut, at the end of a character, ends in `…` and 8 digits of its SHA-256,
/// so that it stays different from others that begin alike.
pub(in crate::limiter) fn cut_to(text: &str, bytes_max: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= bytes_max {
        return text.into();
    }
    let end = format!("…{}", hex::encode(&Sha256::digest(text)[..4]));
    let cut = (0..=bytes_max - end.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{end}", &text[..cut]).into()
}

/// A counter's entries, as `key=value,key=value`, as `--descriptor` takes them. Values that the rule names, and patterns
/// that share one counter, are shown as they are; others as `privacy` allows. An equals sign in a key has a backslash
/// before it, so that no two counters look alike.
pub(super) fn descriptor(key: &Key<'_>, rule: Option<&Rule>, privacy: &Privacy) -> String {
    let mut out = String::with_capacity(64);
    for (position, entry) in key.entries.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        escape(entry.key, true, &mut out);
        out.push('=');
        match key.shared.get(position).and_then(Option::as_deref) {
            Some(pattern) => escape(pattern, false, &mut out),
            None if rule.is_some_and(|rule| rule.names_value(position)) => escape(entry.value, false, &mut out),
            None => escape(&privacy.shown(entry.key, entry.value), false, &mut out),
        }
    }
    out
}

/// An entry as [`descriptor`] writes it.
pub(super) fn entry_text(key: &str, value: &str) -> String {
    let mut out = String::with_capacity(64);
    escape(key, true, &mut out);
    out.push('=');
    escape(value, false, &mut out);
    out
}

fn escape(text: &str, is_key: bool, out: &mut String) {
    // As nearly all are.
    if !text.bytes().any(|byte| matches!(byte, b'\\' | b',') || (is_key && byte == b'=')) {
        return out.push_str(text);
    }
    for character in text.chars() {
        match character {
            '\\' | ',' => out.extend(['\\', character]),
            '=' if is_key => out.push_str("\\="),
            character => out.push(character),
        }
    }
}
