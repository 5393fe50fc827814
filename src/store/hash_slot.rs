//! The slot of a key: which part of a Cluster holds it, as Redis Cluster's specification counts.

#[cfg(test)]
mod tests;

/// Slots of every Cluster, numbered from 0.
pub(crate) const SLOTS: u16 = 16_384;

/// The slot that `key` lies in. Keys with the same part in braces lie in the same one.
pub(crate) fn of(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % SLOTS
}

/// What is between the first `{` and the first `}` after it, if that is anything.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let after = &key[key.iter().position(|&byte| byte == b'{')? + 1..];
    let end = after.iter().position(|&byte| byte == b'}')?;
    (end > 0).then(|| &after[..end])
}

/// CRC-16/XMODEM: polynomial 0x1021, nothing reflected, starting from 0. Each decision of a Cluster works a slot out, so it
/// takes a byte at a time.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ OF_BYTE[usize::from((crc >> 8) as u8 ^ byte)])
}

/// What each byte does to the sum, a bit at a time.
const OF_BYTE: [u16; 256] = {
    let mut all = [0; 256];
    let mut byte = 0;
    while byte < all.len() {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x8000 != 0 { 0x1021 } else { 0 };
            bit += 1;
        }
        all[byte] = crc;
        byte += 1;
    }
    all
};
