//! The frames that a client sends, on their way to the h2 library. All pass as they are, but for a block of headers whose
//! `:authority` the library would refuse. A frame is held back only while its headers are not all there; others are
//! skipped by their length.

use std::collections::VecDeque;

use super::{
    head::{CONTINUATION, END_HEADERS, FRAME_BYTES_MAX, FrameHeader, HEAD, HEADERS, PADDED, PRIORITY},
    hpack::{self, AuthorityCheck},
};
use crate::{metrics::Refusal, serve::listen::preface::PREFACE_BYTES};

/// A block that has told nothing by then passes as it is: its pseudo-headers come first, and are short.
const HELD_BYTES_MAX: usize = 32 << 10;
const HELD_FRAMES_MAX: usize = 4;

/// A block of so many bytes is what a refusal of its stream is put down to.
const LARGE_BLOCK: usize = 64 << 10;

/// Streams that are known to be refused, and whose resets aren't out yet.
const NOTED_MAX: usize = 64;

pub(super) struct Incoming {
    /// What is left of a frame that passes unseen.
    skip: usize,
    /// A frame that isn't all there, from its first byte on, and whatever came behind it.
    held: Vec<u8>,
    /// How many bytes there must be before it is worth another look.
    wanted: usize,
    /// What may pass, beside what passed in the reader's own buffer; as much of it has.
    ready: Vec<u8>,
    given: usize,
    /// Of the block that frames go on with.
    block_bytes: usize,
    noted: VecDeque<(u32, Refusal)>,
}

/// What becomes of the headers at the beginning of some bytes.
enum Block {
    /// They are not all there: so many bytes are wanted.
    Incomplete(usize),
    /// So many bytes pass as they are.
    Fine(usize),
    /// So many bytes are replaced.
    Mended(usize, Vec<u8>),
}

impl Default for Incoming {
    fn default() -> Incoming {
        Incoming {
            skip: PREFACE_BYTES,
            held: Vec::new(),
            wanted: 0,
            ready: Vec::new(),
            given: 0,
            block_bytes: 0,
            noted: VecDeque::new(),
        }
    }
}

impl Incoming {
    /// What may pass and hasn't.
    pub(super) fn ready(&self) -> &[u8] {
        &self.ready[self.given..]
    }

    /// So much of it has passed.
    pub(super) fn gave(&mut self, bytes: usize) {
        self.given += bytes;
        if self.given == self.ready.len() {
            // Seldom needed, and so not kept.
            (self.ready, self.given) = (Vec::new(), 0);
        }
    }

    /// What stands before whatever comes next.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Lets go what is held: the end came before the rest.
    pub(super) fn end(&mut self) {
        self.ready.append(&mut self.held);
    }

