//! JSON to the tree that rule files are read into. Text is read by `serde_json`, in whose tracks a cursor keeps the place of
//! each node; values that are no text any more have the path of their field for a place. It knows nothing of rules.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::node::{DEPTH_MAX, Document, FieldPaths, Location, Node, NodeError, Step};

#[cfg(test)]
mod tests;

/// Reads a text that begins at some line of a file.
pub(super) fn parse(text: &str, line: u32) -> Document<'_> {
    let mut reader = Reader::new(text, line);
    let mut parser = serde_json::Deserializer::from_str(text);
    let root = Next(&mut reader).deserialize(&mut parser).and_then(|root| parser.end().map(|()| root));
    match root {
        Ok(root) => Document { root: Some(root), ..Document::default() },
        Err(error) => Document { faults: vec![reader.fault(line, &error)], ..Document::default() },
    }
}

/// Where `serde_json` stopped, and why in its words, without the place. Both count from 1, columns in characters; column 0
/// is before the first.
pub(crate) fn stopped(text: &[u8], error: &serde_json::Error) -> (u32, u32, String) {
    let (line, column) = (error.line(), error.column());
    let bytes = text.split(|byte| *byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
    let begins_character = |byte: &&u8| !matches!(byte, 0x80..=0xbf);
    let characters = bytes.iter().take(column).filter(begins_character).count();
    let said = error.to_string();
    let what = said.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&said);
    (line.max(1) as u32, characters as u32, what.to_owned())
}

/// Follows `serde_json` through the text: what it reads next begins at the first byte that isn't punctuation.
struct Reader<'t> {
    text: &'t str,
    /// One line of ASCII, as most are: then a column is an offset.
    is_plain: bool,
    /// How far places are known: the byte, and where it is.
    at: usize,
    line: u32,
    column: u32,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, line: u32) -> Reader<'t> {
        let is_plain = text.is_ascii() && !text.contains('\n');
        Reader { text, is_plain, at: 0, line, column: 1 }
    }

    /// The place of the next token.
    fn next(&mut self) -> Location {
        let rest = &self.text.as_bytes()[self.at..];
        let is_punctuation = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b']' | b'}');
        self.advance(rest.iter().take_while(|byte| is_punctuation(byte)).count());
        Location { line: self.line, column: self.column, width: 1 }
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.text.as_bytes()[self.at..self.at + bytes];
        self.at += bytes;
        if self.is_plain {
            self.column += bytes as u32;
            return;
        }
        for byte in passed {
            match byte {
                b'\n' => (self.line, self.column) = (self.line + 1, 1),
                0x80..=0xbf => {}
                _ => self.column += 1,
            }
        }
    }

    /// A number, `true`, `false` or `null`, as it is written.
    fn plain(&mut self) -> Node<'t> {
        let at = self.next();
        let rest = &self.text[self.at..];
        let is_end = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
        let text = &rest[..rest.bytes().position(is_end).unwrap_or(rest.len())];
        self.advance(text.len());
        Node::scalar(Location { width: self.column - at.column, ..at }, Cow::Borrowed(text), true)
    }

    /// `length` is that of the text between the quotes.
    fn quoted(&mut self, text: Cow<'t, str>, length: usize) -> Node<'t> {
        let at = self.next();
        self.advance(length + 2);
        Node::scalar(Location { width: self.column - at.column, ..at }, text, false)
    }

    fn fault(&self, line: u32, error: &serde_json::Error) -> NodeError {
        let (within, column, what) = stopped(self.text.as_bytes(), error);
        let at = Location { line: line + within - 1, column: column.max(1), width: 1 };
        match what.as_str() {
            "recursion limit exceeded" => NodeError::new(at, "nested deeper than 127 levels"),
            _ => NodeError { at, hint: hint(&what), what: format!("not JSON: {what}") },
        }
    }
}

