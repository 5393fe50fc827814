//! The tree that rule files are read into, whatever they are written in: scalars, lists and maps that know their place.
//! Knows no syntax and no rules.

use std::{borrow::Cow, fmt::Write as _, rc::Rc};

/// Collections within collections. Descriptors take two levels each, so this is more than their own bound needs.
pub(super) const DEPTH_MAX: u16 = 128;

/// Where a node stands; both count from 1. The width is that of its text on its first line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) width: u32,
}

/// Cheap to clone: aliases share what their anchor holds.
#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    pub(super) at: Location,
    pub(super) value: NodeValue<'t>,
    pub(super) size: Size,
    pub(super) depth: u16,
}

/// What a node comes to with aliases unfolded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Itself included.
    pub(super) nodes: u64,
    /// Of text.
    pub(super) bytes: u64,
}

impl Size {
    /// Of a collection.
    fn of<'n, 't: 'n>(within: impl Iterator<Item = &'n Node<'t>>) -> Size {
        within.fold(Size { nodes: 1, bytes: 0 }, |sum, node| Size {
            nodes: sum.nodes.saturating_add(node.size.nodes),
            bytes: sum.bytes.saturating_add(node.size.bytes),
        })
    }
}

#[derive(Clone, Debug)]
pub(super) enum NodeValue<'t> {
    /// `plain`: without quotes, so that it may mean a number, a boolean or null.
    Scalar {
        text: Cow<'t, str>,
        plain: bool,
    },
    List(Rc<Vec<Node<'t>>>),
    Map(Rc<Vec<(Node<'t>, Node<'t>)>>),
}

/// Something that is wrong with the text as YAML or as JSON.
#[derive(Debug)]
pub(super) struct NodeError {
    pub(super) at: Location,
    pub(super) what: String,
    pub(super) hint: Option<&'static str>,
}

impl NodeError {
    pub(super) fn new(at: Location, what: impl Into<String>) -> NodeError {
        NodeError { at, what: what.into(), hint: None }
    }
}

#[derive(Debug, Default)]
pub(super) struct Document<'t> {
    /// The first document; of a broken one, the entries of its outermost map that were complete.
    pub(super) root: Option<Node<'t>>,
    /// `root` can't be trusted.
    pub(super) faults: Vec<NodeError>,
    /// Where a further document begins, which nobody reads.
    pub(super) second: Option<Location>,
}

impl<'t> Node<'t> {
    pub(super) fn scalar(at: Location, text: Cow<'t, str>, plain: bool) -> Node<'t> {
        let size = Size { nodes: 1, bytes: text.len() as u64 };
        Node { at, value: NodeValue::Scalar { text, plain }, size, depth: 0 }
    }

    pub(super) fn list(at: Location, items: Vec<Node<'t>>) -> Node<'t> {
        let size = Size::of(items.iter());
        let depth = 1 + items.iter().map(|item| item.depth).max().unwrap_or(0);
        Node { at, value: NodeValue::List(Rc::new(items)), size, depth }
    }

    pub(super) fn map(at: Location, entries: Vec<(Node<'t>, Node<'t>)>) -> Node<'t> {
        let size = Size::of(entries.iter().flat_map(|(key, value)| [key, value]));
        let depth = 1 + entries.iter().map(|(key, value)| key.depth.max(value.depth)).max().unwrap_or(0);
        Node { at, value: NodeValue::Map(Rc::new(entries)), size, depth }
    }

    /// Bytes of text within, with aliases unfolded.
    pub(super) fn bytes(&self) -> u64 {
        self.size.bytes
    }

    pub(super) fn is_null(&self) -> bool {
        match &self.value {
            NodeValue::Scalar { text, plain: true } => matches!(&**text, "" | "~" | "null" | "Null" | "NULL"),
            _ => false,
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            NodeValue::Scalar { .. } if self.is_null() => "nothing",
            NodeValue::Scalar { .. } => "a value",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a map",
        }
    }

    pub(super) fn is_merge_key(&self) -> bool {
        matches!(&self.value, NodeValue::Scalar { text, plain: true } if text == "<<")
    }
}

/// What the places of a tree mean that was no text: the path of a field each, such as `descriptors[1].key`. A place's line
/// is a position here, from 1.
#[derive(Default)]
pub(super) struct FieldPaths {
    fields: Vec<Field>,
}

struct Field {
    /// The place that it is in; 0 for none.
    within: u32,
    step: Step,
}

/// From a place to one that is in it.
pub(super) enum Step {
    Root,
    Key(Box<str>),
    Item(usize),
}

impl FieldPaths {
    /// A place that is in another; the first is the root, and in none.
    pub(super) fn add(&mut self, within: Location, step: Step) -> Location {
        self.fields.push(Field { within: within.line, step });
        Location { line: self.fields.len() as u32, column: 1, width: 1 }
    }

    /// Empty for the root.
    pub(super) fn of(&self, at: Location) -> String {
        let field = |line: u32| self.fields.get((line as usize).checked_sub(1)?);
        let mut way: Vec<&Step> =
            std::iter::successors(field(at.line), |of| field(of.within)).map(|field| &field.step).collect();
        way.reverse();
        let mut path = String::new();
        for step in way {
            match step {
                Step::Root => {}
                Step::Key(key) => path.extend([if path.is_empty() { "" } else { "." }, key]),
                Step::Item(index) => {
                    let _ = write!(path, "[{index}]");
                }
            }
        }
        path
    }
}
