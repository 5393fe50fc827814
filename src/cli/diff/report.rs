//! A comparison in lines, by what matters most: the same for text and for a comment.

use crate::{
    rules::{OverrideChange, OverrideChangeKind, OverrideChanges, RulesDiff, SettingChange},
    visible,
};

/// What a line is about, as a comment marks it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Removed,
    Changed,
    Added,
}

pub(super) struct Line {
    pub(super) mark: Mark,
    /// Fit for a terminal.
    pub(super) text: String,
}

pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
    /// What is known besides, such as how many lines are left out.
    pub(super) note: String,
}

pub(super) struct Report {
    /// Each kind of difference with its number.
    pub(super) summary: String,
    pub(super) sections: Vec<Section>,
}

impl Report {
    pub(super) fn of(diff: &RulesDiff<'_>) -> Report {
        let sections = [
            domains(diff),
            other_rules(diff),
            limits(diff),
            moved(diff),
            tiers(diff),
            defaults(diff),
            overrides(diff),
            rules(diff),
        ];
        let sections = sections.into_iter().filter(|section| !section.lines.is_empty() || !section.note.is_empty());
        Report { summary: summary(diff), sections: sections.collect() }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for section in &self.sections {
            out += &format!("{}:\n", section.title);
            for line in &section.lines {
                out += &format!("  {}\n", line.text);
            }
            if !section.note.is_empty() {
                out += &format!("  ({})\n", section.note);
            }
        }
        out + &self.summary + "\n"
    }
}

/// `12,345`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn plural(count: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

fn summary(diff: &RulesDiff<'_>) -> String {
    if diff.is_empty() {
        return "no difference".to_owned();
    }
    let counted = [
        (diff.domains_added.len() + diff.domains_removed.len(), "domain"),
        (diff.limits.len(), "limit"),
        (diff.moved.len(), "moved rule"),
        (diff.rules.len(), "rule setting"),
        (diff.tiers.len(), "tier"),
        (diff.defaults.len(), "default"),
        (diff.overrides.differing(), "override"),
    ];
    let mut parts: Vec<String> =
        counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| plural(count, what)).collect();
    if !diff.other_rules.found.is_empty() {
        parts.push(format!("{} of requests that meet another rule", plural(diff.other_rules.found.len(), "kind")));
    }
    format!("differs: {}", parts.join(", "))
}

fn line(mark: Mark, text: impl AsRef<str>) -> Line {
    Line { mark, text: visible::text(text.as_ref()).into_owned() }
}

fn mark_of<T, U>(before: &Option<T>, after: &Option<U>) -> Mark {
    match (before, after) {
        (Some(_), None) => Mark::Removed,
        (None, Some(_)) => Mark::Added,
        _ => Mark::Changed,
    }
}

fn section(title: &'static str, lines: Vec<Line>) -> Section {
    Section { title, lines, note: String::new() }
}

fn domains(diff: &RulesDiff<'_>) -> Section {
    let removed = diff.domains_removed.iter().map(|name| line(Mark::Removed, format!("{name}: removed")));
    let added = diff.domains_added.iter().map(|name| line(Mark::Added, format!("{name}: added")));
    section("domains", removed.chain(added).collect())
}

fn other_rules(diff: &RulesDiff<'_>) -> Section {
    let found = diff.other_rules.found.iter().map(|found| {
        let mark = match found.limited {
            (true, false) => Mark::Removed,
            (false, true) => Mark::Added,
            _ => Mark::Changed,
        };
        line(mark, format!("{}: {found}", found.domain))
    });
    let lines: Vec<Line> = found.collect();
    let note = match diff.other_rules.is_cut {
        true => format!("{} descriptors were tried, and there are more", grouped(diff.other_rules.tried)),
        false => String::new(),
    };
    Section { title: "requests that meet another rule", lines, note }
}

fn limits(diff: &RulesDiff<'_>) -> Section {
    let mut lines: Vec<Line> =
        diff.limits.iter().map(|change| line(mark_of(&change.before, &change.after), change.to_string())).collect();
    lines.sort_by_key(|line| match line.mark {
        Mark::Removed => 0,
        Mark::Changed => 1,
        Mark::Added => 2,
    });
    section("limits", lines)
}

fn moved(diff: &RulesDiff<'_>) -> Section {
    section("moved rules", diff.moved.iter().map(|moved| line(Mark::Changed, moved.to_string())).collect())
}

/// Limits that a line names.
const NAMED_MAX: usize = 5;

