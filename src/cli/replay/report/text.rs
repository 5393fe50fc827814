//! A report for people.

use std::fmt::Write as _;

use super::{CounterReport, LimitReport, OverTime, PeakReport, Report};
use crate::{
    cli::{
        replay::{fit::Fit, timeline::sparkline},
        show::{self, Paint, Tone},
    },
    limit::moment::length_in_words,
    visible,
};

/// Limits without a request that are named.
const UNMET_NAMED: usize = 10;

pub(in crate::cli::replay) fn report(report: &Report, paint: Paint) -> String {
    let mut out = paint.on(Tone::Strong, &heading(report)) + "\n";
    out += &notes(report).iter().map(|note| format!("{}\n", paint.on(Tone::Attention, note))).collect::<String>();
    out += &answers(report);
    out += &over_time(&report.over_time);
    out += &limits(report);
    out += &counters("refused most", &report.most_refused, paint);
    for (title, listed) in [("newly refused", &report.newly_refused), ("newly admitted", &report.newly_admitted)] {
        out += &listed.as_deref().map(|listed| counters(title, listed, paint)).unwrap_or_default();
    }
    report.fit.iter().for_each(|fit| out += &fitted(fit, paint));
    out
}

/// `200,000 requests in 60 min, from 2026-11-29T07:00:00Z to 2026-11-29T08:00:00Z`.
pub(super) fn heading(report: &Report) -> String {
    let length = length_in_words((report.seconds * 1e6) as u64);
    format!("{} in {length}, from {} to {}", several(report.requests, "request"), report.from, report.to)
}

/// What has to be known to read the numbers.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(sample) = &report.sample {
        let of = match &*sample.by {
            [] => "clients".to_owned(),
            keys => format!("clients, by `{}`", visible::text(&keys.join("`, `"))),
        };
        notes.push(format!(
            "the log has {} of {of}: its {} are scaled to all, each stands for {}",
            sample.share,
            several(sample.requests, "request"),
            short(sample.factor),
        ));
        let shared: Vec<&str> =
            report.limits.iter().filter(|limit| limit.estimated).map(|limit| &*limit.limit_id).collect();
        if !shared.is_empty() {
            notes.push(format!(
                "estimated, because clients share their counters: {}",
                visible::text(&shared.join(", "))
            ));
        }
    }
    let log = &report.log;
    let mut counted = |count: u64, what: &str, rest: &str| {
        if count > 0 {
            notes.push(format!("{} {rest}", several(count, what)));
        }
    };
    counted(log.denials_left_out, "denial", "beside the sample left out: it has its own");
    counted(log.without_descriptor, "line", "with none of the descriptors left out");
    counted(log.out_of_order, "request", "came after later ones: played at the time of those");
    counted(log.incomplete, "request", "had more descriptors than the log has: played without them");
    counted(log.truncated, "log", "with a last line that is cut off: left out");
    notes
}

fn answers(report: &Report) -> String {
    let share = |part: u64, of: u64| format!("{:.2} %", 100.0 * part as f64 / of.max(1) as f64);
    let mut rows = vec![[
        "answered".to_owned(),
        number(report.admitted),
        number(report.refused),
        share(report.refused, report.requests),
    ]];
    if let Some(before) = &report.before {
        let from = if report.compared_with == Some("log") { "in the log" } else { "before" };
        rows.push([
            from.to_owned(),
            number(before.requests - before.refused),
            number(before.refused),
            share(before.refused, before.requests),
        ]);
    }
    let mut out = table(["", "ADMITTED", "REFUSED", "SHARE"], &rows, 3);
    if let Some(before) = &report.before {
        let _ = writeln!(
            out,
            "{} newly refused, {} newly admitted",
            several(before.newly_refused, "request"),
            number(before.newly_admitted)
        );
    }
    if report.not_limited > 0 {
        let _ = writeln!(out, "{} met no limit", several(report.not_limited, "request"));
    }
    out
}

fn over_time(times: &OverTime) -> String {
    let mut out = String::from("\n");
    let mut line = |name: &str, counts: &[u64], peak: Option<&PeakReport>| {
        let peak = peak.map(|peak| format!("  {}", in_words(peak))).unwrap_or_default();
        let _ = writeln!(out, "{name:<8} |{}|{peak}", sparkline(counts));
    };
    line("requests", &times.requests, times.peak_requests.as_ref());
    if let Some(before) = &times.refused_before {
        line("before", before, None);
    }
    line("refused", &times.refused, times.peak_refused.as_ref());
    out
}

/// `at most 1,234 in 60 s, at 2026-11-29T07:31:00Z`.
pub(super) fn in_words(peak: &PeakReport) -> String {
    format!("at most {} in {} s, at {}", number(peak.count), peak.seconds, peak.at)
}

