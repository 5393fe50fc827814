//! Settings that only work together with another one. If that is missing the service doesn't start: half of a pair
//! would have no effect, and nobody would notice. It knows how to report this, not which settings belong together.

use super::{SettingsReader, parse, set};

/// A setting by its variable, and its text.
pub(super) type GivenSetting<'f> = (&'static str, &'f Option<String>);

/// A setting that other settings need.
pub(super) struct RequiredSetting<'f> {
    pub(super) variable: &'static str,
    /// The value that is needed.
    pub(super) value: &'static str,
    pub(super) given: &'f Option<String>,
    /// Whether the setting has that value.
    pub(super) is_on: bool,
    /// What happens without it, and how to confirm that this is intended: the text behind "without it ".
    pub(super) without: &'static str,
}

impl<'f> RequiredSetting<'f> {
    /// A switch that must be true.
    pub(super) fn switch(
        variable: &'static str,
        given: &'f Option<String>,
        without: &'static str,
    ) -> RequiredSetting<'f> {
        RequiredSetting { variable, value: "true", given, is_on: is_true(given), without }
    }
}

impl SettingsReader {
    /// Refuses the settings `beside` if their partner isn't set. If the partner has another value than the needed one,
    /// that was a choice, so the settings are only reported as without effect.
    pub(super) fn beside(&mut self, partner: &RequiredSetting<'_>, beside: &[String]) {
        if partner.is_on || beside.is_empty() {
            return;
        }
        let (variable, value) = (partner.variable, partner.value);
        match set(partner.given) {
            Some(given) => self.idle.push(idle(beside, &format!("{variable} is {given}"))),
            None => self.missing(
                variable,
                &format!("{value} is needed beside {}: without it {}", listed(beside), partner.without),
            ),
        }
    }

    /// Reports the missing one of two settings that only work together.
    pub(super) fn pair(&mut self, one: GivenSetting<'_>, other: GivenSetting<'_>) {
        match (set(one.1), set(other.1)) {
            (Some(_), None) => self.missing(other.0, &format!("is needed beside {}", one.0)),
            (None, Some(_)) => self.missing(one.0, &format!("is needed beside {}", other.0)),
            _ => {}
        }
    }

    /// Reports a missing setting, by its variable and its flag.
    pub(super) fn missing(&mut self, variable: &str, what: &str) {
        let flag = super::flag_of(variable);
        self.wrong.push(format!("{variable}{flag}: {what}"));
    }
}

/// The variables of the settings that are set.
pub(super) fn names(given: &[GivenSetting<'_>]) -> Vec<String> {
    given.iter().filter(|(_, text)| set(text).is_some()).map(|(variable, _)| (*variable).to_owned()).collect()
}

/// The variables of the switches that are on.
pub(super) fn switches(given: &[GivenSetting<'_>]) -> Vec<String> {
    given.iter().filter(|(_, text)| is_true(text)).map(|(variable, _)| (*variable).to_owned()).collect()
}

/// Whether a switch is on. A value that can't be read isn't reported here.
pub(super) fn is_true(text: &Option<String>) -> bool {
    set(text).is_some_and(|text| parse::boolean(text) == Ok(true))
}

/// A line about settings without effect, and why.
pub(super) fn idle(names: &[String], why: &str) -> String {
    let verb = if names.len() == 1 { "does" } else { "do" };
    format!("{} {verb} nothing here: {why}", listed(names))
}

/// `A`, `A and B`, `A, B and C`.
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
