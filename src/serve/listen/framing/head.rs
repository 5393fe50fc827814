//! The head of an HTTP/2 frame (RFC 9113, section 4.1), and where its headers stand in it.

/// Of a frame.
pub(super) const HEAD: usize = 9;

/// As the server's settings leave it: what is longer ends the connection.
pub(super) const FRAME_BYTES_MAX: usize = 16 << 10;

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHeader {
    /// `None` where it isn't all there.
    pub(super) fn read(bytes: &[u8]) -> Option<FrameHeader> {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit is reserved.
        Some(FrameHeader { length, kind, flags, stream: u32::from_be_bytes([d & 0x7f, e, f, g]) })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        out.extend([self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }

    /// The block of headers in the payload of a frame of headers; `None` where the frame is none.
    pub(super) fn block<'p>(&self, payload: &'p [u8]) -> Option<&'p [u8]> {
        let (padding, rest) = match self.flags & PADDED {
            0 => (0, payload),
            _ => payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
        };
        let priority = if self.flags & PRIORITY == 0 { 0 } else { 5 };
        rest.get(priority..rest.len().checked_sub(padding)?)
    }

    /// What stands before that block and must stay.
    pub(super) fn priority<'p>(&self, payload: &'p [u8]) -> &'p [u8] {
        let from = usize::from(self.flags & PADDED != 0);
        let length = if self.flags & PRIORITY == 0 { 0 } else { 5 };
        payload.get(from..from + length).unwrap_or_default()
    }
}
