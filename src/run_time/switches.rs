//! Switches: a limit as a whole, or all limits of a domain, changed while the service runs. What a switch is, how it is
//! stored, and which one holds for a limit. It knows neither rules nor where records are kept: they lie among the
//! overrides of their domain, under ids that no override may have, and so are stored, synced, lost and found again,
//! audited and swept as those are.
//!
//! ```text
//! !api/user#hourly   {"switch":{"mode":"scale","factor":3,"ends":"2027-01-01T04:00:00Z","reason":"ticket 42"},"by":"ops","at":…}
//! !*                 the same for every limit of the domain that has no switch of its own
//! ```
//!
//! A replica of a release that doesn't know switches, or one's mode, can't read such a record, says so in its log, and goes
//! on without it.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::limit::{Algorithm, EnforcedShare, Limit, SLIDING_LOG_MAX, UnixMicros, moment};

/// What the ids of switches begin with. No id of an override has it.
const MARK: char = '!';

/// The target that means every limit of the domain; no limit has this id.
pub const ALL: &str = "*";

/// The largest factor of `scale`, and the smallest.
pub const FACTOR_MAX: f64 = 1_000.0;
pub const FACTOR_MIN: f64 = 0.001;

/// What a switch does with its limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SwitchMode {
    /// They don't count, and deny nobody.
    Off,
    /// They count, and deny nobody.
    Shadow,
    /// They admit so many times as much, and their counters go on.
    Scale(f64),
    /// They count, and deny this share of clients, whatever their rules say.
    Enforce(EnforcedShare),
}

/// One switch, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// The id of a limit, or of a rule for all its limits, or [`ALL`].
    pub target: Box<str>,
    pub mode: SwitchMode,
    /// When it ends by itself.
    pub ends: UnixMicros,
    pub reason: Box<str>,
    /// Name of the token that made it.
    pub by: Box<str>,
    /// When it was made.
    pub at: UnixMicros,
    /// The version of its write, in µs of the clock of whoever stores it. 0 before it is written.
    pub version: u64,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct SwitchRecord {
    switch: WrittenSwitch,
    by: Box<str>,
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct WrittenSwitch {
    mode: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<Box<str>>,
    ends: Box<str>,
    reason: Box<str>,
}

/// The switches of one domain at one moment, for decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Switches {
    by_target: BTreeMap<Box<str>, Arc<Switch>>,
}

/// The id under which a target's switch is stored.
pub fn stored_id(target: &str) -> String {
    format!("{MARK}{target}")
}

/// The target of a stored id; `None` for an override's.
pub fn target_of(id: &str) -> Option<&str> {
    id.strip_prefix(MARK)
}

impl SwitchMode {
    /// The word of the API, and of the stored form.
    pub const fn name(self) -> &'static str {
        match self {
            SwitchMode::Off => "off",
            SwitchMode::Shadow => "shadow",
            SwitchMode::Scale(_) => "scale",
            SwitchMode::Enforce(_) => "enforce",
        }
    }

    /// Of its word, the factor of `scale` and the share of `enforce`. The error says what is wrong, and is for people.
    pub fn parse(name: &str, factor: Option<f64>, share: Option<&str>) -> Result<SwitchMode, String> {
        match (name, factor, share) {
            ("off", None, None) => Ok(SwitchMode::Off),
            ("shadow", None, None) => Ok(SwitchMode::Shadow),
            ("off" | "shadow" | "enforce", Some(_), _) => Err(format!("`{name}` takes no factor")),
            ("off" | "shadow" | "scale", _, Some(_)) => Err(format!("`{name}` takes no share")),
            ("scale", Some(factor), None) if (FACTOR_MIN..=FACTOR_MAX).contains(&factor) => {
                Ok(SwitchMode::Scale(factor))
            }
            ("scale", Some(factor), None) => {
                Err(format!("a factor is from {FACTOR_MIN} to {FACTOR_MAX}, not {factor}"))
            }
            ("scale", None, None) => Err("`scale` needs a factor, such as 3".to_owned()),
            ("enforce", None, Some(share)) => match EnforcedShare::parse(share) {
                Ok(share) => Ok(SwitchMode::Enforce(share)),
                Err(why) => Err(format!("`{share}` is no share of clients: {why}")),
            },
            ("enforce", None, None) => Err("`enforce` needs a share of clients, such as 10%".to_owned()),
            _ => Err(format!("there is no mode `{name}`: it is one of off, shadow, scale, enforce")),
        }
    }

    /// The factor of `scale`.
    pub const fn factor(self) -> Option<f64> {
        match self {
            SwitchMode::Scale(factor) => Some(factor),
            SwitchMode::Off | SwitchMode::Shadow | SwitchMode::Enforce(_) => None,
        }
    }

    /// The share of `enforce`.
    pub const fn share(self) -> Option<EnforcedShare> {
        match self {
            SwitchMode::Enforce(share) => Some(share),
            SwitchMode::Off | SwitchMode::Shadow | SwitchMode::Scale(_) => None,
        }
    }
}

