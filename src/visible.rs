//! Text that somebody else wrote, made fit to be looked at: on a terminal a control character does something instead of
//! being seen, a line break begins what looks like another answer, and a bidirectional control turns around what stands
//! behind it. Knows nothing of what the text is.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _};

/// Whether a character does something that isn't seen.
pub(crate) fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// On one line: what isn't seen is written as `\n`, `\t`, `\u{1b}`.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    escaped(text, is_unseen, |out, character| out.extend(character.escape_default()))
}

/// On as many lines as it has, and with its tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    let is_unseen = |character| is_unseen(character) && character != '\n' && character != '\t';
    escaped(text, is_unseen, |out, character| out.extend(character.escape_default()))
}

/// JSON that says the same: outside of strings it has no such character, and within them `\u001b` is one.
pub(crate) fn json(json: &str) -> Cow<'_, str> {
    let is_unseen = |character| is_unseen(character) && !matches!(character, '\n' | '\t' | '\r');
    escaped(json, is_unseen, |out, character| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

fn escaped(text: &str, is_unseen: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(&is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_unseen(character) {
            true => escape(&mut out, character),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}