fn tiers(diff: &RulesDiff<'_>) -> Section {
    let lines = diff.tiers.iter().map(|change| {
        let named: Vec<&str> = change.limits.iter().take(NAMED_MAX).map(|id| &**id).collect();
        let mut reached = match change.limits.len() {
            0 => Vec::new(),
            all if all > NAMED_MAX => vec![format!("{} and {} more limits", named.join(", "), all - NAMED_MAX)],
            _ => vec![named.join(", ")],
        };
        if change.overrides > 0 {
            reached.push(plural(change.overrides, "override"));
        }
        let reached = if reached.is_empty() { "reaches nothing".to_owned() } else { reached.join(" and ") };
        let verb = match (&change.after, reached.starts_with("reaches")) {
            (_, true) => "",
            (Some(_), _) => "reaches ",
            (None, _) => "reached ",
        };
        line(mark_of(&change.before, &change.after), format!("{}: {change}; {verb}{reached}", change.domain))
    });
    section("tiers", lines.collect())
}

fn settings(changes: &[SettingChange], name: impl Fn(&SettingChange) -> String) -> Vec<Line> {
    let words = |change: &SettingChange| match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("{before} → {after}"),
        (None, Some(after)) => format!("added, {after}"),
        (before, _) => format!("removed, had {}", before.as_deref().unwrap_or("nothing")),
    };
    let line = |change: &SettingChange| {
        line(mark_of(&change.before, &change.after), format!("{}: {}", name(change), words(change)))
    };
    changes.iter().map(line).collect()
}

fn defaults(diff: &RulesDiff<'_>) -> Section {
    section("defaults", settings(&diff.defaults, |change| format!("{}: {}", change.domain, change.what)))
}

fn rules(diff: &RulesDiff<'_>) -> Section {
    section("rules", settings(&diff.rules, |change| change.what.to_string()))
}

/// Groups that are told.
const GROUPS_MAX: usize = 20;

fn overrides(diff: &RulesDiff<'_>) -> Section {
    let overrides = &diff.overrides;
    let differing = overrides.differing();
    let mut lines = Vec::new();
    // Where all are named anyway, nothing has to be put together.
    if overrides.rows.len() < differing {
        for group in overrides.groups.iter().take(GROUPS_MAX) {
            let (rows, kind) = (plural(group.rows, "override"), group.kind.name());
            lines.push(line(mark(group.kind), format!("{}: {rows} {kind}: {}", group.domain, group.words)));
        }
        if let Some(more) = overrides.groups.len().checked_sub(GROUPS_MAX).filter(|more| *more > 0) {
            lines.push(line(Mark::Changed, format!("and {} more such groups", grouped(more))));
        }
    }
    lines.extend(overrides.rows.iter().map(row));
    Section { title: "overrides", lines, note: note(overrides) }
}

fn mark(kind: OverrideChangeKind) -> Mark {
    match kind {
        OverrideChangeKind::Removed | OverrideChangeKind::Expired => Mark::Removed,
        OverrideChangeKind::Changed => Mark::Changed,
        OverrideChangeKind::Added => Mark::Added,
    }
}

fn row(change: &OverrideChange<'_>) -> Line {
    let rule = change.rule.map(|rule| format!(" of {rule}")).unwrap_or_default();
    let text = format!("{}: {}{rule}: {}, {}", change.domain, change.matched(), change.kind.name(), change.words);
    line(mark(change.kind), text)
}

fn note(overrides: &OverrideChanges<'_>) -> String {
    let (differing, named) = (overrides.differing(), overrides.rows.len());
    let mut parts = Vec::new();
    if differing > 0 {
        let kinds = OverrideChangeKind::ALL.map(|kind| (overrides.count(kind), kind.name()));
        let kinds = kinds.into_iter().filter(|(count, _)| *count > 0);
        parts.extend(kinds.map(|(count, name)| format!("{} {name}", grouped(count))));
        let (before, after) = overrides.in_force;
        parts.push(format!("{} in force before and {} after", grouped(before), grouped(after)));
    }
    if named < differing {
        parts.push(format!("{} are not named: see --top", grouped(differing - named)));
    }
    if overrides.ended > 0 {
        let (has, it) = if overrides.ended == 1 { ("has", "it has") } else { ("have", "they have") };
        parts.push(format!("{} of the new rules {has} ended: {it} no effect", plural(overrides.ended, "override")));
    }
    parts.join("; ")
}
