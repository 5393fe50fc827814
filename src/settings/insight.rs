//! What the service keeps to explain itself, and how it shows values. It knows the variables' names, not what is shown.

use std::path::PathBuf;

use clap::Args;

use super::{Flags, SettingsReader, parse, partners, set};

/// With less the lists would be too short to be of use.
const TOP_BYTES_MIN: u64 = 256 << 10;

/// Flags of what is kept for those who look.
#[derive(Args, Clone, Debug, Default)]
pub struct InsightFlags {
    /// Name of the fleet, with which answers about it begin [default: tollgate]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_FLEET", help_heading = "Insight")]
    pub fleet: Option<String>,
    /// Memory of the lists of who is refused most, in bytes (8MiB, …), taken as it is used; 0 turns them off [default: 8MiB]
    #[arg(long, value_name = "BYTES", env = "TOLLGATE_TOP_MAX_BYTES", help_heading = "Insight")]
    pub top_max_bytes: Option<String>,
    /// Keys whose values are shown as a hash, where they aren't named by a rule: user,remote_address,…
    #[arg(long, value_name = "KEYS", env = "TOLLGATE_HASH_KEYS", help_heading = "Insight")]
    pub hash_keys: Option<String>,
    /// File with the secret of these hashes, at least 32 bytes; read at start
    #[arg(long, value_name = "FILE", env = "TOLLGATE_HASH_KEY_FILE", help_heading = "Insight")]
    pub hash_key_file: Option<String>,
}

#[derive(Clone, Debug)]
pub struct InsightSettings {
    pub fleet: String,
    /// Bytes of the lists of who is refused most; 0 is none.
    pub top_max_bytes: u64,
    /// Keys whose values are shown as a hash, and the file with its secret.
    pub hashed: Option<(Vec<Box<str>>, PathBuf)>,
}

pub(super) fn insight(flags: &Flags, read: &mut SettingsReader) -> InsightSettings {
    let flags = &flags.insight;
    let keys = read.or("TOLLGATE_HASH_KEYS", &flags.hash_keys, Vec::new(), keys);
    let file = set(&flags.hash_key_file).map(PathBuf::from);
    match (keys.is_empty(), &file) {
        (false, None) => read.missing(
            "TOLLGATE_HASH_KEY_FILE",
            "is needed where TOLLGATE_HASH_KEYS is set: without a secret anybody could find out whose hash it is",
        ),
        (true, Some(_)) if set(&flags.hash_keys).is_none() => {
            read.idle.push(partners::idle(&["TOLLGATE_HASH_KEY_FILE".to_owned()], "TOLLGATE_HASH_KEYS names no key"));
        }
        _ => {}
    }
    InsightSettings {
        fleet: read.or("TOLLGATE_FLEET", &flags.fleet, "tollgate".to_owned(), name),
        top_max_bytes: read.or("TOLLGATE_TOP_MAX_BYTES", &flags.top_max_bytes, 8 << 20, top_bytes),
        hashed: file.filter(|_| !keys.is_empty()).map(|file| (keys, file)),
    }
}

fn keys(text: &str) -> Result<Vec<Box<str>>, String> {
    let keys: Vec<Box<str>> = text.split(',').map(|key| key.trim().into()).collect();
    match keys.iter().any(|key| key.is_empty()) {
        true => Err("expected keys of descriptors, such as user,remote_address".into()),
        false => Ok(keys),
    }
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    match text.len() <= 64 && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 64 letters, digits, `-`, `.` or `_`".into()),
    }
}

fn top_bytes(text: &str) -> Result<u64, String> {
    match parse::bytes(text)? {
        1..TOP_BYTES_MIN => Err("expected 0, or at least 256KiB".into()),
        bytes => Ok(bytes),
    }
}
