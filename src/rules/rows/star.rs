//! Stars in the values of a match. A match names exact values, so a star in one would be for nobody, though it looks like a
//! pattern: it is refused, and one that is meant is written `\*`. Knows nothing of where values stand.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

/// What the error of a star says, of a value as it was written.
pub(crate) fn refusal(value: &str) -> (String, &'static str) {
    let what = format!("`{value}` has a star, and a match names exact values: it would be for nobody");
    let hint = "for many values change the limit itself (`tollgate limits`) or give it a rule with a pattern; a star that is \
                meant is written `\\*`";
    (what, hint)
}

/// The value that is meant: `\*` is a star, and of several backslashes right before one each two are one. `None` where a
/// star stands alone.
pub(crate) fn read(written: &str) -> Option<Cow<'_, str>> {
    if !written.contains('*') {
        return Some(Cow::Borrowed(written));
    }
    let mut out = String::with_capacity(written.len());
    let mut pieces = written.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            out.push_str(piece);
            break;
        }
        let backslashes = trailing(piece);
        if backslashes.is_multiple_of(2) {
            return None;
        }
        out.push_str(&piece[..piece.len() - backslashes.div_ceil(2)]);
        out.push('*');
    }
    Some(Cow::Owned(out))
}

/// As [`read`] reads it.
pub(crate) fn write(value: &str) -> Cow<'_, str> {
    if !value.contains('*') {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 4);
    for c in value.chars() {
        if c == '*' {
            let before = trailing(&out);
            out.extend(std::iter::repeat_n('\\', before + 1));
        }
        out.push(c);
    }
    Cow::Owned(out)
}

fn trailing(text: &str) -> usize {
    text.len() - text.trim_end_matches('\\').len()
}
