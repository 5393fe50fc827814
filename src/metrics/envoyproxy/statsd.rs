//! The lines of StatsD and of DogStatsD: what was added since the last ones. Knows no sockets.

use std::fmt::Write;

use regex::{Captures, Regex};

use super::totals::{CHECK_TIME, RESPONSE_TIME, StatsdTotals};
use crate::metrics::latency::{BOUNDS_US, Recorded};

#[cfg(test)]
mod tests;

/// Whose lines are written.
#[derive(Clone, Debug)]
pub enum Dialect {
    /// Tags stand in the name, sorted: `name.__k=v:1|c`.
    StatsD { tags: Vec<(String, String)> },
    /// Tags stand behind: `name:1|c|#k:v`. The first rewriting whose pattern matches a name is applied to it.
    DogStatsD { tags: Vec<(String, String)>, rewritings: Vec<Rewriting> },
}

/// Takes parts of a name for tags: the reference's mogrifier. `$1` in name and tags is a group of the pattern.
#[derive(Clone, Debug)]
pub struct Rewriting {
    pub pattern: Regex,
    pub name: String,
    pub tags: Vec<(String, String)>,
}

impl Dialect {
    /// A line for each counter that grew. Response times are aggregated: a line for each bucket of the histogram, with
    /// the bucket's upper bound, sampled by how many requests fell into it.
    pub(super) fn lines(&self, now: &StatsdTotals, last: &StatsdTotals) -> Vec<String> {
        let grown = |(name, count): (&String, &u64)| {
            // What is counted afresh after its rules had gone begins at nothing.
            let before = last.counters.get(name).copied().filter(|before| before <= count).unwrap_or(0);
            (*count > before).then(|| self.line(name, &(count - before).to_string(), "c", 1))
        };
        let mut lines: Vec<String> = now.counters.iter().filter_map(grown).collect();
        lines.sort_unstable();
        lines.extend(now.gauges.iter().map(|(name, value)| self.line(name, &value.to_string(), "g", 1)));
        self.times(&mut lines, RESPONSE_TIME, &now.response_times, &last.response_times);
        self.times(&mut lines, CHECK_TIME, &now.checks, &last.checks);
        lines
    }

    fn times(&self, lines: &mut Vec<String>, name: &str, now: &Recorded, last: &Recorded) {
        // Beyond the last bound: at least that.
        let bounds = BOUNDS_US.iter().chain(BOUNDS_US.last());
        let buckets = now.buckets.iter().zip(&last.buckets).zip(bounds);
        for ((now, last), bound_us) in buckets.filter(|((now, last), _)| now > last) {
            let value = *bound_us as f64 / 1e3;
            lines.push(self.line(name, &value.to_string(), "ms", now - last));
        }
    }

    /// `times` is how often the value occurred.
    fn line(&self, name: &str, value: &str, kind: &str, times: u64) -> String {
        let mut line = String::new();
        let sampled = if times > 1 { format!("|@{}", rate(times)) } else { String::new() };
        match self {
            Dialect::StatsD { tags } => {
                line.push_str(name);
                for (key, value) in tags {
                    let _ = write!(line, ".__{key}={}", value.replace(['.', ':', '|'], "_"));
                }
                let _ = write!(line, ":{value}|{kind}{sampled}");
            }
            Dialect::DogStatsD { tags, rewritings } => {
                let rewritten = rewritings.iter().find_map(|rewriting| rewriting.apply(name));
                let (name, own) = rewritten.unwrap_or_else(|| (name.to_owned(), Vec::new()));
                let _ = write!(line, "{name}:{value}|{kind}{sampled}");
                let tags =
                    tags.iter().chain(&own).map(|(key, value)| format!("{key}:{}", value.replace(['|', ','], "_")));
                let tags: Vec<String> = tags.collect();
                if !tags.is_empty() {
                    let _ = write!(line, "|#{}", tags.join(","));
                }
            }
        }
        line.push('\n');
        line
    }
}

/// The rate at which something that occurred `times` was sampled, so that it is counted whole: statsd_exporter takes the
/// whole part of `1/rate`, in double precision, and so must find at least `times` there.
fn rate(times: u64) -> String {
    // As many digits as keep the whole part from being one more.
    let digits = (2 * times.to_string().len() + 2).clamp(12, 36);
    let scale = 10_u128.pow(digits as u32);
    let mut rate = scale / u128::from(times);
    loop {
        let text = format!("0.{rate:0digits$}");
        let counted = text.parse().map_or(times, |rate: f64| (1.0 / rate) as u64);
        if counted >= times {
            return text.trim_end_matches('0').to_owned();
        }
        rate -= 1;
    }
}

impl Rewriting {
    fn apply(&self, name: &str) -> Option<(String, Vec<(String, String)>)> {
        let captures = self.pattern.captures(name)?;
        let tags = self.tags.iter().map(|(key, value)| (key.clone(), expanded(&captures, value)));
        Some((expanded(&captures, &self.name), tags.collect()))
    }
}

fn expanded(captures: &Captures<'_>, template: &str) -> String {
    let mut text = String::new();
    captures.expand(template, &mut text);
    text
}
