//! The same in JSON before it is read: its strings may hold bytes that are no UTF-8, and halves of surrogate pairs, which
//! stand for the three bytes that they would be in UTF-8. Only strings are looked at; what is wrong with the JSON its
//! reader says.

use std::{borrow::Cow, fmt::Write as _};

use super::{LENGTH, is_escape};

/// A body of JSON whose strings are escaped like [`super::bytes`].
pub(crate) fn json(body: &[u8]) -> Cow<'_, [u8]> {
    if !body.contains(&b'\\') && std::str::from_utf8(body).is_ok() {
        return Cow::Borrowed(body);
    }
    let mut out = Vec::with_capacity(body.len() + 16);
    let (mut rest, mut is_string) = (body, false);
    while let Some((&byte, after)) = rest.split_first() {
        if !is_string || byte == b'"' {
            is_string ^= byte == b'"';
            out.push(byte);
            rest = after;
        } else {
            rest = part(rest, &mut out);
        }
    }
    Cow::Owned(out)
}

/// Writes the next character of a string; returns the rest behind it.
fn part<'b>(rest: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
    let (length, unit) = unit(rest);
    let (own, after) = rest.split_at(length);
    match unit {
        JsonChar::Backslash if begins_escape(after) => out.extend_from_slice(br"\\x5c"),
        JsonChar::HalfPair(half) => {
            let [high, low] = [(half >> 6) & 0x3f, half & 0x3f];
            [0xe0 | half >> 12, 0x80 | high, 0x80 | low].into_iter().for_each(|byte| escaped(out, byte as u8));
        }
        JsonChar::NoText => own.iter().for_each(|byte| escaped(out, *byte)),
        JsonChar::Backslash | JsonChar::Ascii(_) | JsonChar::Other => out.extend_from_slice(own),
    }
    after
}

/// Whether the characters behind a backslash make an escape of it, however they are written.
fn begins_escape(mut rest: &[u8]) -> bool {
    let mut behind = [0; LENGTH - 1];
    for character in &mut behind {
        let (length, JsonChar::Ascii(byte)) = unit(rest) else { return false };
        *character = byte;
        rest = &rest[length..];
    }
    is_escape(behind)
}

/// A character of a string, however it is written.
enum JsonChar {
    Backslash,
    Ascii(u8),
    /// Half of a surrogate pair that isn't one.
    HalfPair(u16),
    /// A byte that isn't UTF-8.
    NoText,
    Other,
}

/// The first character of a string's rest, and the bytes that it takes there.
fn unit(rest: &[u8]) -> (usize, JsonChar) {
    match rest {
        [b'\\', b'\\', ..] => (2, JsonChar::Backslash),
        [b'\\', b'u', hex @ ..] => match code_unit(hex) {
            Some(0x5c) => (6, JsonChar::Backslash),
            Some(ascii @ ..0x80) => (6, JsonChar::Ascii(ascii as u8)),
            Some(0xd800..=0xdbff) if is_low_half(&hex[4..]) => (12, JsonChar::Other),
            Some(half @ 0xd800..=0xdfff) => (6, JsonChar::HalfPair(half)),
            Some(_) => (6, JsonChar::Other),
            None => (2, JsonChar::Other),
        },
        // An escape of one letter; a broken one is reported by the reader.
        [b'\\', next, ..] if next.is_ascii() => (2, JsonChar::Other),
        [byte, ..] if byte.is_ascii() => (1, JsonChar::Ascii(*byte)),
        _ => {
            // No character is longer than four bytes.
            let head = &rest[..rest.len().min(4)];
            let chunk = head.utf8_chunks().next();
            match chunk.map(|chunk| (chunk.valid().chars().next(), chunk.invalid())) {
                Some((Some(first), _)) => (first.len_utf8(), JsonChar::Other),
                Some((None, invalid)) => (invalid.len(), JsonChar::NoText),
                None => (rest.len(), JsonChar::Other),
            }
        }
    }
}

/// The number of four hexadecimal digits.
fn code_unit(hex: &[u8]) -> Option<u16> {
    let digits = hex.get(..4)?;
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)? as u16))
}

fn is_low_half(rest: &[u8]) -> bool {
    matches!(rest, [b'\\', b'u', hex @ ..] if matches!(code_unit(hex), Some(0xdc00..=0xdfff)))
}

fn escaped(out: &mut Vec<u8>, byte: u8) {
    let mut text = String::with_capacity(5);
    write!(text, "\\\\x{byte:02x}").expect("a String takes every write");
    out.extend_from_slice(text.as_bytes());
}
