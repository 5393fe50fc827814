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
    let mut reader = JsonReader { text, first_line: line, at: 0, place: Location { line, column: 1, width: 1 } };
    match reader.root() {
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
    let located = error.to_string();
    let what = located.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&located);
    (line.max(1) as u32, characters as u32, what.to_owned())
}

struct JsonReader<'t> {
    text: &'t str,
    /// One line of ASCII, as most are: then a column is an offset.
    is_plain: bool,
    /// How far places are known: the byte, and where it is.
    at: usize,
    place: Location,
}

impl<'t> JsonReader<'t> {
    fn root(&mut self) -> Result<Node<'t>, NodeError> {
        let text = self.text.trim_matches([' ', '\n', '\t', '\r']);
        // What a collection holds is read anyway, and its syntax with it.
        if !text.starts_with(['{', '[']) {
            self.read::<&RawValue>(text)?;
        }
        self.node(text, 1)
    }

    /// `raw` is a part of the text: the whole, or one whose syntax is known to be right.
    fn node(&mut self, raw: &'t str, depth: u16) -> Result<Node<'t>, NodeError> {
        let at = self.place(raw);
        match raw.bytes().next() {
            Some(b'{' | b'[') if depth > DEPTH_MAX => Err(too_deep(at)),
            Some(b'{') => {
                let Within(parts) = self.read(raw)?;
                let mut entries = Vec::with_capacity(parts.len() / 2);
                for part in parts.chunks_exact(2) {
                    entries.push((self.node(part[0].get(), depth + 1)?, self.node(part[1].get(), depth + 1)?));
                }
                Ok(Node::map(at, entries))
            }
            Some(b'[') => {
                let Within(parts) = self.read(raw)?;
                let items = parts.iter().map(|part| self.node(part.get(), depth + 1));
                Ok(Node::list(at, items.collect::<Result<_, _>>()?))
            }
            first => {
                let at = Location { width: raw.chars().count() as u32, ..at };
                let quoted = first == Some(b'"');
                let text = match raw.get(1..raw.len() - 1).filter(|_| quoted) {
                    None => Cow::Borrowed(raw),
                    Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
                    Some(_) => Cow::Owned(self.read(raw)?),
                };
                Ok(Node::scalar(at, text, !quoted))
            }
        }
    }

    fn read<T: Deserialize<'t>>(&self, raw: &'t str) -> Result<T, NodeError> {
        serde_json::from_str(raw).map_err(|error| self.fault(raw, &error))
    }

    /// Where a part of the text begins.
    fn place(&mut self, part: &str) -> Location {
        let begin = self.offset(part);
        for byte in &self.text.as_bytes()[self.at..begin] {
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
        Node::scalar(Place { width: self.column - at.column, ..at }, Cow::Borrowed(text), true)
    }

    fn fault(&self, part: &str, error: &serde_json::Error) -> NodeError {
        let (line, column, what) = stopped(part.as_bytes(), error);
        let before = &self.text[..self.offset(part)];
        let lines = before.bytes().filter(|byte| *byte == b'\n').count() as u32;
        let column = match line {
            1 => before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + column,
            _ => column,
        };
        let at = Location { line: self.first_line + lines + line - 1, column: column.max(1), width: 1 };
        NodeError { at, hint: hint(&what), what: format!("not JSON: {what}") }
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
        Json::Bool(located) => Node::scalar(at, Cow::Borrowed(if *located { "true" } else { "false" }), true),
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