/// Bytes of the string whose opening quote was just passed, without its closing one.
fn string_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = rest.get(at).filter(|byte| **byte != b'"') {
        at += if *byte == b'\\' { 2 } else { 1 };
    }
    at
}

/// Reads one value, or one key, into a node.
struct Next<'r, 't>(&'r mut Reader<'t>);

impl<'t> DeserializeSeed<'t> for Next<'_, 't> {
    type Value = Node<'t>;

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<Node<'t>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Next<'_, 't> {
    type Value = Node<'t>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Node<'t>, A::Error> {
        let at = self.0.next();
        self.0.advance(1);
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(Next(self.0))? {
            entries.push((key, map.next_value_seed(Next(self.0))?));
        }
        Ok(Node::map(at, entries))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Node<'t>, A::Error> {
        let at = self.0.next();
        self.0.advance(1);
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Next(self.0))? {
            items.push(item);
        }
        Ok(Node::list(at, items))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'t str) -> Result<Node<'t>, E> {
        Ok(self.0.quoted(Cow::Borrowed(text), text.len()))
    }

    /// Of a string with escapes, which takes other bytes in the text.
    fn visit_str<E: Error>(self, text: &str) -> Result<Node<'t>, E> {
        self.0.next();
        let length = string_length(&self.0.text.as_bytes()[self.0.at + 1..]);
        Ok(self.0.quoted(Cow::Owned(text.to_owned()), length))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Node<'t>, E> {
        Ok(self.0.plain())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Node<'t>, E> {
        Ok(self.0.plain())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node<'t>, E> {
        Ok(self.0.plain())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node<'t>, E> {
        Ok(self.0.plain())
    }

    fn visit_unit<E: Error>(self) -> Result<Node<'t>, E> {
        Ok(self.0.plain())
    }
}

fn too_deep(at: Location) -> NodeError {
    NodeError::new(at, format!("nested deeper than {DEPTH_MAX} levels"))
}

/// For what YAML would take.
fn hint(what: &str) -> Option<&'static str> {
    match what {
        "key must be a string" | "expected value" | "expected ident" => {
            Some("keys and text stand in double quotes; numbers, true, false and null in none")
        }
        _ => None,
    }
}

/// A value as a tree whose places are the paths of fields.
pub(super) fn tree(value: &Json) -> (Document<'_>, FieldPaths) {
    let mut fields = FieldPaths::default();
    let root = fields.add(Location::default(), Step::Root);
    let document = match node(value, root, &mut fields, 1) {
        Ok(root) => Document { root: Some(root), ..Document::default() },
        Err(fault) => Document { faults: vec![fault], ..Document::default() },
    };
    (document, fields)
}

fn node<'v>(value: &'v Json, at: Location, fields: &mut FieldPaths, depth: u16) -> Result<Node<'v>, NodeError> {
    if depth > DEPTH_MAX && (value.is_array() || value.is_object()) {
        return Err(too_deep(at));
    }
    Ok(match value {
        Json::Null => Node::scalar(at, Cow::Borrowed("null"), true),
        Json::Bool(said) => Node::scalar(at, Cow::Borrowed(if *said { "true" } else { "false" }), true),
        Json::Number(number) => Node::scalar(at, Cow::Owned(number.to_string()), true),
        Json::String(text) => Node::scalar(at, Cow::Borrowed(text), false),
        Json::Array(items) => {
            let mut nodes = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let at = fields.add(at, Step::Item(index));
                nodes.push(node(item, at, fields, depth + 1)?);
            }
            Node::list(at, nodes)
        }
        Json::Object(map) => {
            let mut nodes = Vec::with_capacity(map.len());
            for (key, value) in map {
                let at = fields.add(at, Step::Key(Box::from(&**key)));
                let key = Node::scalar(at, Cow::Borrowed(key.as_str()), false);
                nodes.push((key, node(value, at, fields, depth + 1)?));
            }
            Node::map(at, nodes)
        }
    })
}
