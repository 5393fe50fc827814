//! The pen of whoever reads a file: writes down what is wrong with it, and what keeps it from being text or a tree at all.
//! What is read with it lies where it belongs: maps in `fields`, limits in `form`, tiers in `tiers`, descriptors in
//! `compile`, overrides in `rows`.

use std::path::Path;

use super::{
    node::{Document, Location, Node, NodeError},
    problem::{Problem, ProblemCollector},
    warning::Warning,
};

/// Reads values from the nodes of one file and reports its problems. Each module of `rules` adds the checks of its own
/// fields to it.
pub(super) struct NodeReader<'r> {
    pub(super) report: &'r mut ProblemCollector,
    pub(super) path: &'r Path,
}

impl NodeReader<'_> {
    pub(super) fn error(&mut self, at: Location, what: impl Into<String>) -> &mut Problem {
        self.report.error(self.path, at, what)
    }

    pub(super) fn warn(&mut self, at: Location, warning: Warning, what: impl Into<String>) -> &mut Problem {
        self.report.warn(self.path, at, warning, what)
    }

    /// What a message calls another place of this file.
    pub(super) fn beside(&self, at: Location) -> String {
        self.report.beside(self.path, at)
    }

    pub(super) fn utf8<'s>(&mut self, bytes: &'s [u8]) -> Option<&'s str> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let line = good.bytes().filter(|byte| *byte == b'\n').count() + 1;
                let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                let at = Location { line: line as u32, column: column as u32, width: 1 };
                self.error(at, "this isn't UTF-8 text").hint("rule files are YAML in UTF-8");
                None
            }
        }
    }

    pub(super) fn faults(&mut self, faults: Vec<NodeError>) {
        for fault in faults {
            let problem = self.error(fault.at, fault.what);
            if let Some(hint) = fault.hint {
                problem.hint(hint);
            }
        }
    }

    /// What a document holds, if it is YAML at all.
    pub(super) fn document<'s>(&mut self, document: Document<'s>) -> Option<Node<'s>> {
        if let Some(at) = document.second.filter(|_| document.faults.is_empty()) {
            self.warn(at, Warning::SecondDocument, "a second document begins here, and is ignored")
                .hint("put it in a file of its own");
        }
        let is_sound = document.faults.is_empty();
        self.faults(document.faults);
        document.root.filter(|_| is_sound)
    }
}