/// In the words of the command line: `shadow`, `scale 3x`, `enforce 10%`.
impl std::fmt::Display for SwitchMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SwitchMode::Scale(factor) => write!(f, "scale {factor}x"),
            SwitchMode::Enforce(share) => write!(f, "enforce {share}"),
            SwitchMode::Off | SwitchMode::Shadow => f.write_str(self.name()),
        }
    }
}

impl Switch {
    /// Reads a stored record. `None` if a newer release wrote it, or something else.
    pub fn read(id: &str, version: u64, record: &str) -> Option<Switch> {
        let target = target_of(id)?.into();
        let SwitchRecord { switch, by, at } = serde_json::from_str(record).ok()?;
        let mode = SwitchMode::parse(&switch.mode, switch.factor, switch.share.as_deref()).ok()?;
        let ends = moment::parse(&switch.ends).ok()?;
        Some(Switch { target, mode, ends, reason: switch.reason, by, at: UnixMicros(at), version })
    }

    /// As it is stored.
    pub fn write(&self) -> String {
        let switch = WrittenSwitch {
            mode: self.mode.name().into(),
            factor: self.mode.factor(),
            share: self.mode.share().map(|share| share.to_string().into()),
            ends: moment::write(self.ends).into(),
            reason: self.reason.clone(),
        };
        let record = SwitchRecord { switch, by: self.by.clone(), at: self.at.0 };
        serde_json::to_string(&record).expect("plain fields have a JSON form")
    }

    pub fn is_for_all(&self) -> bool {
        *self.target == *ALL
    }
}

impl Switches {
    pub(super) fn put(&mut self, switch: Switch) {
        self.by_target.insert(switch.target.clone(), Arc::new(switch));
    }

    /// Removes the switch of a target.
    pub(super) fn remove(&mut self, target: &str) {
        self.by_target.remove(target);
    }

    pub fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    /// The switches in order of their targets.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Switch>> {
        self.by_target.values()
    }

    pub fn get(&self, target: &str) -> Option<&Arc<Switch>> {
        self.by_target.get(target)
    }

    /// The switch that holds for a limit at `now`: its own, else that of its rule, else that of the whole domain.
    pub fn of(&self, limit_id: &str, rule_id: &str, now: impl Fn() -> UnixMicros) -> Option<&Arc<Switch>> {
        let living = |target| self.by_target.get(target).filter(|switch: &&Arc<Switch>| now() < switch.ends);
        living(limit_id).or_else(|| living(rule_id)).or_else(|| living(ALL))
    }

    /// These switches, with those of `others` in place of the same targets' own.
    pub(super) fn overlaid_by(&self, others: &Switches) -> Switches {
        let mut both = self.clone();
        both.by_target.extend(others.by_target.iter().map(|(target, switch)| (target.clone(), Arc::clone(switch))));
        both
    }
}

/// A limit that admits `factor` times as much, at least one hit where it admitted any. The window and the algorithm stay,
/// and with them the counter. A log can't keep more than so many hits: it stops there.
pub fn scaled(limit: Limit, factor: f64) -> Limit {
    let most = if limit.algorithm == Algorithm::SlidingLog { SLIDING_LOG_MAX } else { u32::MAX };
    Limit { requests: times(limit.requests, factor).min(most), burst: times(limit.burst, factor), ..limit }
}

/// Why `scale` can't be done to a limit; `None` if it can.
pub fn unscalable(limit: &Limit, factor: f64) -> Option<String> {
    let wanted = f64::from(limit.requests) * factor;
    if limit.algorithm == Algorithm::SlidingLog && wanted > f64::from(SLIDING_LOG_MAX) {
        return Some(format!("{wanted} hits are more than a sliding_log can count, which is {SLIDING_LOG_MAX}"));
    }
    (wanted > f64::from(u32::MAX))
        .then(|| format!("{wanted} hits are more than a limit can admit, which is {}", u32::MAX))
}

fn times(hits: u32, factor: f64) -> u32 {
    // Rounded to the nearest: a float's cast ends at the largest number.
    let scaled = (f64::from(hits) * factor).round() as u32;
    if hits == 0 { 0 } else { scaled.max(1) }
}
