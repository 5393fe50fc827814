//! The key of a counter as text: readable in `redis-cli`, escaped so that no two counters share one, and versioned. It
//! knows nothing of connections or of the value under the key.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hasher as _;
use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use siphasher::sip::SipHasher13;

use crate::limit::{Algorithm, Limit, SECOND};
use crate::privacy::Privacy;
use crate::store::counter_check::Key;
use crate::store::hash_slot::{self, SLOTS};

#[cfg(test)]
mod tests;

/// Changes with the stored layout, so that an older release never misreads a newer one's counters.
const VERSION: &str = "tg1";

/// A longer part is cut to [`PART_SHOWN`] bytes and its SHA-256: keys stay short whatever clients send.
const PART_MAX: usize = 128;
const PART_SHOWN: usize = 16;

/// The buckets that counters are spread over. A bucket is a hash tag, and so lies in one slot of a Cluster. All replicas
/// must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// So many, at least 1, with the tags `{0}`, `{1}`, … Where they lie is chance: of 256 buckets the fullest of three
    /// nodes has 7 % more than its share, and of a hundred nodes 2.7 times it; of 16,384 buckets 9 % more.
    Hashed(u32),
    /// One for each slot of a Cluster, so that nodes with as many slots have as many counters.
    EachSlot,
}

impl Buckets {
    /// The buckets of one Redis, and of every release before there was [`Buckets::EachSlot`].
    pub const DEFAULT: Buckets = Buckets::Hashed(256);

    /// Reads what [`fmt::Display`] writes: a number of at least 1, or `slots`.
    pub fn parse(text: &str) -> Option<Buckets> {
        match text {
            "slots" => Some(Buckets::EachSlot),
            number => number.parse().ok().filter(|number| *number > 0).map(Buckets::Hashed),
        }
    }

    /// All buckets.
    pub fn all(self) -> Vec<u32> {
        match self {
            Buckets::Hashed(number) => (0..number.max(1)).collect(),
            Buckets::EachSlot => BUCKET_OF_SLOT.clone(),
        }
    }
}

impl fmt::Display for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Buckets::Hashed(number) => number.fmt(f),
            Buckets::EachSlot => f.write_str("slots"),
        }
    }
}

/// For each slot the least number whose tag lies in it. The largest is 109,757.
static BUCKET_OF_SLOT: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut found: Vec<Option<u32>> = vec![None; usize::from(SLOTS)];
    let mut missing = found.len();
    let mut digits = Vec::new();
    for number in 0.. {
        if missing == 0 {
            break;
        }
        digits.clear();
        write_number(&mut digits, u64::from(number));
        let of_slot = &mut found[usize::from(hash_slot::of(&digits))];
        missing -= usize::from(of_slot.is_none());
        of_slot.get_or_insert(number);
    }
    found.into_iter().flatten().collect()
});

/// The bucket of a counter. The counters of one user share a bucket, and so a Cluster slot; those of one route don't. It
/// is the same in the next release, hence a hash with fixed keys.
pub fn bucket(key: &Key<'_>, buckets: Buckets) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    part(&mut hasher, key.domain);
    let entry = |hasher: &mut SipHasher13, position: usize| {
        part(hasher, key.entries[position].key);
        part(hasher, shared(key, position).unwrap_or(key.entries[position].value));
    };
    if key.variable < key.entries.len() {
        entry(&mut hasher, key.variable);
    } else {
        (0..key.entries.len()).for_each(|position| entry(&mut hasher, position));
    }
    match buckets {
        Buckets::Hashed(number) => (hasher.finish() % u64::from(number.max(1))) as u32,
        Buckets::EachSlot => BUCKET_OF_SLOT[(hasher.finish() % u64::from(SLOTS)) as usize],
    }
}

/// The slot of a Cluster that the keys of a bucket lie in.
pub fn slot_of_bucket(prefix: &str, bucket: u32) -> u16 {
    if prefix.contains('{') {
        // The braces of the prefix may be the tag.
        let mut out = Vec::new();
        write_bucket(&mut out, prefix, bucket);
        return hash_slot::of(&out);
    }
    let mut digits = [0; DIGITS_MAX];
    hash_slot::of(digits_of(u64::from(bucket), &mut digits))
}

/// The part of a key that decides its Cluster slot: `<prefix>tg1:{<bucket>}`.
pub fn write_bucket(out: &mut Vec<u8>, prefix: &str, bucket: u32) {
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(VERSION.as_bytes());
    out.extend_from_slice(b":{");
    write_number(out, u64::from(bucket));
    out.push(b'}');
}

