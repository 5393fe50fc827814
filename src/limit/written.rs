//! Descriptors as people write them, on a command line or in a test case: `user=alice,endpoint=/login`.

use super::Entry;

/// An entry that owns its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedEntry {
    pub key: String,
    pub value: String,
}

impl OwnedEntry {
    pub fn entry(&self) -> Entry<'_> {
        Entry { key: &self.key, value: &self.value }
    }
}

/// Reads one entry, `key=value`, split at the first `=`; the value may be empty. A comma needs no backslash here, and may
/// have one, as [`write_entries`] writes it.
pub fn parse_entry(text: &str) -> Result<OwnedEntry, String> {
    let mut whole = String::with_capacity(text.len());
    for part in parts(text) {
        match part {
            EscapedPiece::Text(text) => whole.push_str(text),
            EscapedPiece::Comma | EscapedPiece::End => whole.push(','),
        }
    }
    entry(&whole)
}

/// Reads `k=v,k=v`. A comma within a text has a backslash before it. Other backslashes are themselves; of several right
/// before a comma each two are one.
pub fn parse_entries(text: &str) -> Result<Vec<OwnedEntry>, String> {
    let mut entries = vec![String::new()];
    for part in parts(text) {
        match (part, entries.last_mut()) {
            (EscapedPiece::Text(text), Some(entry)) => entry.push_str(text),
            (EscapedPiece::Comma, Some(entry)) => entry.push(','),
            (EscapedPiece::End, _) | (_, None) => entries.push(String::new()),
        }
    }
    entries.iter().map(|text| entry(text)).collect()
}

/// Writes entries so that [`parse_entries`] reads the same ones back, and [`parse_entry`] a single one.
pub fn write_entries<'e>(entries: impl IntoIterator<Item = Entry<'e>>) -> String {
    let mut out = String::new();
    for (nth, Entry { key, value }) in entries.into_iter().enumerate() {
        if nth > 0 {
            // Those at the end of the entry before stand right before this comma.
            let trailing = out.len() - out.trim_end_matches('\\').len();
            out.extend(std::iter::repeat_n('\\', trailing));
            out.push(',');
        }
        for c in [key, "=", value].into_iter().flat_map(str::chars) {
            if c == ',' {
                let before = out.len() - out.trim_end_matches('\\').len();
                out.extend(std::iter::repeat_n('\\', before + 1));
            }
            out.push(c);
        }
    }
    out
}

fn entry(text: &str) -> Result<OwnedEntry, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(OwnedEntry { key: key.into(), value: value.into() }),
        _ => Err(format!("'{text}' is no key=value")),
    }
}

/// What a text with escaped commas is made of.
#[derive(Clone, Copy)]
enum EscapedPiece<'t> {
    Text(&'t str),
    /// A comma that belongs to the text.
    Comma,
    /// A comma between two entries.
    End,
}

fn parts(text: &str) -> Vec<EscapedPiece<'_>> {
    let mut parts = Vec::new();
    let mut pieces = text.split(',').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            parts.push(EscapedPiece::Text(piece));
            continue;
        }
        // Right before a comma each two backslashes are one, and an odd one makes the comma a part of the text.
        let backslashes = piece.len() - piece.trim_end_matches('\\').len();
        parts.push(EscapedPiece::Text(&piece[..piece.len() - backslashes.div_ceil(2)]));
        parts.push(if backslashes % 2 == 1 { EscapedPiece::Comma } else { EscapedPiece::End });
    }
    parts
}

#[cfg(test)]
mod tests;
