//! Characters that can't be seen or look like others, and what they are called. Knows nothing of where they stand.

use crate::visible;

/// A character that is likely not meant.
pub(super) struct OddCharacter {
    pub(super) character: char,
    /// How many of its kind stand before it.
    pub(super) before: usize,
    pub(super) looks_like: LooksLike,
}

#[derive(Clone, Copy)]
pub(super) enum LooksLike {
    Nothing,
    /// It is a blank, but no space.
    Space,
    /// A quotation mark, which YAML takes for a part of the text.
    Quote(char),
    Other(char),
    /// A space at the beginning or at the end.
    Edge(&'static str),
}

impl LooksLike {
    /// What is wrong, to be followed by the character; and the way out.
    pub(super) fn words(self, character: char, text: &str) -> (String, String) {
        let has = |what: &str| format!("has {what}");
        match self {
            LooksLike::Nothing => (has("a character that can't be seen:"), "take it out".to_owned()),
            LooksLike::Space => (has("a blank that is no space:"), "write a space, or take it out".to_owned()),
            LooksLike::Quote(_) if text.starts_with(character) || text.ends_with(character) => {
                (has("a quotation mark that is a part of it:"), "YAML's quotes are `\"` and `'`".to_owned())
            }
            LooksLike::Quote(like) | LooksLike::Other(like) => {
                (has(&format!("a character that looks like `{like}`:")), format!("if `{like}` is meant, write that"))
            }
            LooksLike::Edge(edge) => {
                (format!("{edge} with a blank:"), "take it out, unless requests have it too".to_owned())
            }
        }
    }
}

/// The odd characters of a text, in their order.
pub(super) fn odd(text: &str) -> impl Iterator<Item = OddCharacter> {
    let is_latin = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    let (begins, ends) = (text.starts_with(' '), text.ends_with(' ') && text.len() > 1);
    text.char_indices().filter_map(move |(at, character)| {
        let looks_like = match character {
            ' ' if at == 0 && begins => LooksLike::Edge("begins"),
            ' ' if at + 1 == text.len() && ends => LooksLike::Edge("ends"),
            '!'..='~' | ' ' => return None,
            character => looks_like(character, is_latin)?,
        };
        let before = text[..at].chars().filter(|other| *other == character).count();
        Some(OddCharacter { character, before, looks_like })
    })
}

fn looks_like(character: char, is_latin: bool) -> Option<LooksLike> {
    Some(match character {
        '\u{fe00}'..='\u{fe0f}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' => {
            LooksLike::Nothing
        }
        character if visible::is_unseen(character) => LooksLike::Nothing,
        character if character.is_whitespace() => LooksLike::Space,
        '\u{2018}'..='\u{201b}' | '\u{2032}' | '\u{2b9}' | '\u{2bc}' | '\u{b4}' | '\u{2039}' | '\u{203a}' => {
            LooksLike::Quote('\'')
        }
        '\u{201c}'..='\u{201f}' | '\u{2033}' | '\u{ab}' | '\u{bb}' => LooksLike::Quote('"'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => LooksLike::Other('-'),
        '\u{2044}' | '\u{2215}' => LooksLike::Other('/'),
        '\u{2217}' => LooksLike::Other('*'),
        '\u{2236}' | '\u{a789}' => LooksLike::Other(':'),
        '\u{2024}' => LooksLike::Other('.'),
        // Those of full width are ASCII, so many further on.
        '\u{ff01}'..='\u{ff5e}' => LooksLike::Other(char::from_u32(u32::from(character) - 0xfee0)?),
        character if is_latin => LooksLike::Other(latin(character)?),
        _ => return None,
    })
}

/// The Latin letter that a Cyrillic or a Greek one looks like.
fn latin(character: char) -> Option<char> {
    const CYRILLIC: &str = "аaеeоoрpсcуyхxіiјjѕsһhԁdԛqԝwАAВBЕEКKМMНHОOРPСCТTУYХXІIЈJЅS";
    const GREEK: &str = "οoαaνvρpΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧX";
    let mut letters = CYRILLIC.chars().chain(GREEK.chars());
    while let (Some(letter), Some(latin)) = (letters.next(), letters.next()) {
        if letter == character {
            return Some(latin);
        }
    }
    None
}

/// `U+200B (zero-width space)`.
pub(super) fn called(character: char) -> String {
    let point = format!("U+{:04X}", u32::from(character));
    match name(character) {
        Some(name) => format!("{point} ({name})"),
        None if visible::is_unseen(character) || character.is_whitespace() => point,
        None => format!("{point} ({character})"),
    }
}

/// Names of those that come out of editors, web pages and chats.
fn name(character: char) -> Option<&'static str> {
    Some(match character {
        ' ' => "space",
        '\t' => "tab",
        '\n' => "line feed",
        '\r' => "carriage return",
        '\u{0}' => "null",
        '\u{1b}' => "escape",
        '\u{7f}' => "delete",
        '\u{a0}' => "no-break space",
        '\u{ad}' => "soft hyphen",
        '\u{2007}' => "figure space",
        '\u{2009}' => "thin space",
        '\u{200a}' => "hair space",
        '\u{200b}' => "zero-width space",
        '\u{200c}' => "zero-width non-joiner",
        '\u{200d}' => "zero-width joiner",
        '\u{200e}' => "left-to-right mark",
        '\u{200f}' => "right-to-left mark",
        '\u{2028}' => "line separator",
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => "bidirectional control",
        '\u{202f}' => "narrow no-break space",
        '\u{2060}' => "word joiner",
        '\u{3000}' => "ideographic space",
        '\u{feff}' => "byte order mark",
        '\u{2018}' => "left single quotation mark",
        '\u{2019}' => "right single quotation mark",
        '\u{201a}' => "low single quotation mark",
        '\u{201c}' => "left double quotation mark",
        '\u{201d}' => "right double quotation mark",
        '\u{201e}' => "low double quotation mark",
        '\u{2010}' => "hyphen",
        '\u{2011}' => "no-break hyphen",
        '\u{2013}' => "en dash",
        '\u{2014}' => "em dash",
        '\u{2212}' => "minus sign",
        'а'..='я' | 'А'..='Я' | 'ѐ'..='ԯ' | 'Ѐ'..='Џ' => "a Cyrillic letter",
        'Α'..='ω' => "a Greek letter",
        '\u{ff01}'..='\u{ff5e}' => "of full width",
        _ => return None,
    })
}