/// Appends `<prefix>tg1:{<bucket>}:<algorithm>:<window>:<domain>:<key>=<value>:…[#<limit name>]`, with short names of
/// the algorithms and the window in seconds (`60s`) or microseconds (`1500us`): Redis hashes each key several times. A
/// sliding window also says its number of parts (`sw32`): another number is another layout of the same time.
pub fn write(out: &mut Vec<u8>, prefix: &str, bucket: u32, key: &Key<'_>, limit: &Limit) {
    write_bucket(out, prefix, bucket);
    out.push(b':');
    out.extend_from_slice(match limit.algorithm {
        Algorithm::SlidingWindow => b"sw",
        Algorithm::FixedWindow => b"fw",
        // `log` was a log of another layout.
        Algorithm::SlidingLog => b"log2",
        Algorithm::TokenBucket => b"tb",
        Algorithm::LeakyBucket => b"lb",
    });
    if limit.algorithm == Algorithm::SlidingWindow {
        write_number(out, u64::from(limit.sub_windows));
    }
    out.push(b':');
    let window = limit.window;
    if window.0.is_multiple_of(SECOND.0) {
        write_number(out, window.0 / SECOND.0);
        out.push(b's');
    } else {
        write_number(out, window.0);
        out.extend_from_slice(b"us");
    }
    out.push(b':');
    write_part(out, key.domain);
    for (position, entry) in key.entries.iter().enumerate() {
        out.push(b':');
        write_part(out, entry.key);
        match shared(key, position) {
            None => {
                out.push(b'=');
                write_part(out, entry.value);
            }
            // Another separator than `=`, so that a shared counter is never that of a client who sends the pattern
            // itself as a value.
            Some(pattern) => {
                out.push(b'~');
                write_part(out, pattern);
            }
        }
    }
    if !key.limit_name.is_empty() {
        out.push(b'#');
        write_part(out, key.limit_name);
    }
}

/// The key of a counter as it may be shown, with hashes in the place of values that nobody should read. Of a long value,
/// which the key doesn't have, nothing is shown.
pub fn shown(key: &[u8], privacy: &Privacy) -> String {
    let text = String::from_utf8_lossy(key);
    if !privacy.hides_values() {
        return text.into_owned();
    }
    let part = |part: &str| {
        let (entry, limit) = part.split_once('#').map_or((part, None), |(entry, limit)| (entry, Some(limit)));
        let limit = limit.map(|limit| format!("#{limit}")).unwrap_or_default();
        match entry.split_once('=') {
            Some((key, value)) => format!("{key}={}{limit}", shown_value(key, value, privacy)),
            None => part.to_owned(),
        }
    };
    text.split(':').map(part).collect::<Vec<_>>().join(":")
}

fn shown_value<'v>(key: &str, value: &'v str, privacy: &Privacy) -> Cow<'v, str> {
    let [key, whole] = [key, value].map(|text| percent_decode_str(text).decode_utf8_lossy());
    match privacy.shown(&key, &whole) {
        Cow::Borrowed(_) => value.into(),
        Cow::Owned(_) if value.contains("%~") => "~".into(),
        Cow::Owned(hash) => hash.into(),
    }
}

/// The key of data of a domain as a whole, with the domain as its hash tag: `<prefix>tg1:<what>:{<domain>}`.
pub fn of_domain(prefix: &str, what: &str, domain: &str) -> String {
    let mut part = Vec::new();
    write_part(&mut part, domain);
    // A long name may be cut within a character. The replacement character is the same for many names, but the digest
    // behind it isn't.
    let part = String::from_utf8_lossy(&part);
    format!("{prefix}{VERSION}:{what}:{{{part}}}")
}

fn shared<'a>(key: &'a Key<'_>, position: usize) -> Option<&'a str> {
    key.shared.get(position).and_then(|pattern| pattern.as_deref())
}

/// Length first, so that ("a", "bc") and ("ab", "c") differ.
fn part(hasher: &mut SipHasher13, text: &str) {
    hasher.write_u64(text.len() as u64);
    hasher.write(text.as_bytes());
}

fn write_part(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if bytes.len() <= PART_MAX {
        write_escaped(out, bytes);
        return;
    }
    write_escaped(out, &bytes[..PART_SHOWN]);
    // No escape begins with `%~`, so no short part can be spelled like a long one.
    out.extend_from_slice(b"%~");
    let mut digits = [0; 64];
    hex::encode_to_slice(Sha256::digest(bytes), &mut digits).expect("two digits for each byte");
    out.extend_from_slice(&digits);
}

/// Separators, braces (Redis reads them as a hash tag), blanks and control characters go as `%` and two digits.
fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'%' | b':' | b'=' | b'~' | b'#' | b'{' | b'}' | 0..=b' ' | 0x7f => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(digits_of(number, &mut [0; DIGITS_MAX]));
}

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

fn digits_of(mut number: u64, digits: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    &digits[at..]
}
