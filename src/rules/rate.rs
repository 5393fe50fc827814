//! The rate of a limit, so many hits in such a time, in each of its written forms. It knows nothing of algorithms or of
//! where a limit applies.

use crate::limit::{Micros, SECOND, Unit, WINDOW_MAX};

use super::{
    fields::{Fields, LIMIT, Located, nearest},
    pen::NodeReader,
    warning::Warning,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) requests: Located<u32>,
    pub(super) window: WindowSpec,
}

/// How long, as it is written: what replaces a part of it must know the parts.
#[derive(Clone, Copy, Debug)]
pub(super) enum WindowSpec {
    Window(Micros),
    Units { unit: Unit, times: u32 },
}

impl WindowSpec {
    pub(super) fn window(self) -> Micros {
        match self {
            WindowSpec::Window(window) => window,
            WindowSpec::Units { unit, times } => Micros(unit.window().0.saturating_mul(u64::from(times))),
        }
    }
}

impl NodeReader<'_> {
    /// `requests_per_unit`, `unit`, `unit_multiplier`; or `requests`, `window`. What is left out is that of `base`.
    pub(super) fn rate(&mut self, fields: &Fields<'_, '_>, base: Option<Rate>) -> Option<Rate> {
        let ours = fields.first_of(&["requests", "window"]);
        let theirs = fields.first_of(&["requests_per_unit", "unit", "unit_multiplier"]);
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                self.error(fields.location(ours), format!("`{ours}` and `{theirs}` are of different forms"))
                    .hint("write `requests_per_unit` and `unit`, or `requests` and `window`");
                None
            }
            (Some(_), None) => self.rate_in_window(fields, base),
            (None, None) if base.is_some() => base,
            (None, _) => self.rate_per_unit(fields, base),
        }
    }

    fn rate_in_window(&mut self, fields: &Fields<'_, '_>, base: Option<Rate>) -> Option<Rate> {
        let requests = match (fields.get("requests"), base) {
            (Some(node), _) => self.number(node, "requests", 0, u32::MAX).map(|value| Located { value, at: node.at }),
            (None, Some(base)) => Some(base.requests),
            (None, None) => {
                self.error(fields.location("window"), "`window` without `requests`");
                None
            }
        };
        let span = match (fields.get("window"), base) {
            (Some(node), _) => self.text(node).and_then(|text| match duration(text) {
                Ok(window) => Some(WindowSpec::Window(window)),
                Err(why) => {
                    self.error(node.at, format!("`{text}` is no window: {why}"))
                        .hint("write it as `30s`, `5m`, `1h` or `7d`");
                    None
                }
            }),
            (None, Some(base)) => Some(base.window),
            (None, None) => {
                self.error(fields.location("requests"), "`requests` without `window`")
                    .hint("add `window: 1m`, or write `requests_per_unit` and `unit`");
                None
            }
        };
        Some(Rate { requests: requests?, window: span? })
    }

    fn rate_per_unit(&mut self, fields: &Fields<'_, '_>, base: Option<Rate>) -> Option<Rate> {
        let requests = match (fields.get("requests_per_unit"), base) {
            (Some(node), _) => {
                self.number(node, "requests_per_unit", 0, u32::MAX).map(|value| Located { value, at: node.at })
            }
            (None, Some(base)) => Some(base.requests),
            (None, None) => {
                // Only where the reference takes it for 0.
                let is_error = fields.what != LIMIT.what;
                if fields.all_known && is_error {
                    self.error(fields.at, "a limit must have `requests_per_unit`, or `requests`");
                } else if fields.all_known {
                    self.warn(
                        fields.at,
                        Warning::ZeroLimit,
                        "no `requests_per_unit`: this limit refuses every request",
                    )
                    .hint("if that is meant, write `requests_per_unit: 0`");
                }
                Some(Located { value: 0, at: fields.at }).filter(|_| !is_error)
            }
        };
        let times = fields.get("unit_multiplier").map(|node| self.number(node, "unit_multiplier", 1, u32::MAX));
        let span = match (base, fields.first_of(&["unit", "unit_multiplier"])) {
            (Some(base), None) => Some(base.window),
            (base, _) => self.units(fields, times, base),
        };
        let (requests, span) = (requests?, span?);
        if let WindowSpec::Units { unit, times } = span
            && span.window() > WINDOW_MAX
        {
            self.error(fields.location("unit_multiplier"), format!("{times} {}s are {TOO_LONG}", unit.name()));
            return None;
        }
        Some(Rate { requests, window: span })
    }

    /// `times` is what was made of `unit_multiplier`, if that is there.
    fn units(&mut self, fields: &Fields<'_, '_>, times: Option<Option<u32>>, base: Option<Rate>) -> Option<WindowSpec> {
        let (of_base, times_of_base) = match base.map(|base| base.window) {
            Some(WindowSpec::Units { unit, times }) => (Some(unit), times),
            _ => (None, 1),
        };
        let unit = match of_base.filter(|_| fields.get("unit").is_none()) {
            Some(unit) => Some(unit),
            None => self.unit(fields),
        };
        Some(WindowSpec::Units { unit: unit?, times: times.unwrap_or(Some(times_of_base))? })
    }

    fn unit(&mut self, fields: &Fields<'_, '_>) -> Option<Unit> {
        let names = Unit::ALL.map(Unit::name);
        let Some(node) = fields.get("unit") else {
            if fields.all_known {
                self.error(fields.at, "a limit must have a `unit`").hint(format!("it is one of {}", names.join(", ")));
            }
            return None;
        };
        let text = self.text(node)?;
        let unit = Unit::parse(text);
        if unit.is_none() {
            let problem = self.error(node.at, format!("there is no unit `{text}`: it is one of {}", names.join(", ")));
            if let Some(meant) = unit_meant(text).map(Unit::name).or_else(|| nearest(text, &names)) {
                problem.hint(format!("did you mean `{meant}`?"));
            } else if duration(text).is_ok() {
                problem.hint(format!(
                    "for a window of {text} write `requests` in place of `requests_per_unit`, and `window: {text}`"
                ));
            }
        }
        unit
    }
}

