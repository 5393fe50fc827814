//! Where a case file says what is expected, so that another answer can be written there.

use super::super::node::{Location, Node, NodeValue};

/// A scalar that says what is expected of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenExpectation {
    /// `answer`, `remaining`, `descriptor 2: limit`: as differences are called.
    pub what: String,
    /// Line and column of the value, from 1.
    pub line: u32,
    pub column: u32,
    /// Characters of the value, if it has no quotes.
    pub width: u32,
    /// Column of the key before it, if that is on the same line; `None` for `expect: ok`.
    pub key_column: Option<u32>,
}

/// The scalars of an `expect`, for a request with so many descriptors.
pub(super) fn expectations(node: &Node<'_>, descriptors: usize) -> Vec<WrittenExpectation> {
    let mut found = Vec::new();
    let prefix = |index: usize| if descriptors > 1 { format!("descriptor {}: ", index + 1) } else { String::new() };
    collect(node, "", &mut found);
    let NodeValue::Map(entries) = &node.value else { return found };
    for (key, value) in entries.iter() {
        let is_list = matches!(&key.value, NodeValue::Scalar { text, .. } if text == "descriptors");
        if let (true, NodeValue::List(items)) = (is_list, &value.value) {
            items.iter().enumerate().for_each(|(index, item)| collect(item, &prefix(index), &mut found));
        }
    }
    found
}

/// An answer alone, or the scalars of a map.
fn collect(node: &Node<'_>, prefix: &str, found: &mut Vec<WrittenExpectation>) {
    let mut add = |what: &str, at: Location, text: &str, key: Option<Location>| {
        let key_column = key.filter(|key| key.line == at.line).map(|key| key.column);
        let (what, width) = (format!("{prefix}{what}"), text.chars().count() as u32);
        found.push(WrittenExpectation { what, line: at.line, column: at.column, width, key_column });
    };
    match &node.value {
        NodeValue::Scalar { text, .. } => add("answer", node.at, text, None),
        NodeValue::Map(entries) => {
            for (key, value) in entries.iter() {
                if let (NodeValue::Scalar { text: name, .. }, NodeValue::Scalar { text, .. }) =
                    (&key.value, &value.value)
                {
                    add(name, value.at, text, Some(key.at));
                }
            }
        }
        NodeValue::List(_) => {}
    }
}
