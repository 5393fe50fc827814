//! The `:authority` of a block of headers (HPACK, RFC 7541), where the h2 library would refuse the stream for it: Envoy sends
//! its cluster's name there, clients over a Unix socket its path. Its illegal bytes are replaced by legal ones, and as
//! the length stays, so does every entry's size in both sides' tables: no state is needed.

use std::ops::Range;

use http::uri::Authority;

use super::huffman;

/// In the static table: the name `:authority`, and the first name that is of no pseudo-header.
const AUTHORITY: usize = 1;
const FIRST_FIELD: usize = 15;
/// The last entry of the static table.
const LAST_STATIC: usize = 61;

const NAME: &[u8] = b":authority";

/// The bits of a first byte that say what it begins.
const INDEXED: u8 = 0x80;
const ADDED: u8 = 0x40;
const RESIZE: u8 = 0x20;
const HUFFMAN: u8 = 0x80;

/// What a look at a block finds first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AuthorityCheck {
    /// Nothing to mend: fields begin, behind which no pseudo-header may come.
    Nothing,
    /// Nothing so far; the block ends, or goes on in another frame.
    End,
    /// An authority without a byte: nothing can stand in its place.
    Empty,
    /// An authority that would be refused: where its string stands, and a legal text of the same length.
    Illegal { string: Range<usize>, legal: Vec<u8> },
}

/// Looks at a block from `at` on, where a field must begin.
pub(super) fn check_authority(block: &[u8], mut at: usize) -> AuthorityCheck {
    while let Some(&first) = block.get(at) {
        if first & INDEXED != 0 {
            let Some((index, next)) = integer(block, at, 7) else { return AuthorityCheck::End };
            if (FIRST_FIELD..=LAST_STATIC).contains(&index) {
                return AuthorityCheck::Nothing;
            }
            at = next;
        } else if first & (ADDED | RESIZE) == RESIZE {
            let Some((_, next)) = integer(block, at, 5) else { return AuthorityCheck::End };
            at = next;
        } else {
            let prefix = if first & ADDED != 0 { 6 } else { 4 };
            match literal(block, at, prefix) {
                Ok(next) => at = next,
                Err(found) => return found,
            }
        }
    }
    AuthorityCheck::End
}

/// Where the field behind a literal begins; or what ends the look.
fn literal(block: &[u8], at: usize, prefix: u32) -> Result<usize, AuthorityCheck> {
    let (index, mut at) = integer(block, at, prefix).ok_or(AuthorityCheck::End)?;
    let mut is_authority = index == AUTHORITY;
    if index == 0 {
        let name = Text::at(block, at).ok_or(AuthorityCheck::End)?;
        is_authority = name.is(NAME);
        if !is_authority && !name.is_pseudo() {
            return Err(AuthorityCheck::Nothing);
        }
        at = name.end;
    } else if (FIRST_FIELD..=LAST_STATIC).contains(&index) {
        return Err(AuthorityCheck::Nothing);
    }
    let value = Text::at(block, at).ok_or(AuthorityCheck::End)?;
    if is_authority {
        // What can't be decoded is left to the library, which ends the connection for it.
        match value.decoded().as_deref() {
            Some([]) => return Err(AuthorityCheck::Empty),
            Some(text) if !is_legal(text) => {
                return Err(AuthorityCheck::Illegal { string: at..value.end, legal: text.iter().map(legal).collect() });
            }
            _ => {}
        }
    }
    Ok(value.end)
}

/// A string as a block has it.
struct Text<'b> {
    bytes: &'b [u8],
    is_coded: bool,
    end: usize,
}

impl<'b> Text<'b> {
    fn at(block: &'b [u8], at: usize) -> Option<Text<'b>> {
        let is_coded = block.get(at)? & HUFFMAN != 0;
        let (length, from) = integer(block, at, 7)?;
        let end = from.checked_add(length)?;
        Some(Text { bytes: block.get(from..end)?, is_coded, end })
    }

    fn decoded(&self) -> Option<std::borrow::Cow<'b, [u8]>> {
        match self.is_coded {
            true => huffman::decode(self.bytes).map(Into::into),
            false => Some(self.bytes.into()),
        }
    }

    fn is(&self, name: &[u8]) -> bool {
        match self.is_coded {
            // A coded name is read only if it can be it.
            true => self.is_pseudo() && huffman::decode(self.bytes).as_deref() == Some(name),
            false => self.bytes == name,
        }
    }

    /// Whether a colon comes first.
    fn is_pseudo(&self) -> bool {
        /// The colon's code, in the first seven bits.
        const COLON: u8 = 0x5c;
        self.bytes.first().is_some_and(|&first| if self.is_coded { first >> 1 == COLON } else { first == b':' })
    }
}

/// An integer whose first byte has so many bits of it, and where what follows it begins. Those of more than five bytes
/// the library refuses.
fn integer(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let mask = (1 << prefix) - 1;
    let first = usize::from(*block.get(at)?) & mask;
    if first < mask {
        return Some((first, at + 1));
    }
    let mut value = first;
    for (nth, byte) in block[at + 1..].iter().take(4).enumerate() {
        value += usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return Some((value, at + 2 + nth));
        }
    }
    None
}

/// Whether the library takes it: hosts, and whatever else the library's own check lets pass.
fn is_legal(text: &[u8]) -> bool {
    text.iter().all(|byte| is_of_a_host(*byte)) || Authority::try_from(text).is_ok()
}

fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn legal(byte: &u8) -> u8 {
    if is_of_a_host(*byte) { *byte } else { b'-' }
}

/// Appends a string that is not coded.
pub(super) fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    const MASK: usize = 0x7f;
    if text.len() < MASK {
        out.push(text.len() as u8);
    } else {
        out.push(MASK as u8);
        let mut left = text.len() - MASK;
        while left >= 0x80 {
            out.push((left & MASK) as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
    }
    out.extend_from_slice(text);
}
