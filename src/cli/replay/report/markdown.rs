//! A report as a comment of a pull request: what changed comes first, and what doesn't fit is left out.

use std::fmt::Write as _;

use super::{
    CounterReport, LimitReport, Report,
    text::{change, heading, is_met, notes, number, several},
};
use crate::{
    cli::replay::{fit::Fit, timeline::sparkline},
    visible,
};

/// GitHub takes 65,536 characters for a comment.
const CHARACTERS_MAX: usize = 60_000;

pub(in crate::cli::replay) fn report(report: &Report) -> String {
    let mut out = format!("### Replay of {}\n\n", heading(report));
    notes(report).iter().for_each(|note| {
        let _ = writeln!(out, "> {note}\n");
    });
    out += &answers(report);
    let mut parts = vec![limits(report)];
    for (title, listed) in [("Newly refused", &report.newly_refused), ("Newly admitted", &report.newly_admitted)] {
        parts
            .extend(listed.as_deref().filter(|listed| !listed.is_empty()).map(|listed| counters(title, listed.iter())));
    }
    parts.extend(report.fit.iter().map(fitted));
    parts.push(counters("Refused most", report.most_refused.iter()));
    let mut left_out = 0;
    for line in parts.iter().flat_map(|part| part.lines()) {
        match out.chars().count() + line.chars().count() < CHARACTERS_MAX {
            true if left_out == 0 => out += &format!("{line}\n"),
            _ => left_out += 1,
        }
    }
    if left_out > 0 {
        let _ = writeln!(out, "\n… and {} more", several(left_out, "line"));
    }
    out
}

fn answers(report: &Report) -> String {
    let mut out = String::from("| | admitted | refused | |\n|---|---:|---:|---|\n");
    let mut row = |name: &str, requests: u64, refused: u64, counts: &[u64]| {
        let (admitted, refused) = (number(requests - refused), number(refused));
        let _ = writeln!(out, "| {name} | {admitted} | {refused} | {} |", spark(counts));
    };
    if let Some(before) = &report.before {
        let name = if report.compared_with == Some("log") { "in the log" } else { "before" };
        row(name, before.requests, before.refused, report.over_time.refused_before.as_deref().unwrap_or_default());
    }
    row("these rules", report.requests, report.refused, &report.over_time.refused);
    if let Some(before) = &report.before {
        let (refused, admitted) = (several(before.newly_refused, "request"), number(before.newly_admitted));
        let _ = writeln!(out, "\n**{refused} newly refused, {admitted} newly admitted**");
    }
    out
}

fn limits(report: &Report) -> String {
    let mut met: Vec<&LimitReport> = report.limits.iter().filter(|limit| is_met(limit)).collect();
    let changed = |limit: &LimitReport| limit.newly_refused.unwrap_or(0) + limit.newly_admitted.unwrap_or(0);
    met.sort_by_key(|limit| std::cmp::Reverse((changed(limit), limit.refused)));
    let mut out = String::from(
        "\n| limit | | refused before | refused | counters | ever refused before | ever refused | over time |\n\
         |---|---|---:|---:|---:|---:|---:|---|\n",
    );
    for limit in met {
        let known = |count: Option<u64>| count.map(number).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            code(&limit.limit_id),
            change(limit),
            known(limit.refused_before),
            number(limit.refused),
            number(limit.counters),
            known(limit.counters_refused_before),
            number(limit.counters_refused),
            if limit.refused > 0 { spark(&limit.refused_over_time) } else { String::new() },
        );
    }
    out
}

fn counters<'a>(title: &str, listed: impl Iterator<Item = &'a CounterReport>) -> String {
    let mut out = format!("\n**{title}**\n\n| requests | limit | descriptor |\n|---:|---|---|\n");
    for counter in listed {
        let (limit, descriptor) = (code(&counter.limit_id), code(&counter.descriptor));
        let _ = writeln!(out, "| {} | {limit} | {descriptor} |", number(counter.requests));
    }
    out
}

fn fitted(fit: &Fit) -> String {
    let mut out = format!(
        "\n**Fit of {}**: {} a window ever refuses {} of {} ({})\n\n\
         | never refused | requests | ever refused |\n|---|---:|---:|\n",
        code(&fit.limit_id),
        number(fit.proposed.requests.into()),
        number(fit.proposed.counters_refused),
        several(fit.counters, "counter"),
        fit.proposed.quantile,
    );
    for point in &fit.curve {
        let (requests, refused) = (number(point.requests.into()), number(point.counters_refused));
        let _ = writeln!(out, "| {} | {requests} | {refused} |", point.quantile);
    }
    out
}

fn spark(counts: &[u64]) -> String {
    format!("`{}`", sparkline(counts).replace(' ', "·"))
}

/// Text of others as code, in a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", visible::text(text).replace('`', "'").replace('|', "\\|"))
}
