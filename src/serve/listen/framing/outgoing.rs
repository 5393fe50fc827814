//! The frames that the h2 library sends, looked at on their way out: a reset is how it refuses a stream that no service
//! ever sees.

use super::head::{FrameHeader, HEAD, RST_STREAM};

/// A reset's payload is its code.
pub(super) const CODE: usize = 4;

#[derive(Default)]
pub(super) struct Outgoing {
    /// What is left of a frame that is of no interest.
    skip: usize,
    /// A head, and a code behind it, that are not all out.
    begun: [u8; HEAD + CODE],
    length: usize,
}

impl Outgoing {
    /// These bytes went out; `reset` is called with the stream and the code of each reset among them.
    pub(super) fn sent(&mut self, mut bytes: &[u8], mut reset: impl FnMut(u32, u32)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let now = self.skip.min(bytes.len());
                self.skip -= now;
                bytes = &bytes[now..];
            } else if self.length == 0
                && let Some(head) = FrameHeader::read(bytes)
                && head.kind != RST_STREAM
            {
                self.skip = HEAD + head.length;
            } else {
                bytes = self.gather(bytes, &mut reset);
            }
        }
    }

    /// Byte by byte; what is left of them.
    fn gather<'b>(&mut self, bytes: &'b [u8], reset: &mut impl FnMut(u32, u32)) -> &'b [u8] {
        let (first, rest) = bytes.split_at(1);
        self.begun[self.length] = first[0];
        self.length += 1;
        let Some(head) = FrameHeader::read(&self.begun[..self.length]) else { return rest };
        if head.kind != RST_STREAM || head.length != CODE {
            (self.skip, self.length) = (head.length, 0);
        } else if self.length == HEAD + CODE {
            let [.., a, b, c, d] = self.begun;
            reset(head.stream, u32::from_be_bytes([a, b, c, d]));
            self.length = 0;
        }
        rest
    }
}
