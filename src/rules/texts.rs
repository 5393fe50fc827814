//! The text of rule files as they were read, for those who look at rules: kept compressed, in blocks of lines, so that a few
//! lines of a large file cost little. What is kept is bounded; a file that has no room is known by its name alone.

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    io::{self, BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::{Compression, bufread::DeflateDecoder, write::DeflateEncoder};
use sha2::{Digest as _, Sha256};

use super::{
    Domain, LoadedRules,
    source::{Source, Sources},
};

/// What all texts take at most, in bytes, compressed.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// What is compressed at most in one load, in bytes: more would take longer than a reload should.
const READ_BYTES_MAX: usize = 32 << 20;

/// Text of a block, in bytes; it goes on to the end of its line.
const BLOCK_BYTES: usize = 64 << 10;

/// What a line shows, in characters.
const LINE_CHARACTERS: usize = 2_000;

/// What an answer has of text, in bytes: it ends before the line that would take more, but for the first.
const ANSWER_BYTES_MAX: usize = 512 << 10;

/// The texts of a set of files.
#[derive(Clone, Default)]
pub struct RuleTexts(Vec<Arc<RuleText>>);

/// What is told of a load.
#[derive(Clone, Default)]
pub struct LoadedTexts {
    /// The files as they were read: problems stand on their lines.
    pub read: RuleTexts,
    /// The files that the rules in force are of: of domains with errors, those of their last good rules.
    pub in_force: RuleTexts,
}

/// The text of one file.
pub struct RuleText {
    path: PathBuf,
    digest: [u8; 32],
    lines: u32,
    blocks: Vec<TextBlock>,
}

struct TextBlock {
    /// The number of its first line, from 1.
    line: u32,
    deflated: Box<[u8]>,
}

impl LoadedTexts {
    /// Of what was loaded from `sources`, where `last` was in force. It takes as long as compressing what is new.
    pub fn new(sources: &Sources, last: &LoadedTexts, loaded: &LoadedRules) -> LoadedTexts {
        LoadedTexts { read: RuleTexts::of(sources, &last.read), ..LoadedTexts::default() }.put_in_force(last, loaded)
    }

    /// The same files, where domains keep what they had.
    pub fn put_in_force(self, last: &LoadedTexts, loaded: &LoadedRules) -> LoadedTexts {
        let is_kept = |domain: &&Arc<Domain>| loaded.kept_domains.iter().any(|kept| **kept == *domain.name());
        let kept: HashSet<&Path> = loaded
            .rules
            .domains()
            .iter()
            .filter(is_kept)
            .flat_map(|domain| domain.all_files())
            .map(PathBuf::as_path)
            .collect();
        LoadedTexts { in_force: self.read.with(&last.in_force, |path| kept.contains(path)), ..self }
    }
}

impl RuleTexts {
    /// Rule files first, then override rows. What is as in `last` isn't compressed again.
    pub fn of(sources: &Sources, last: &RuleTexts) -> RuleTexts {
        let (mut texts, mut kept, mut read) = (Vec::new(), 0, 0);
        for source in sources.all() {
            if source.bytes.len() > READ_BYTES_MAX {
                continue;
            }
            let digest = Sha256::digest(&source.bytes).into();
            let known = last.get(&source.path).filter(|text| text.digest == digest);
            let text = match known {
                Some(text) => Arc::clone(text),
                None => {
                    read += source.bytes.len();
                    if read > READ_BYTES_MAX || kept >= KEPT_BYTES_MAX {
                        continue;
                    }
                    Arc::new(RuleText::new(source, digest))
                }
            };
            if kept + text.bytes() <= KEPT_BYTES_MAX {
                kept += text.bytes();
                texts.push(text);
            }
        }
        RuleTexts(texts)
    }

    /// These, with a text of `other` in the place of each that `is_other` names.
    pub fn with(&self, other: &RuleTexts, is_other: impl Fn(&Path) -> bool) -> RuleTexts {
        let own = self.0.iter().filter(|text| !is_other(&text.path));
        RuleTexts(own.chain(other.0.iter().filter(|text| is_other(&text.path))).cloned().collect())
    }

    pub fn get(&self, path: &Path) -> Option<&Arc<RuleText>> {
        self.0.iter().find(|text| text.path == path)
    }

    /// Whether a file of this name has the same text here and there.
    pub fn has_same(&self, other: &RuleTexts, path: &Path) -> bool {
        self.get(path).map(|text| text.digest) == other.get(path).map(|text| text.digest)
    }
}

impl RuleText {
    fn new(source: &Source, digest: [u8; 32]) -> RuleText {
        let (mut blocks, mut line, mut rest) = (Vec::new(), 1, &*source.bytes);
        while !rest.is_empty() {
            let from = BLOCK_BYTES.min(rest.len());
            let end = rest[from..].iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| from + at + 1);
            let (block, later) = rest.split_at(end);
            blocks.push(TextBlock { line, deflated: deflate(block) });
            let breaks = block.iter().filter(|byte| **byte == b'\n').count();
            line = line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
            rest = later;
        }
        // What stands behind the last line break is a line if it is anything.
        let lines = if source.bytes.last().is_none_or(|last| *last == b'\n') { line - 1 } else { line };
        RuleText { path: source.path.clone(), digest, lines, blocks }
    }

    /// How many lines the file has.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// At most `count` lines from number `first`, from 1; fewer where they are long.
    pub fn read(&self, first: u32, count: u32) -> Vec<String> {
        let (first, mut bytes, mut lines) = (first.max(1), 0, Vec::new());
        let begin = self.blocks.partition_point(|block| block.line <= first).saturating_sub(1);
        for block in &self.blocks[begin.min(self.blocks.len())..] {
            let skipped = first.saturating_sub(block.line) as usize;
            for line in block.lines().skip(skipped) {
                bytes += line.len();
                if lines.len() >= count as usize || (bytes > ANSWER_BYTES_MAX && !lines.is_empty()) {
                    return lines;
                }
                lines.push(line);
            }
        }
        lines
    }

    fn bytes(&self) -> usize {
        size_of::<RuleText>()
            + self.blocks.iter().map(|block| size_of::<TextBlock>() + block.deflated.len()).sum::<usize>()
    }
}

impl TextBlock {
    fn lines(&self) -> impl Iterator<Item = String> {
        let text = BufReader::new(DeflateDecoder::new(&*self.deflated));
        text.split(b'\n').map_while(io::Result::ok).map(|line| shown(&line))
    }
}

fn deflate(text: &[u8]) -> Box<[u8]> {
    let mut out = DeflateEncoder::new(Vec::new(), Compression::fast());
    let written = out.write_all(text).and_then(|()| out.finish());
    written.expect("memory can be written to").into()
}

/// Without its line break, and cut where it is long. Bytes that are no text are shown as such.
fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // No character has more bytes than 4.
    let begin = &line[..line.len().min(4 * LINE_CHARACTERS + 4)];
    let text = String::from_utf8_lossy(begin);
    match text.char_indices().nth(LINE_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}
