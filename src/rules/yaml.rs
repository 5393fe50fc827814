//! Reads YAML to a tree of nodes with their locations. It reads the first document only, as envoyproxy/ratelimit does,
//! expands aliases and merge keys, and bounds depth and size. It knows nothing of rules.

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::node::{DEPTH_MAX, Document, Location, Node, NodeError, NodeValue, Size};

/// Nodes that aliases may unfold to, besides two per byte of text: a text without aliases has less than one per byte.
const ALIAS_ROOM: u64 = 250_000;

/// Bytes of text that aliases may unfold to, besides two per byte of text: one alias of a long text is one node.
pub(super) const ALIAS_BYTES: u64 = 8 << 20;

/// YAML's aliases begin as patterns do.
const QUOTE_STAR: &str = "text that begins with `*` or `&` must be in quotes: `\"*\"`";

const UNFOLDED: &str = "its aliases unfold to more than this file may hold";

/// Reads the first document of a text.
pub(super) fn parse(text: &str) -> Document<'_> {
    let options = granit_parser::options! {
        emit_unresolved_aliases: true,
        flow_nesting_limit: usize::from(DEPTH_MAX),
        block_nesting_limit: usize::from(DEPTH_MAX),
    };
    let mut builder = TreeBuilder {
        parser: Parser::new_from_str_with_options(text, options),
        open: Vec::new(),
        anchors: HashMap::new(),
        document: Document::default(),
        budget: Size { nodes: ALIAS_ROOM + 2 * text.len() as u64, bytes: ALIAS_BYTES + 2 * text.len() as u64 },
        bytes_aliased: 0,
    };
    if let Err(fault) = builder.first_document() {
        builder.document.faults.push(fault);
        builder.document.root = builder.salvage();
    }
    builder.document
}

/// A collection whose end hasn't come.
struct OpenCollection<'t> {
    at: Location,
    anchor: usize,
    items: Vec<Node<'t>>,
    is_map: bool,
}

struct TreeBuilder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    open: Vec<OpenCollection<'t>>,
    anchors: HashMap<usize, Node<'t>>,
    document: Document<'t>,
    budget: Size,
    /// Of text, that aliases unfolded to so far.
    bytes_aliased: u64,
}

impl<'t> TreeBuilder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), NodeError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(yaml_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn first_document(&mut self) -> Result<(), NodeError> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentEnd | Event::StreamEnd => break,
                event => self.take(event, span)?,
            }
        }
        // What comes after isn't read, so that its errors are none either.
        if let Some(Ok((Event::DocumentStart(..), span))) = self.parser.peek() {
            self.document.second = Some(location(*span));
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), NodeError> {
        let at = location(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                self.put(Node::scalar(at, text, style == ScalarStyle::Plain && !is_text), anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(at, anchor, false),
            Event::MappingStart(_, anchor, _) => self.begin(at, anchor, true),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(node) => {
                    // Before it is copied: a text with an escape is a copy each time.
                    self.bytes_aliased = self.bytes_aliased.saturating_add(node.size.bytes);
                    if self.bytes_aliased > self.budget.bytes {
                        return Err(NodeError::new(at, UNFOLDED));
                    }
                    let node = node.clone();
                    self.put(node, 0)
                }
                None => Err(NodeError::new(at, "this alias stands inside what it stands for")),
            },
            Event::UnresolvedAlias(name) => {
                let what = format!("alias `*{name}` has no anchor `&{name}` before it");
                self.document.faults.push(NodeError { hint: Some(QUOTE_STAR), ..NodeError::new(at, what) });
                self.put(Node::scalar(at, Cow::Borrowed("~"), true), 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, at: Location, anchor: usize, is_map: bool) -> Result<(), NodeError> {
        self.open.push(OpenCollection { at, anchor, items: Vec::new(), is_map });
        Ok(())
    }

    fn end(&mut self) -> Result<(), NodeError> {
        let Some(OpenCollection { at, anchor, items, is_map }) = self.open.pop() else { return Ok(()) };
        let node = if is_map { Node::map(at, self.merge(pairs(items))) } else { Node::list(at, items) };
        self.put(node, anchor)
    }

    fn put(&mut self, node: Node<'t>, anchor: usize) -> Result<(), NodeError> {
        if node.depth > DEPTH_MAX {
            return Err(NodeError::new(node.at, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        if node.size.nodes > self.budget.nodes || node.size.bytes > self.budget.bytes {
            return Err(NodeError::new(node.at, UNFOLDED));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.document.root = Some(node),
        }
        Ok(())
    }

    /// Puts in place of `<<: *a` what `a` holds; keys that stand there themselves win.
    fn merge(&mut self, entries: Vec<(Node<'t>, Node<'t>)>) -> Vec<(Node<'t>, Node<'t>)> {
        if !entries.iter().any(|(key, _)| key.is_merge_key()) {
            return entries;
        }
        let (merges, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.is_merge_key());
        for (key, value) in merges {
            let sources = match &value.value {
                NodeValue::List(items) => items.as_slice(),
                _ => std::slice::from_ref(&value),
            };
            for source in sources {
                let NodeValue::Map(inherited) = &source.value else {
                    self.document.faults.push(NodeError::new(key.at, "`<<` takes a map, or a list of maps"));
                    continue;
                };
                for (key, value) in inherited.iter() {
                    if !entries.iter().any(|(own, _)| same_text(own, key)) {
                        entries.push((key.clone(), value.clone()));
                    }
                }
            }
        }
        entries
    }

    /// Of a broken document, what its outermost map says so far: enough to know whose rules it was to hold.
    fn salvage(&mut self) -> Option<Node<'t>> {
        let outermost = self.open.drain(..).next()?;
        outermost.is_map.then(|| Node::map(outermost.at, pairs(outermost.items)))
    }
}

fn pairs(items: Vec<Node<'_>>) -> Vec<(Node<'_>, Node<'_>)> {
    let mut pairs = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn same_text(one: &Node<'_>, other: &Node<'_>) -> bool {
    match (&one.value, &other.value) {
        (NodeValue::Scalar { text: one, .. }, NodeValue::Scalar { text: other, .. }) => one == other,
        _ => false,
    }
}

fn location(span: Span) -> Location {
    let width = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Location { line: span.start.line() as u32, column: span.start.col() as u32 + 1, width: width.max(1) as u32 }
}

fn yaml_error(error: &ScanError) -> NodeError {
    let mark = error.marker();
    let at = Location { line: mark.line() as u32, column: mark.col() as u32 + 1, width: 1 };
    let hint = match error.kind() {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            Some("indent with spaces")
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidMappingValueWhitespace => {
            Some("text with `: ` in it must be in quotes; else look at the indentation")
        }
        ErrorKind::MissingAnchorOrAliasName => Some(QUOTE_STAR),
        _ => None,
    };
    NodeError { at, what: format!("not YAML: {}", error.info()), hint }
}
