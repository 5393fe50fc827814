//! Which decisions a log keeps. A share keeps whole clients, so that what is replayed of it is true for these.

use std::{
    hash::Hasher as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use siphasher::sip::SipHasher13;

use super::{Decided, LOG_VERSION, Refused};
use crate::{
    limit::{LogSample, PARTS, SECOND},
    visible,
};

/// Counters whose first refusal is remembered. Where two meet in one place, one is logged more often.
const REMEMBERED: usize = 1 << 16;

/// Of the refusals after the first, one in so many is kept.
const ONE_IN: u64 = 100;

pub(super) struct Sampler {
    sample: LogSample,
    /// For each counter that was refused: 32 bits of its hash, and the second in which its window ends.
    refused: Box<[AtomicU64]>,
    further: AtomicU64,
}

/// Why a line is in the log.
pub(super) struct Sampled<'a> {
    name: String,
    /// The key whose value says whether a client is in the share.
    by: Option<&'a str>,
}

impl Sampler {
    pub(super) fn new(sample: LogSample) -> Sampler {
        let remembers = matches!(sample, LogSample::Denied | LogSample::Share { denied: true, .. });
        let refused = (0..if remembers { REMEMBERED } else { 0 }).map(|_| AtomicU64::new(0)).collect();
        Sampler { sample, refused, further: AtomicU64::new(0) }
    }

    /// How a decision is sampled; `None` if it isn't kept.
    pub(super) fn sample<'a>(&self, decided: &Decided<'a, '_, '_>) -> Option<Sampled<'a>> {
        let plain = |name: &str| Sampled { name: name.to_owned(), by: None };
        match self.sample {
            LogSample::All => Some(plain("all")),
            LogSample::Denied => self.refusal(decided).map(plain),
            LogSample::Share { share, denied } => {
                let (part, by) = client_part(decided);
                match part < u64::from(share.parts()) {
                    true => Some(Sampled { name: share.to_string(), by }),
                    false if denied => self.refusal(decided).map(plain),
                    false => None,
                }
            }
        }
    }

    /// The sample that a request with a refusal belongs to, if it is kept.
    fn refusal(&self, decided: &Decided<'_, '_, '_>) -> Option<&'static str> {
        let refused = (0..decided.plan.checks.len()).filter(|index| decided.refusal(*index) == Some(Refused::Denied));
        let (mut is_first, mut is_refused) = (false, false);
        for index in refused {
            is_refused = true;
            is_first |= self.is_first(decided, index);
        }
        match (is_first, is_refused) {
            (true, _) => Some("denied_first"),
            (false, true) => self.further.fetch_add(1, Relaxed).is_multiple_of(ONE_IN).then_some("denied_1%"),
            (false, false) => None,
        }
    }

    /// Whether the counter of a check wasn't refused before in its window.
    fn is_first(&self, decided: &Decided<'_, '_, '_>, index: usize) -> bool {
        let (check, second) = (&decided.plan.checks[index], decided.at.0 / SECOND.0);
        let reset = decided.outcome.map_or(0, |outcome| outcome.readings[index].reset.seconds_ceil());
        let mut hasher = SipHasher13::new();
        write(&mut hasher, check.key.domain);
        for (position, entry) in check.key.entries.iter().enumerate() {
            write(&mut hasher, entry.key);
            write(&mut hasher, check.key.shared.get(position).and_then(Option::as_deref).unwrap_or(entry.value));
        }
        write(&mut hasher, check.key.limit_name);
        hasher.write_u64(check.limit.window.0);
        let hash = hasher.finish();
        let slot = &self.refused[hash as usize % REMEMBERED];
        let known = slot.load(Relaxed);
        let fingerprint = hash >> 32;
        if known >> 32 == fingerprint && known & 0xffff_ffff > second {
            return false;
        }
        slot.store(fingerprint << 32 | (second + reset).min(0xffff_ffff), Relaxed);
        true
    }
}

impl Sampled<'_> {
    /// The line with its version and its sample before its own fields.
    pub(super) fn log_line(&self, line: &str) -> Box<str> {
        let by = self
            .by
            .map(|key| format!("\"by\":{},", visible::json(&serde_json::Value::from(key).to_string())))
            .unwrap_or_default();
        format!("{{\"v\":{LOG_VERSION},\"sample\":\"{}\",{by}{}\n", self.name, &line[1..]).into()
    }
}

/// The part of 10,000 that the client of a request is in, the same on all replicas: by the first entry whose value its
/// rule doesn't name, or where there is none by the first descriptor as a whole.
fn client_part<'a>(decided: &Decided<'a, '_, '_>) -> (u64, Option<&'a str>) {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    write(&mut hasher, decided.request.domain);
    for (place, descriptor) in decided.request.descriptors.iter().enumerate() {
        let rule = decided.rule(place);
        let is_client = |position: &usize| rule.is_none_or(|rule| !rule.names_value(*position));
        if let Some(position) = (0..descriptor.entries.len()).find(is_client) {
            let entry = &descriptor.entries[position];
            write(&mut hasher, entry.key);
            write(&mut hasher, entry.value);
            return (hasher.finish() % u64::from(PARTS), Some(entry.key));
        }
    }
    for entry in decided.request.descriptors.first().iter().flat_map(|descriptor| &descriptor.entries) {
        write(&mut hasher, entry.key);
        write(&mut hasher, entry.value);
    }
    (hasher.finish() % u64::from(PARTS), None)
}

fn write(hasher: &mut SipHasher13, text: &str) {
    hasher.write(text.as_bytes());
    hasher.write_u8(0xff);
}