    /// Takes bytes, what was held before among them; how many of them pass at once. The others are held, or became ready.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let passed = self.scan(bytes);
        self.held.clear();
        if passed < bytes.len() {
            self.held.extend_from_slice(&bytes[passed..]);
            self.advance();
        }
        passed
    }

    /// Takes bytes behind those that are held. Of what is held only the beginning of a head may have been there, so that
    /// any frame may begin there, not only one of headers.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= self.wanted {
            let held = std::mem::take(&mut self.held);
            let passed = self.scan(&held);
            self.ready.extend_from_slice(&held[..passed]);
            self.held.extend_from_slice(&held[passed..]);
            self.advance();
        }
    }

    /// Why a stream is refused, if its headers have told.
    pub(super) fn why(&self, stream: u32) -> Option<Refusal> {
        self.noted.iter().find(|(noted, _)| *noted == stream).map(|(_, why)| *why)
    }

    /// How many bytes pass as they are, up to headers that have to be mended or are not all there.
    fn scan(&mut self, bytes: &[u8]) -> usize {
        let mut at = self.skip.min(bytes.len());
        self.skip -= at;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Some(head) = FrameHeader::read(rest) else { return at };
            let end = HEAD + head.length;
            if head.kind != HEADERS || head.length > FRAME_BYTES_MAX {
                self.note_size(&head);
                self.skip = end.saturating_sub(rest.len());
                at += end.min(rest.len());
                continue;
            }
            self.block_bytes = head.length;
            match rest.get(HEAD..end).map(|payload| self.one_frame(&head, payload)) {
                Some(true) => at += end,
                Some(false) | None => return at,
            }
        }
        at
    }

    /// Whether a frame of headers passes as it is, by itself.
    fn one_frame(&mut self, head: &FrameHeader, payload: &[u8]) -> bool {
        let Some(block) = head.block(payload) else { return true };
        match hpack::check_authority(block, 0) {
            AuthorityCheck::Nothing => true,
            AuthorityCheck::End => head.flags & END_HEADERS != 0,
            AuthorityCheck::Empty | AuthorityCheck::Illegal { .. } => false,
        }
    }

    /// Goes on with what is held, as far as it goes.
    fn advance(&mut self) {
        while !self.held.is_empty() {
            let done = match self.block() {
                Block::Incomplete(wanted) => {
                    self.wanted = wanted;
                    return;
                }
                Block::Fine(bytes) => {
                    self.ready.extend_from_slice(&self.held[..bytes]);
                    bytes
                }
                Block::Mended(bytes, mended) => {
                    self.ready.extend_from_slice(&mended);
                    bytes
                }
            };
            let rest = self.held.split_off(done);
            let passed = self.scan(&rest);
            self.ready.extend_from_slice(&rest[..passed]);
            self.held.clear();
            self.held.extend_from_slice(&rest[passed..]);
        }
    }

    /// Looks at the headers that what is held begins with.
    fn block(&mut self) -> Block {
        let held = &self.held;
        let Some(first) = FrameHeader::read(held) else { return Block::Incomplete(HEAD) };
        debug_assert_eq!(first.kind, HEADERS, "other frames were passed on before");
        let mut end = HEAD + first.length;
        let Some(payload) = held.get(HEAD..end) else { return Block::Incomplete(end) };
        let Some(block) = first.block(payload) else { return Block::Fine(end) };
        let (mut block, mut last) = (block.to_vec(), first.flags);
        for _ in 0..HELD_FRAMES_MAX {
            match mend(&block) {
                Mend::Nothing => return Block::Fine(end),
                Mend::Empty => {
                    self.note(first.stream, Refusal::Authority);
                    return Block::Fine(end);
                }
                Mend::Mended(mended) => return Block::Mended(end, frames(&first, payload, last, &mended)),
                Mend::End if last & END_HEADERS != 0 || end > HELD_BYTES_MAX => return Block::Fine(end),
                Mend::End => {}
            }
            let from = end + HEAD;
            let Some(next) = FrameHeader::read(&held[end..]) else { return Block::Incomplete(from) };
            if next.kind != CONTINUATION || next.length > FRAME_BYTES_MAX {
                return Block::Fine(end);
            }
            let next_end = from + next.length;
            let Some(more) = held.get(from..next_end) else { return Block::Incomplete(next_end) };
            block.extend_from_slice(more);
            (end, last) = (next_end, next.flags);
        }
        Block::Fine(end)
    }

    fn note_size(&mut self, head: &FrameHeader) {
        if head.kind == CONTINUATION {
            let before = self.block_bytes;
            self.block_bytes = before.saturating_add(head.length);
            if before < LARGE_BLOCK && self.block_bytes >= LARGE_BLOCK {
                self.note(head.stream, Refusal::HeadersTooLarge);
            }
        }
    }

    fn note(&mut self, stream: u32, why: Refusal) {
        if self.noted.len() == NOTED_MAX {
            self.noted.pop_front();
        }
        self.noted.push_back((stream, why));
    }
}

/// What a block is but for its authority.
enum Mend {
    Nothing,
    /// It goes on in another frame, or ends without more ado.
    End,
    Empty,
    Mended(Vec<u8>),
}

fn mend(block: &[u8]) -> Mend {
    let (mut out, mut done) = (Vec::new(), 0);
    loop {
        match hpack::check_authority(block, done) {
            AuthorityCheck::Illegal { string, legal } => {
                out.extend_from_slice(&block[done..string.start]);
                hpack::put_string(&mut out, &legal);
                done = string.end;
            }
            AuthorityCheck::Nothing if done == 0 => return Mend::Nothing,
            AuthorityCheck::End if done == 0 => return Mend::End,
            AuthorityCheck::Empty if done == 0 => return Mend::Empty,
            AuthorityCheck::Nothing | AuthorityCheck::End | AuthorityCheck::Empty => {
                out.extend_from_slice(&block[done..]);
                return Mend::Mended(out);
            }
        }
    }
}

/// A block as frames, in the place of those that it came in: the first with this head and payload, the last with these
/// flags.
fn frames(first: &FrameHeader, payload: &[u8], last: u8, block: &[u8]) -> Vec<u8> {
    let priority = first.priority(payload);
    let mut out = Vec::with_capacity(HEAD + priority.len() + block.len());
    let (begin, rest) = block.split_at(block.len().min(FRAME_BYTES_MAX - priority.len()));
    let mut parts = std::iter::once(begin).chain(rest.chunks(FRAME_BYTES_MAX)).peekable();
    let (mut kind, mut flags, mut before) = (HEADERS, first.flags & !(PADDED | END_HEADERS), priority);
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            flags |= last & END_HEADERS;
        }
        FrameHeader { length: before.len() + part.len(), kind, flags, stream: first.stream }.put(&mut out);
        out.extend_from_slice(before);
        out.extend_from_slice(part);
        (kind, flags, before) = (CONTINUATION, 0, &[]);
    }
    debug_assert!(first.flags & PRIORITY == 0 || priority.len() == 5);
    out
}
