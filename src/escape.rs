//! Bytes that clients send in the place of text. Inside all text is UTF-8, so what is none is escaped at the border: each
//! byte as `\x` and two digits. A backslash before an `x` is escaped too (`\x5c`), so that no text looks like the escape
//! of other bytes: what differs outside differs inside. Any other text stays as it is.

mod json;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _};

pub(crate) use json::json;

/// What every escape begins with.
const MARK: &str = "\\x";

/// Whether nothing in `bytes` looks like an escape. A pass over all of them without a branch, for it is made for every
/// request; only where there is a backslash is looked what follows it.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |found, byte| found | (*byte == b'\\')) || !has_mark(bytes)
}

#[cold]
fn has_mark(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|pair| pair == MARK.as_bytes())
}

/// The text that stands for `bytes`.
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

/// The same for what is UTF-8.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if is_plain(text.as_bytes()) { Cow::Borrowed(text) } else { Cow::Owned(text.replace(MARK, "\\x5cx")) }
}

fn push(out: &mut String, byte: u8) {
    write!(out, "{MARK}{byte:02x}").expect("a String takes every write");
}
