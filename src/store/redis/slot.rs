//! The slot of a key: which part of a Cluster holds it, as Redis Cluster's specification counts.

#[cfg(test)]
mod tests;

/// Slots of every Cluster, numbered from 0.
pub(super) const SLOTS: u16 = 16_384;

/// The slot that `key` lies in. Keys with the same part in braces lie in the same one.
pub(super) fn of(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % SLOTS
}

/// What is between the first `{` and the first `}` after it, if that is anything.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let after = &key[key.iter().position(|&byte| byte == b'{')? + 1..];
    let end = after.iter().position(|&byte| byte == b'}')?;
    (end > 0).then(|| &after[..end])
}

/// CRC-16/XMODEM: polynomial 0x1021, nothing reflected, starting from 0. Keys are short and most slots are worked out once,
/// so it takes a bit at a time.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 != 0 { 0x1021 } else { 0 })
    })
}
