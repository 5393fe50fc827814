//! Writes the answers that came in the place of those that a case file expects. Nothing else of the file changes.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;

use super::play::{Difference, FailedRequest};
use crate::rules::{Case, WrittenExpectation};

/// One change of a line: characters from `start`, so many, and what stands there then.
struct Edit {
    line: u32,
    start: usize,
    length: usize,
    text: String,
}

/// The text with what came of the failed requests of each case, and how many values that changed.
pub(super) fn updated(text: &str, failed: &[(&Case, Vec<FailedRequest>)]) -> (String, usize) {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let mut edits = Vec::new();
    for (case, failures) in failed {
        for failure in failures {
            let asked = case.requests.iter().find(|request| request.line == failure.line);
            let written = asked.map_or(&[][..], |request| &request.written);
            let edit = |difference| edit_of(&lines, written, failure, difference);
            edits.extend(failure.differences.iter().filter_map(edit));
        }
    }
    // From the end of each line, so that places before stay true.
    edits.sort_by_key(|edit| (edit.line, std::cmp::Reverse(edit.start)));
    edits.dedup_by_key(|edit| (edit.line, edit.start));
    for Edit { line, start, length, text } in &edits {
        let line = &mut lines[*line as usize - 1];
        let before: String = line.chars().take(*start).collect();
        let after: String = line.chars().skip(start + length).collect();
        *line = before + text + &after;
    }
    (lines.join("\n"), edits.len())
}

/// Writes a file anew as a whole, with its permissions, so that a full disk leaves it as it was. Where it is a link, the file
/// that it leads to is written.
pub(super) fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let file = File::create_new(&beside).with_context(|| beside.display().to_string())?;
    let written = write(file, content, &path).and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    Ok(written?)
}

fn write(mut file: File, content: &[u8], like: &Path) -> io::Result<()> {
    file.set_permissions(fs::metadata(like)?.permissions())?;
    file.write_all(content)?;
    file.sync_all()
}

/// `None` where what came can't be written: an error, or a wait that there is none of.
fn edit_of(
    lines: &[String],
    written: &[WrittenExpectation],
    failure: &FailedRequest,
    difference: &Difference,
) -> Option<Edit> {
    let it = written.iter().find(|it| it.what == difference.what)?;
    let is_wait = difference.what.ends_with("reset") || difference.what.ends_with("retry_after");
    let is_answer = ["ok", "over_limit"].contains(&difference.got.as_str());
    if (is_wait && difference.got == "none") || (difference.what.ends_with("answer") && !is_answer) {
        return None;
    }
    let start = it.column as usize - 1;
    let length = length(lines.get(it.line as usize - 1)?, start, it.width as usize)?;
    let whole = |text: &str| Edit { line: it.line, start, length, text: scalar(text) };
    // Some of the times pass and others don't: their number is expected instead.
    let is_mixed = difference.what == "answer" && (1..failure.times).contains(&failure.admitted);
    match (is_mixed, it.key_column) {
        (false, _) if difference.what == "answer" => {
            Some(whole(if failure.admitted == failure.times { "ok" } else { "over_limit" }))
        }
        (false, _) => Some(whole(&difference.got)),
        (true, None) => Some(Edit { text: format!("{{admitted: {}}}", failure.admitted), ..whole("") }),
        (true, Some(key)) => {
            let key = key as usize - 1;
            let text = format!("admitted: {}", failure.admitted);
            Some(Edit { line: it.line, start: key, length: start + length - key, text })
        }
    }
}

/// Characters of a scalar on its line, with its quotes.
fn length(line: &str, start: usize, width: usize) -> Option<usize> {
    let mut rest = line.chars().skip(start);
    match rest.next()? {
        quote @ ('"' | '\'') => Some(rest.position(|c| c == quote)? + 2),
        _ => Some(width),
    }
}

/// As YAML within braces, in quotes where it would mean something else.
fn scalar(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/#=_.%-".contains(c));
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
