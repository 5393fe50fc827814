//! Text that isn't what it looks like: characters that can't be seen or look like others, blanks at an end, and patterns
//! where every character stands for itself. All of it loads, and never matches what is meant.

mod characters;
mod regular_expression;
#[cfg(test)]
mod tests;

use super::{node::Location, pen::NodeReader, warning::Warning};
use characters::OddCharacter;

/// Odd characters that are told of in one text.
const ODD_MAX: usize = 8;

/// What a text is: what messages call it, and what stars mean in it.
#[derive(Clone, Copy)]
pub(crate) enum TextOf {
    Domain,
    DescriptorKey,
    /// Stars match any run of characters.
    DescriptorValue,
    OverrideKey,
    /// Stars are looked at where overrides are read.
    OverrideValue,
    LimitName,
    ReplacedName,
    TierName,
    ShortcutKey,
}

impl TextOf {
    const fn name(self) -> &'static str {
        match self {
            TextOf::Domain => "domain",
            TextOf::DescriptorKey | TextOf::OverrideKey | TextOf::ShortcutKey => "key",
            TextOf::DescriptorValue | TextOf::OverrideValue => "value",
            TextOf::LimitName | TextOf::ReplacedName => "name",
            TextOf::TierName => "tier",
        }
    }

    /// Whether a star stands for itself. In a descriptor's key it is an error.
    const fn takes_stars_literally(self) -> bool {
        !matches!(self, TextOf::DescriptorKey | TextOf::DescriptorValue | TextOf::OverrideKey | TextOf::OverrideValue)
    }
}

impl NodeReader<'_> {
    /// Warns of what in a text isn't what it looks like.
    pub(crate) fn check_spelling(&mut self, text: &str, what: TextOf, at: impl FnOnce() -> Location) {
        // There may be millions of texts, and nearly all are plain.
        if text.bytes().all(is_plain) {
            return;
        }
        let at = at();
        self.check_characters(text, at, what);
        self.check_patterns(text, at, what);
    }

    fn check_characters(&mut self, text: &str, at: Location, what: TextOf) {
        let name = what.name();
        for OddCharacter { character, before, looks_like } in characters::odd(text).take(ODD_MAX) {
            let called = characters::called(character);
            let (how, hint) = looks_like.words(character, text);
            let problem = self.warn(at, Warning::OddCharacter, format!("this {name} {how} {called}"));
            problem.at_character(character, before).hint(hint);
        }
    }

    fn check_patterns(&mut self, text: &str, at: Location, what: TextOf) {
        let name = what.name();
        if regular_expression::is_likely(text) {
            let (said, hint) = match what {
                TextOf::DescriptorValue if text.contains('*') => (
                    format!("in this {name} only `*` has a meaning: `{text}` isn't read as a regular expression"),
                    "a `*` matches any run of characters",
                ),
                TextOf::DescriptorValue => (
                    format!("this {name} is taken literally: `{text}` isn't read as a regular expression"),
                    "a `*` matches any run of characters",
                ),
                _ => (
                    format!("this {name} is taken literally: `{text}` isn't read as a regular expression"),
                    "write it out: patterns stand in a descriptor's `value`, with `*`",
                ),
            };
            let meant = regular_expression::as_wildcards(text).filter(|_| matches!(what, TextOf::DescriptorValue));
            let hint = meant.map_or(hint.to_owned(), |meant| format!("{hint}: write `{meant}`"));
            self.warn(at, Warning::LiteralPattern, said).hint(hint);
        } else if what.takes_stars_literally() && text.contains('*') {
            self.warn(
                at,
                Warning::LiteralPattern,
                format!("`*` stands for itself in this {name}: `{text}` is no pattern"),
            )
            .hint("write it out: patterns stand in a descriptor's `value`");
        }
    }
}

/// Whether a character never is a reason for a closer look.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':' | b'@' | b',' | b'=' | b'#' | b'%' | b'&' | b'?' | b'~')
}
