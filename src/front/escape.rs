//! Bytes that clients send in the place of text. Inside all text is UTF-8, so what is none is escaped at the border: each
//! byte as `\x` and two digits. A backslash that begins what looks like such an escape is escaped too (`\x5c`), so that no
//! text looks like the escape of other bytes: what differs outside differs inside. Any other text stays as it is, so that
//! `C:\xampp` is what it was, in rules and as a key in Redis.

mod json;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _};

pub(crate) use json::json;

/// An escape: backslash, `x`, and two digits.
const LENGTH: usize = 4;

/// Whether the characters behind a backslash make it an escape: of a byte that can't be in UTF-8, or of a backslash.
fn is_escape(behind: [u8; LENGTH - 1]) -> bool {
    matches!(behind, [b'x', b'8' | b'9' | b'a'..=b'f', b'0'..=b'9' | b'a'..=b'f'] | [b'x', b'5', b'c'])
}

fn begins_escape(text: &[u8]) -> bool {
    matches!(text, [b'\\', x, high, low, ..] if is_escape([*x, *high, *low]))
}

/// Whether nothing in `bytes` looks like an escape. One pass without a branch, because every request needs it; only
/// behind a backslash are the characters checked.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |found, byte| found | (*byte == b'\\')) || !has_escape(bytes)
}

#[cold]
fn has_escape(bytes: &[u8]) -> bool {
    bytes.windows(LENGTH).any(begins_escape)
}

/// The bytes as text.
pub(crate) fn bytes(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(valid) => text(valid),
        Err(_) => {
            let mut out = String::with_capacity(bytes.len() + 16);
            for chunk in bytes.utf8_chunks() {
                out.push_str(&text(chunk.valid()));
                chunk.invalid().iter().for_each(|byte| push(&mut out, *byte));
            }
            Cow::Owned(out)
        }
    }
}

/// The same for UTF-8.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if is_plain(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut from = 0;
    for (at, _) in text.match_indices('\\').filter(|(at, _)| begins_escape(&text.as_bytes()[*at..])) {
        out.push_str(&text[from..at]);
        push(&mut out, b'\\');
        from = at + 1;
    }
    out.push_str(&text[from..]);
    Cow::Owned(out)
}

fn push(out: &mut String, byte: u8) {
    write!(out, "\\x{byte:02x}").expect("a String takes every write");
}
