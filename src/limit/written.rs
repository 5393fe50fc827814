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

/// Reads `key=value`, split at the first `=`; the value may be empty.
pub fn parse_entry(text: &str) -> Result<OwnedEntry, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(OwnedEntry { key: key.into(), value: value.into() }),
        _ => Err(format!("'{text}' is no key=value")),
    }
}

/// Reads `k=v,k=v`; a comma or backslash in a text has a backslash before it.
pub fn parse_entries(text: &str) -> Result<Vec<OwnedEntry>, String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            ('\\', Some(part)) => part.extend(chars.next()),
            (',', _) => parts.push(String::new()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts.iter().map(|part| parse_entry(part)).collect()
}

/// Writes entries so that [`entries`] reads the same ones back.
pub fn write_entries<'e>(entries: impl IntoIterator<Item = Entry<'e>>) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,");
    let parts: Vec<String> =
        entries.into_iter().map(|Entry { key, value }| format!("{}={}", escaped(key), escaped(value))).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_split_at_the_first_equals_sign_and_commas_can_be_escaped() {
        let read = |text| -> Vec<(String, String)> {
            parse_entries(text).expect("well formed").into_iter().map(|e| (e.key, e.value)).collect()
        };
        let pair = |k: &str, v: &str| (k.to_string(), v.to_string());
        assert_eq!(read("user=a=b,path=/x"), [pair("user", "a=b"), pair("path", "/x")]);
        assert_eq!(read(r"list=1\,2"), [pair("list", "1,2")]);
        assert_eq!(read(r"w=c:\\x"), [pair("w", r"c:\x")]);
        assert_eq!(read("empty="), [pair("empty", "")]);
        assert!(parse_entries("user").is_err());
        assert!(parse_entries("=x").is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["user=alice", r"list=1\,2,w=c:\\x", "a=,b=c=d"] {
            let read = parse_entries(text).expect("well formed");
            assert_eq!(super::write_entries(read.iter().map(OwnedEntry::entry)), text);
        }
    }
}
