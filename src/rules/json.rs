//! JSON text to the same tree of nodes. JSON is nearly YAML, but its strings may hold characters that YAML refuses (DEL, C1
//! controls, a byte order mark), halves of characters as escapes, and keys of any length.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::yaml::{self, Document, Node, Place};

#[cfg(test)]
mod tests;

/// What is nested deeper is left to YAML, which says so.
const DEPTH_MAX: u8 = 64;

/// Reads a text that begins at some line of a file. What is no JSON is read as YAML, which allows more and says what is
/// wrong with the rest.
pub(super) fn parse_from(text: &str, line: u32) -> Document<'_> {
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    let root = Reader { rest: text, line, column: 1 }.node(0).filter(|_| is_json);
    match root {
        Some(root) => Document { root: Some(root), ..Document::default() },
        None => yaml::parse_from(text, line),
    }
}

/// Of a text that is JSON: what it finds is where it should be.
struct Reader<'t> {
    rest: &'t str,
    line: u32,
    column: u32,
}

impl<'t> Reader<'t> {
    fn node(&mut self, depth: u8) -> Option<Node<'t>> {
        self.skip_blanks();
        let at = Place { line: self.line, column: self.column, width: 1 };
        match self.rest.bytes().next().filter(|_| depth < DEPTH_MAX)? {
            b'{' => {
                let mut entries = Vec::new();
                while self.goes_on(b'}')? {
                    let key = self.node(depth + 1)?;
                    self.skip_blanks();
                    self.take(1);
                    entries.push((key, self.node(depth + 1)?));
                }
                Some(Node::map(at, entries))
            }
            b'[' => {
                let mut items = Vec::new();
                while self.goes_on(b']')? {
                    items.push(self.node(depth + 1)?);
                }
                Some(Node::list(at, items))
            }
            b'"' => {
                let text = self.take(string_length(self.rest)?);
                let width = self.column - at.column;
                let inner = text.get(1..text.len() - 1)?;
                let is_plain = !inner.contains('\\');
                let text = if is_plain { Cow::Borrowed(inner) } else { Cow::Owned(serde_json::from_str(text).ok()?) };
                Some(Node::scalar(Place { width, ..at }, text, false))
            }
            _ => {
                let ends = |character: char| character.is_ascii_whitespace() || ",]}".contains(character);
                let text = self.take(self.rest.find(ends).unwrap_or(self.rest.len()));
                Some(Node::scalar(Place { width: self.column - at.column, ..at }, Cow::Borrowed(text), true))
            }
        }
    }

    /// Takes the bracket or the comma that stands here; whether an item follows.
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        self.skip_blanks();
        let here = self.rest.bytes().next()?;
        if here != end {
            self.take(1);
            self.skip_blanks();
        }
        let is_end = self.rest.bytes().next()? == end;
        if is_end {
            self.take(1);
        }
        Some(!is_end)
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest.bytes().take_while(u8::is_ascii_whitespace).count();
        self.take(blanks);
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        for character in taken.chars() {
            if character == '\n' {
                (self.line, self.column) = (self.line + 1, 1);
            } else {
                self.column += 1;
            }
        }
        self.rest = rest;
        taken
    }
}

/// The bytes of the string that a text begins with, quotes included.
fn string_length(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    None
}
