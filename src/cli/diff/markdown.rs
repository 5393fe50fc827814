//! A comparison as the comment of a pull request: what matters most first, and never longer than a comment may be.

use super::report::{Line, Mark, Report, Section, grouped};
use crate::visible;

/// Longest comment in characters; GitHub takes 65,536.
const CHARACTERS_MAX: usize = 60_000;

/// Longest line in characters: an id may be as long as its file.
const LINE_MAX: usize = 1_000;

/// Kept back for headings, and for what is said of lines that are left out.
const KEPT_BACK: usize = 4_000;

pub(super) fn write(report: &Report, old: &str, new: &str) -> String {
    let mut out = format!("### Limits: {} → {}\n\n{}\n", code(old), code(new), code(&report.summary));
    let mut left = CHARACTERS_MAX - KEPT_BACK - out.chars().count().min(KEPT_BACK);
    for (at, section) in report.sections.iter().enumerate() {
        // What comes later isn't crowded out by what comes first.
        let budget = if at + 1 == report.sections.len() { left } else { left / 2 };
        let text = part(section, budget);
        left = left.saturating_sub(text.chars().count());
        out += &text;
    }
    out
}

fn part(section: &Section, budget: usize) -> String {
    let lines: Vec<String> = section.lines.iter().map(marked).collect();
    // A fence within a line would end this one.
    let fence = "`".repeat(longest_run(&lines).max(2) + 1);
    let (mut used, mut fitting) = (2 * fence.len(), 0);
    for line in &lines {
        used += line.chars().count() + 1;
        if used > budget {
            break;
        }
        fitting += 1;
    }
    let mut out = format!("\n#### {}\n", capital(section.title));
    if fitting > 0 {
        out += &format!("\n{fence}diff\n{}\n{fence}\n", lines[..fitting].join("\n"));
    }
    if fitting < lines.len() {
        out += &format!(
            "\n{} more lines are left out here: `tollgate diff` prints them.\n",
            grouped(lines.len() - fitting)
        );
    }
    if !section.note.is_empty() {
        out += &format!("\n{}.\n", capital(&section.note));
    }
    out
}

fn marked(line: &Line) -> String {
    let mark = match line.mark {
        Mark::Removed => '-',
        Mark::Changed => '!',
        Mark::Added => '+',
    };
    let mut text: String = line.text.chars().take(LINE_MAX).collect();
    if text.len() < line.text.len() {
        text.push('…');
    }
    format!("{mark} {text}")
}

/// As a span of code, in which nothing has a meaning of its own.
fn code(text: &str) -> String {
    let text: String = visible::text(text).chars().take(LINE_MAX).collect();
    let fence = "`".repeat(longest_run(&[&text]) + 1);
    if text.starts_with('`') || text.ends_with('`') {
        format!("{fence} {text} {fence}")
    } else {
        format!("{fence}{text}{fence}")
    }
}

fn longest_run(lines: &[impl AsRef<str>]) -> usize {
    let runs = lines.iter().flat_map(|line| line.as_ref().split(|character| character != '`'));
    runs.map(str::len).max().unwrap_or(0)
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