fn limits(report: &Report) -> String {
    let (met, unmet): (Vec<_>, Vec<_>) = report.limits.iter().partition(|limit| is_met(limit));
    let mut out = String::new();
    if !met.is_empty() {
        out += "\n";
        out += &if met.iter().any(|limit| limit.refused_before.is_some()) { compared(&met) } else { alone(&met) };
    }
    if !unmet.is_empty() {
        let mut names: Vec<&str> = unmet.iter().take(UNMET_NAMED).map(|limit| &*limit.limit_id).collect();
        names.extend((unmet.len() > UNMET_NAMED).then_some("…"));
        let named = visible::text(&names.join(", ")).into_owned();
        let _ = writeln!(out, "{} met by no request: {named}", several(unmet.len() as u64, "limit"));
    }
    out
}

pub(super) fn is_met(limit: &LimitReport) -> bool {
    limit.counters > 0 || limit.refused_before.is_some_and(|refused| refused > 0)
}

fn alone(limits: &[&LimitReport]) -> String {
    let rows: Vec<[String; 8]> = limits
        .iter()
        .map(|limit| {
            [
                number(limit.admitted),
                number(limit.refused),
                number(limit.shadow),
                number(limit.counters),
                number(limit.counters_refused),
                visible::text(&limit.limit_id).into_owned(),
                limit.limit.clone().unwrap_or_default(),
                refused_over_time(limit),
            ]
        })
        .collect();
    let head = ["ADMITTED", "REFUSED", "SHADOW", "COUNTERS", "EVER REFUSED", "LIMIT", "", "REFUSED OVER TIME"];
    table(head, &rows, 5)
}

fn compared(limits: &[&LimitReport]) -> String {
    let rows: Vec<[String; 10]> = limits
        .iter()
        .map(|limit| {
            [
                number(limit.admitted),
                number(limit.refused_before.unwrap_or_default()),
                number(limit.refused),
                number(limit.shadow),
                number(limit.counters),
                number(limit.counters_refused_before.unwrap_or_default()),
                number(limit.counters_refused),
                visible::text(&limit.limit_id).into_owned(),
                change(limit),
                refused_over_time(limit),
            ]
        })
        .collect();
    let head = [
        "ADMITTED",
        "REFUSED BEFORE",
        "NOW",
        "SHADOW",
        "COUNTERS",
        "EVER REFUSED BEFORE",
        "NOW",
        "LIMIT",
        "",
        "REFUSED OVER TIME",
    ];
    table(head, &rows, 7)
}

/// `20 a minute, sliding_window → 30 a minute, sliding_window`.
pub(super) fn change(limit: &LimitReport) -> String {
    match (&limit.limit_before, &limit.limit) {
        (Some(before), Some(now)) if before == now => now.clone(),
        (Some(before), Some(now)) => format!("{before} → {now}"),
        (Some(before), None) => format!("{before}, removed"),
        (None, Some(now)) => format!("{now}, added"),
        // That of an override, which has a name of its own.
        (None, None) => String::new(),
    }
}

fn refused_over_time(limit: &LimitReport) -> String {
    match limit.refused {
        0 => String::new(),
        _ => format!("|{}|", sparkline(&limit.refused_over_time)),
    }
}

fn counters(title: &str, listed: &[CounterReport], paint: Paint) -> String {
    let mut out = format!("\n{}\n", paint.on(Tone::Strong, title));
    if listed.is_empty() {
        return out + "nobody\n";
    }
    let rows: Vec<[String; 3]> = listed
        .iter()
        .map(|counter| {
            let [limit, descriptor] =
                [&counter.limit_id, &counter.descriptor].map(|text| visible::text(text).into_owned());
            [number(counter.requests), limit, descriptor]
        })
        .collect();
    out += &table(["REQUESTS", "LIMIT", "DESCRIPTOR"], &rows, 1);
    out
}

fn fitted(fit: &Fit, paint: Paint) -> String {
    let id = visible::text(&fit.limit_id);
    let is = fit.limit.as_ref().map(|limit| format!(", which is {limit}")).unwrap_or_default();
    let mut out = format!("\n{}{is}\n", paint.on(Tone::Strong, &format!("fit of {id}")));
    let _ = writeln!(
        out,
        "{} a window: ever refuses {} of {} ({})",
        number(fit.proposed.requests.into()),
        number(fit.proposed.counters_refused),
        several(fit.counters, "counter"),
        fit.proposed.quantile,
    );
    let rows: Vec<[String; 3]> = fit
        .curve
        .iter()
        .map(|point| [number(point.requests.into()), number(point.counters_refused), point.quantile.clone()])
        .collect();
    out + &table(["REQUESTS", "EVER REFUSED", "NEVER REFUSED"], &rows, 2)
}

/// Without the blanks at the end that columns make where the last one is empty.
fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]], numbers: usize) -> String {
    show::table(headings, rows, numbers).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// With commas: `1,234,567`.
pub(in crate::cli::replay) fn number(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

pub(super) fn several(count: u64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

/// At most two decimals.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