/// The unit that other tools call so: `min`, `secs`, `hr`.
fn unit_meant(text: &str) -> Option<Unit> {
    let word = text.trim().to_ascii_lowercase();
    let word = word.strip_suffix('s').filter(|word| !word.is_empty()).unwrap_or(&word);
    let is_of = |unit: &Unit| match unit {
        Unit::Second => ["s", "sec", "second"].contains(&word),
        Unit::Minute => ["m", "min", "minute"].contains(&word),
        Unit::Hour => ["h", "hr", "hour"].contains(&word),
        Unit::Day => ["d", "day"].contains(&word),
        Unit::Week => ["w", "wk", "week"].contains(&word),
        Unit::Month => ["mo", "mth", "month"].contains(&word),
        Unit::Year => ["y", "yr", "year"].contains(&word),
    };
    Unit::ALL.into_iter().find(is_of)
}

/// Why a window has no unit that it could have, and how the one that is meant is written.
fn no_unit(unit: &str) -> String {
    let meant = unit_meant(unit).map(|unit| match unit {
        Unit::Second => " (seconds are `s`)",
        Unit::Minute => " (minutes are `m`)",
        Unit::Hour => " (hours are `h`)",
        Unit::Day => " (days are `d`)",
        Unit::Week => " (weeks are `w`)",
        Unit::Month => " (a month is `30d`)",
        Unit::Year => " (a year is `365d`)",
    });
    format!("there is no unit `{unit}`: it is us, ms, s, m, h, d or w{}", meant.unwrap_or_default())
}

const TOO_LONG: &str = "more than ten years, the longest window";

/// `30/5m`, `5/s`, `100/hour`.
pub(crate) fn short_rate(text: &str) -> Result<(u32, Micros), String> {
    let (requests, window) = text.trim().split_once('/').ok_or("it has no `/`")?;
    let digits = requests.trim_end().replace('_', "");
    let requests = match digits.parse() {
        Ok(requests) if digits.bytes().all(|byte| byte.is_ascii_digit()) => requests,
        _ => return Err(format!("`{requests}` isn't a whole number from 0 to {}", u32::MAX)),
    };
    let window = window.trim_start();
    let single = format!("1{window}");
    let window = match Unit::parse(window) {
        Some(unit) => unit.window(),
        None => duration(if window.starts_with(|first: char| first.is_ascii_digit()) { window } else { &single })?,
    };
    Ok((requests, window))
}

/// `30s`, `5m`, `1h30m`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Micros, String> {
    let mut rest = text.trim();
    let mut sum = 0u64;
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let Ok(number) = number.parse::<u64>() else {
            return Err("it must be whole numbers, each with its unit".to_owned());
        };
        let micros = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => SECOND.0,
            "m" => Unit::Minute.window().0,
            "h" => Unit::Hour.window().0,
            "d" => Unit::Day.window().0,
            "w" => Unit::Week.window().0,
            "" if after.starts_with(' ') => return Err("no blank may stand between a number and its unit".to_owned()),
            "" => return Err("its unit is missing: us, ms, s, m, h, d or w".to_owned()),
            unit => return Err(no_unit(unit)),
        };
        sum = sum.saturating_add(number.saturating_mul(micros));
        rest = after;
    }
    match Micros(sum) {
        Micros(0) => Err("it must be longer than 0".to_owned()),
        window if window > WINDOW_MAX => Err(format!("it is {TOO_LONG}")),
        window => Ok(window),
    }
}
