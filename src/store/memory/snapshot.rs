//! The memory store's counters on disk, so that a restart gives nobody a fresh limit: one file in a directory that one
//! process holds. It knows how counters are written and read back; the caller decides when.
//!
//! The file: a magic line, the two hash keys, the counters (see [`write_counter`]), a zero byte, the number of counters,
//! and a checksum over all before it. It holds no keys of requests, but with the hash keys one could test guesses:
//! hence its mode 0600.

use std::{
    fs::File,
    hash::Hasher,
    io::{self, BufReader, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::{
    Memory, MemorySettings,
    capacity::ShareId,
    fingerprint::{Fingerprint, HashKeys},
    shard::Counter,
};
use crate::{
    algorithm::State,
    limit::{Algorithm, UnixMicros},
    state_dir::{self, DirectoryLock},
};

#[cfg(test)]
mod tests;

const MAGIC: &[u8] = b"tollgate counters 1\n";
const FILE: &str = "counters";
/// A state is longer only in a damaged file: the longest log has 10,001 entries of 11 bytes.
const STATE_MAX: u32 = 1 << 20;
/// Snapshots take at most this part of a core, so the interval grows with what there is to write.
const PAUSES_PER_SNAPSHOT: u32 = 19;
const PAUSE_MIN: Duration = Duration::from_secs(10);

/// What went wrong with the state directory, split by what the operator does next.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Give this process a directory of its own, or end the other one.
    #[error("{0}: another process counts in this directory")]
    InUse(PathBuf),
    /// Look at the directory: space, permissions.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A state directory, held by this process for as long as this lives.
pub struct Snapshots {
    directory: PathBuf,
    _lock: DirectoryLock,
}

/// What was found at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Counters that go on.
    pub counters: u64,
    /// Counters for which there was no room: the bound was lowered since the snapshot.
    pub left_out: u64,
    /// Whether there was a snapshot that could not be trusted; it was renamed, and all counts begin anew.
    pub set_aside: bool,
}

/// Why a snapshot isn't trusted.
#[derive(Debug)]
struct Damage(&'static str);

impl Snapshots {
    /// Takes the directory, and makes it if it isn't there.
    pub fn open(directory: &Path) -> Result<Snapshots, SnapshotError> {
        let lock = state_dir::lock(directory)?.ok_or_else(|| SnapshotError::InUse(directory.to_owned()))?;
        Ok(Snapshots { directory: directory.to_owned(), _lock: lock })
    }

    /// A store that goes on from the snapshot, if there is one. A damaged one is renamed, with an error in the log, and
    /// nothing of it is used: half of the counts would look like all of them.
    pub fn load(&self, settings: MemorySettings, now: UnixMicros) -> Result<(Memory, RestoreReport), SnapshotError> {
        let path = self.directory.join(FILE);
        let Some(file) = state_dir::open(&path)? else { return Ok((Memory::new(settings), RestoreReport::default())) };
        match read(file, settings, now).map_err(|error| state_dir::at(&path, error))? {
            Ok((memory, loaded)) => {
                if loaded.left_out > 0 {
                    tracing::warn!(left_out = loaded.left_out, "the snapshot has more counters than there is room for");
                }
                Ok((memory, loaded))
            }
            Err(Damage(why)) => {
                let aside = self.directory.join(format!("{FILE}.damaged-{}", now.0));
                state_dir::rename(&path, &aside)?;
                tracing::error!(snapshot = %aside.display(), why, "the snapshot is damaged and was set aside: all counts begin anew");
                Ok((Memory::new(settings), RestoreReport { set_aside: true, ..RestoreReport::default() }))
            }
        }
    }

    /// Writes all counters, and returns how many. Blocks for as long as the disk takes, but no request for longer than
    /// one shard's copy. A crash at any moment leaves the snapshot before, whole.
    pub fn save(&self, memory: &Memory) -> Result<u64, SnapshotError> {
        let (_, counters) = state_dir::replace(&self.directory.join(FILE), |out| {
            write(memory, &mut Checksummed { inner: out, hasher: SipHasher13::new() })
        })?;
        Ok(counters)
    }

    /// How long to wait after a snapshot that took `took`: so snapshots take at most 5 % of a core, and the more there
    /// is to lose the better is a pause of some seconds.
    pub fn pause(took: Duration) -> Duration {
        PAUSE_MIN.max(took.saturating_mul(PAUSES_PER_SNAPSHOT))
    }
}

/// Reads or writes, and hashes what went through.
struct Checksummed<T> {
    inner: T,
    hasher: SipHasher13,
}

impl<T> Checksummed<T> {
    fn checksum(&self) -> [u8; 16] {
        self.hasher.finish128().as_bytes()
    }
}

impl<T: Write> Checksummed<T> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.write(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Checksummed<T> {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.hasher.write(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

fn write<T: Write>(memory: &Memory, out: &mut Checksummed<T>) -> io::Result<u64> {
    out.put(MAGIC)?;
    out.put(&memory.keys.0.to_le_bytes())?;
    out.put(&memory.keys.1.to_le_bytes())?;
    let (mut counters, mut copy) = (0u64, Vec::new());
    for shard in &memory.shards {
        // Copied under the lock, written without it.
        copy.clear();
        for counter in shard.lock().iter() {
            counters += u64::from(write_counter(counter, &mut copy));
        }
        out.put(&copy)?;
    }
    out.put(&[0])?;
    out.put(&counters.to_le_bytes())?;
    let checksum = out.checksum();
    out.inner.write_all(&checksum)?;
    Ok(counters)
}

/// Tag of the state's kind (1 to 4), whether it is an overflow counter, share (2 bytes), expiry in seconds (4),
/// fingerprint (16), length of the state (4), the state as packed by [`State::encode`]. Numbers are little endian.
fn write_counter(counter: &Counter, out: &mut Vec<u8>) -> bool {
    let tag = match counter.state {
        State::Empty => return false,
        State::Sliding { .. } => 1,
        State::Fixed { .. } => 2,
        State::Log { .. } => 3,
        State::Bucket { .. } => 4,
    };
    out.extend_from_slice(&[tag, u8::from(counter.is_overflow)]);
    out.extend_from_slice(&counter.share.0.to_le_bytes());
    out.extend_from_slice(&counter.expires.to_le_bytes());
    out.extend_from_slice(&counter.fingerprint.high.to_le_bytes());
    out.extend_from_slice(&counter.fingerprint.low.to_le_bytes());
    let length = out.len();
    out.extend_from_slice(&[0; 4]);
    counter.state.encode(out);
    let packed = (out.len() - length - 4) as u32;
    out[length..length + 4].copy_from_slice(&packed.to_le_bytes());
    true
}

/// A file that can't be read is an error, one that reads but doesn't add up is damaged.
fn read(file: File, settings: MemorySettings, now: UnixMicros) -> io::Result<Result<(Memory, RestoreReport), Damage>> {
    let mut from = Checksummed { inner: BufReader::with_capacity(1 << 18, file), hasher: SipHasher13::new() };
    match read_all(&mut from, settings, now) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err(Damage("it ends early"))),
        other => other,
    }
}

fn read_all(
    from: &mut Checksummed<impl Read>,
    settings: MemorySettings,
    now: UnixMicros,
) -> io::Result<Result<(Memory, RestoreReport), Damage>> {
    let mut magic = [0; MAGIC.len()];
    from.fill(&mut magic)?;
    if magic != MAGIC {
        return Ok(Err(Damage("it is no snapshot of this version")));
    }
    let keys = HashKeys(u64::from_le_bytes(from.array()?), u64::from_le_bytes(from.array()?));
    let memory = Memory::with_keys(settings, keys);
    let (mut read, mut loaded, mut packed) = (0u64, RestoreReport::default(), Vec::new());
    loop {
        let [tag] = from.array()?;
        if tag == 0 {
            break;
        }
        let Some(counter) = read_counter(tag, from, &mut packed)? else {
            return Ok(Err(Damage("a counter in it makes no sense")));
        };
        read += 1;
        if counter.is_expired(now) {
            continue;
        }
        let is_taken = memory.restore(counter);
        loaded.counters += u64::from(is_taken);
        loaded.left_out += u64::from(!is_taken);
    }
    let counted = u64::from_le_bytes(from.array()?);
    let checksum = from.checksum();
    let written: [u8; 16] = from.array()?;
    if counted != read || checksum != written {
        return Ok(Err(Damage("its checksum is wrong")));
    }
    Ok(Ok((memory, loaded)))
}

fn read_counter(tag: u8, from: &mut Checksummed<impl Read>, packed: &mut Vec<u8>) -> io::Result<Option<Counter>> {
    let algorithm = match tag {
        1 => Algorithm::SlidingWindow,
        2 => Algorithm::FixedWindow,
        3 => Algorithm::SlidingLog,
        // The two buckets are packed alike; which it is, the limit says.
        4 => Algorithm::TokenBucket,
        _ => return Ok(None),
    };
    let head: [u8; 27] = from.array()?;
    let number = |range: Range<usize>| head[range].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
    let (is_overflow, share, expires) = (number(0..1) != 0, ShareId(number(1..3) as u16), number(3..7) as u32);
    let fingerprint = Fingerprint { high: number(7..15), low: number(15..23) };
    let length = number(23..27) as u32;
    if length > STATE_MAX {
        return Ok(None);
    }
    packed.resize(length as usize, 0);
    from.fill(packed)?;
    let state = State::decode(packed, algorithm);
    Ok(state.map(|state| Counter { fingerprint, state, expires, share, is_overflow }))
}
