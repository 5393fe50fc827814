//! Gives hits back to packed entries, oldest first. It knows that the last four bytes of an entry count hits, and
//! nothing of the time before them.

const COUNT: usize = 4;

/// Removes up to `hits` from the oldest of the entries of `size` bytes. Returns how many there were, and how many
/// entries were emptied: these still have their old counts, and the caller cuts them off.
pub(super) fn remove_oldest(entries: &mut [u8], size: usize, hits: u64) -> (u64, usize) {
    let (mut taken, mut emptied) = (0, 0);
    for entry in entries.chunks_exact_mut(size) {
        let Some(count) = entry.last_chunk_mut::<COUNT>() else { break };
        let contents = u64::from(u32::from_le_bytes(*count));
        if taken + contents > hits {
            *count = ((taken + contents - hits) as u32).to_le_bytes();
            return (hits, emptied);
        }
        taken += contents;
        emptied += 1;
    }
    (taken, emptied)
}
