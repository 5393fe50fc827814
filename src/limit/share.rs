//! The share of clients that a limit denies, and which clients those are. A client is in one of [`PARTS`] parts, by a
//! hash of the limit's id and of the entry that tells clients apart, and a share is so many parts from the first on:
//! the same client is always in or out, and a larger share only adds clients.
//!
//! The hash is the first 32 bits of the SHA-256 of `<limit id>` LF `<key>=<value>`, modulo [`PARTS`]. It must never
//! change: a rollout would deny other clients after an upgrade, and replicas of two releases would not agree.

#[cfg(test)]
mod tests;

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Number of parts that clients are divided into.
pub const PARTS: u16 = 10_000;

/// Parts in one per cent.
const PARTS_OF_PERCENT: u16 = PARTS / 100;

/// The share of a limit's clients that the limit may deny; the others are counted and reported only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnforcedShare(u16);

/// The part that a client is in with one limit, from 0 to [`PARTS`] - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientPart(u16);

impl EnforcedShare {
    /// `enforce: true`.
    pub const ALL: EnforcedShare = EnforcedShare(PARTS);

    /// `enforce: false`.
    pub const NONE: EnforcedShare = EnforcedShare(0);

    pub const fn of_bool(enforce: bool) -> EnforcedShare {
        if enforce { EnforcedShare::ALL } else { EnforcedShare::NONE }
    }

    /// Reads `10%`, `0.25%`: 0 to 100 with at most two decimals. The error says what is wrong, and is for people.
    pub fn parse(text: &str) -> Result<EnforcedShare, &'static str> {
        const WRITTEN: &str = "a share is written as 10% or 0.5%";
        let number = text.trim().strip_suffix('%').ok_or(WRITTEN)?.trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) {
            return Err(WRITTEN);
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > 2 {
            return Err("the smallest share is 0.01%");
        }
        let hundredths: u16 = format!("{decimals:0<2}").parse().map_err(|_| WRITTEN)?;
        let percent = whole.parse::<u16>().ok().filter(|percent| *percent <= 100);
        let parts = percent.map(|percent| percent * PARTS_OF_PERCENT + hundredths);
        parts.filter(|parts| *parts <= PARTS).map(EnforcedShare).ok_or("a share is at most 100%")
    }

    /// So many parts, at most [`PARTS`].
    pub const fn of_parts(parts: u16) -> EnforcedShare {
        EnforcedShare(if parts > PARTS { PARTS } else { parts })
    }

    /// Number of parts that are in, from part 0 on.
    pub const fn parts(self) -> u16 {
        self.0
    }

    /// Whether nobody is in.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether some clients are in and others are not.
    pub const fn is_partial(self) -> bool {
        self.0 > 0 && self.0 < PARTS
    }

    pub const fn contains(self, part: ClientPart) -> bool {
        part.0 < self.0
    }
}

/// As rule files write a share: `10%`.
impl fmt::Display for EnforcedShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, hundredths) = (self.0 / PARTS_OF_PERCENT, self.0 % PARTS_OF_PERCENT);
        match hundredths {
            0 => write!(f, "{percent}%"),
            tenths if tenths % 10 == 0 => write!(f, "{percent}.{}%", tenths / 10),
            hundredths => write!(f, "{percent}.{hundredths:02}%"),
        }
    }
}

impl ClientPart {
    /// The part of the client whom the entry `key=value` tells apart, with the limit of this id. No id has a line feed,
    /// and a limit has one such key, so that no two clients of a limit are hashed alike.
    pub fn of(limit_id: &str, key: &str, value: &str) -> ClientPart {
        let mut hash = Sha256::new();
        for text in [limit_id, "\n", key, "=", value] {
            hash.update(text);
        }
        let hash = hash.finalize();
        let word = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        ClientPart((word % u32::from(PARTS)) as u16)
    }

    /// From 0 to [`PARTS`] - 1.
    pub const fn number(self) -> u16 {
        self.0
    }
}
