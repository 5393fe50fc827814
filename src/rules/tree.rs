//! The tree that descriptors are matched against: hashed by key, then by value. Matching never allocates.

/// What a value with `*` in it matches: each star any run of characters, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
}

impl Pattern {
    /// As the rule writes it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[derive(Default)]
pub(super) struct Tree {}
