//! What the service keeps to explain itself, and how it shows values. It knows the variables' names, not what is shown.

use std::path::PathBuf;

use clap::Args;

use super::{Flags, SettingsReader, parse, partners, set};
use crate::limit::LogSample;

/// With less the lists would be too short to be of use.
const TOP_BYTES_MIN: u64 = 256 << 10;

/// With less each file would hold a few requests only.
const LOG_BYTES_MIN: u64 = 64 << 10;

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
    /// File to which decisions are written as JSON, a line each; - is standard output [default: none are written]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_DECISION_LOG", help_heading = "Insight")]
    pub decision_log: Option<String>,
    /// Which of them: all, a share of all clients (1%), denied (first refusals, and a sample of the others), or denied,1%
    /// [default: all]
    #[arg(long, value_name = "SAMPLE", env = "TOLLGATE_DECISION_LOG_SAMPLE", help_heading = "Insight")]
    pub decision_log_sample: Option<String>,
    /// How long the file may become, in bytes (100MiB, …); then it is renamed to FILE.1; 0 is without end [default: 100MiB]
    #[arg(long, value_name = "BYTES", env = "TOLLGATE_DECISION_LOG_MAX_BYTES", help_heading = "Insight")]
    pub decision_log_max_bytes: Option<String>,
    /// How many renamed files are kept [default: 5]
    #[arg(long, value_name = "N", env = "TOLLGATE_DECISION_LOG_KEEP", help_heading = "Insight")]
    pub decision_log_keep: Option<String>,
}

#[derive(Clone, Debug)]
pub struct InsightSettings {
    pub fleet: String,
    /// Bytes of the lists of who is refused most; 0 is none.
    pub top_max_bytes: u64,
    /// Keys whose values are shown as a hash, and the file with its secret.
    pub hashed: Option<(Vec<Box<str>>, PathBuf)>,
    pub decision_log: Option<DecisionLogSettings>,
}

/// Where decisions are written, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionLogSettings {
    /// `None` is standard output.
    pub file: Option<PathBuf>,
    pub sample: LogSample,
    /// Bytes after which the file is renamed; 0 is never.
    pub bytes_max: u64,
    /// Renamed files that are kept.
    pub keep: u32,
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
        decision_log: decision_log(flags, read),
    }
}

fn decision_log(flags: &InsightFlags, read: &mut SettingsReader) -> Option<DecisionLogSettings> {
    let sample = read.or("TOLLGATE_DECISION_LOG_SAMPLE", &flags.decision_log_sample, LogSample::All, LogSample::parse);
    let bytes_max = read.or("TOLLGATE_DECISION_LOG_MAX_BYTES", &flags.decision_log_max_bytes, 100 << 20, log_bytes);
    let keep = read.or("TOLLGATE_DECISION_LOG_KEEP", &flags.decision_log_keep, 5, kept_files);
    let Some(file) = set(&flags.decision_log) else {
        let partners = [
            ("TOLLGATE_DECISION_LOG_SAMPLE", &flags.decision_log_sample),
            ("TOLLGATE_DECISION_LOG_MAX_BYTES", &flags.decision_log_max_bytes),
            ("TOLLGATE_DECISION_LOG_KEEP", &flags.decision_log_keep),
        ];
        let idle: Vec<String> =
            partners.iter().filter(|(_, flag)| set(flag).is_some()).map(|(name, _)| (*name).to_owned()).collect();
        if !idle.is_empty() {
            read.idle.push(partners::idle(&idle, "TOLLGATE_DECISION_LOG names no file"));
        }
        return None;
    };
    let file = (file != "-").then(|| PathBuf::from(file));
    Some(DecisionLogSettings { file, sample, bytes_max, keep })
}

fn log_bytes(text: &str) -> Result<u64, String> {
    match parse::bytes(text)? {
        1..LOG_BYTES_MIN => Err("expected 0, or at least 64KiB".into()),
        bytes => Ok(bytes),
    }
}

fn kept_files(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number @ 0..=1_000) => Ok(number),
        _ => Err("expected a whole number from 0 to 1000".into()),
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
