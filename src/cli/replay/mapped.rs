//! Logs of other programs: Envoy's access log, as JSON or as text, and CSV. A file of fields says what makes a request.

mod access_log;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, path::Path, rc::Rc};

use anyhow::{Context as _, bail};
use serde_json::Value;

use self::access_log::TextFormat;
use super::{
    input::{LineFormat, LineRead},
    line,
    recorded::Recorded,
};
use crate::{
    limit::{Code, UnixMicros, moment},
    rules::{LogFields, Source, Template, TemplatePart, rows::csv::CsvReader},
};

/// What an access log has where there is nothing.
const NOTHING: &str = "-";

/// Reads the file of fields.
pub(super) fn fields(path: &Path) -> anyhow::Result<Rc<LogFields>> {
    let source = Source::read(path).with_context(|| format!("{} can't be read", path.display()))?;
    match LogFields::read(&source) {
        (Some(fields), _) => Ok(Rc::new(fields)),
        (None, problems) => bail!("the file of fields has errors:\n{}", problems.render()),
    }
}

/// Envoy's access log: lines of JSON, or of text in a format.
pub(super) struct EnvoyLog {
    fields: Rc<LogFields>,
    format: TextFormat,
}

/// Comma-separated values, whose first record has the names of the columns.
pub(super) struct Csv {
    fields: Rc<LogFields>,
    columns: Option<Vec<String>>,
}

impl EnvoyLog {
    pub(super) fn new(fields: Rc<LogFields>) -> anyhow::Result<EnvoyLog> {
        let format = TextFormat::parse(fields.format.as_deref().unwrap_or(access_log::DEFAULT));
        let format = format.map_err(|why| anyhow::anyhow!("`format` of the file of fields: {why}"))?;
        Ok(EnvoyLog { fields, format })
    }
}

impl LineFormat for EnvoyLog {
    fn read(&mut self, line: &[u8], into: &mut Recorded) -> Result<LineRead, String> {
        if line.first() == Some(&b'{') {
            let object: Value = serde_json::from_slice(line).map_err(|error| line::in_words(&error))?;
            return request(&self.fields, |name| Ok(of_json(&object, name)), into);
        }
        let line = text(line)?;
        let values = self.format.values(line)?;
        request(&self.fields, |name| self.format.value(&values, name).map(Some), into)
    }
}

impl Csv {
    pub(super) fn new(fields: Rc<LogFields>) -> Csv {
        Csv { fields, columns: None }
    }

    fn read_columns(&mut self, record: &[Cow<'_, str>]) -> Result<LineRead, String> {
        let columns: Vec<String> = record.iter().map(|cell| cell.trim_start_matches('\u{feff}').to_owned()).collect();
        if let Some(unknown) = self.fields.names().find(|name| !columns.iter().any(|column| column == name)) {
            return Err(format!("there is no column `{unknown}`: the first line has {}", columns.join(", ")));
        }
        self.columns = Some(columns);
        Ok(LineRead::Heading)
    }
}

impl LineFormat for Csv {
    fn read(&mut self, line: &[u8], into: &mut Recorded) -> Result<LineRead, String> {
        let mut cells = Vec::new();
        CsvReader::new(text(line)?).next(&mut cells).map_err(|broken| broken.what.into_owned())?;
        let cells: Vec<Cow<'_, str>> = cells.into_iter().map(|cell| cell.text).collect();
        let Some(columns) = &self.columns else { return self.read_columns(&cells) };
        if cells.len() != columns.len() {
            return Err(format!("there are {} values, and {} columns", cells.len(), columns.len()));
        }
        let value = |name: &str| columns.iter().position(|column| column == name).map(|at| Cow::Borrowed(&*cells[at]));
        request(&self.fields, |name| Ok(value(name)), into)
    }

    /// A line break within quotes.
    fn goes_on(&self, line: &[u8]) -> bool {
        line.iter().filter(|byte| **byte == b'"').count() % 2 == 1
    }
}

fn text(line: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(line).map_err(|_| "this isn't UTF-8 text".to_owned())
}

/// A field of an object, or of an object within: `jwt.sub`.
fn of_json<'v>(object: &'v Value, name: &str) -> Option<Cow<'v, str>> {
    let found = object.get(name).or_else(|| name.split('.').try_fold(object, |within, part| within.get(part)))?;
    match found {
        Value::String(text) => Some(text.into()),
        Value::Number(_) | Value::Bool(_) => Some(found.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Makes a request of the fields of a line. `value` is the value of a field, if the line has it.
fn request<'v>(
    fields: &LogFields,
    value: impl Fn(&str) -> Result<Option<Cow<'v, str>>, String>,
    into: &mut Recorded,
) -> Result<LineRead, String> {
    let filled = |template: &Template| filled(template, &value);
    into.clear();
    for descriptor in &fields.descriptors {
        let mut is_whole = true;
        for (key, template) in descriptor {
            let Some(value) = filled(template)? else {
                is_whole = false;
                break;
            };
            let (key, value) = (into.keep(key), into.keep(&value));
            into.push_entry(key, value);
        }
        // As Envoy, which sends no descriptor of which an entry has no value.
        if is_whole { into.end_descriptor(None, None) } else { into.drop_descriptor() }
    }
    if !into.has_descriptors() {
        return Ok(LineRead::Nothing);
    }
    into.at = time(filled(&fields.time)?.as_deref())?;
    let domain = filled(&fields.domain)?.ok_or("there is no domain")?;
    let domain = into.keep(&domain);
    into.set_domain(domain);
    if let Some(hits) = fields.hits.as_ref().map(filled).transpose()?.flatten() {
        into.hits = hits.trim().parse().map_err(|_| format!("`hits` are no whole number: {hits}"))?;
    }
    into.code = fields.answer.as_ref().map(filled).transpose()?.flatten().map(|answer| answered(&answer));
    Ok(LineRead::Request)
}

/// `None` if one of its fields has no value.
fn filled<'v>(
    template: &Template,
    value: impl Fn(&str) -> Result<Option<Cow<'v, str>>, String>,
) -> Result<Option<String>, String> {
    let mut text = String::new();
    for part in &template.0 {
        match part {
            TemplatePart::Text(part) => text += part,
            TemplatePart::Field(name) => match value(name)? {
                Some(value) if !value.is_empty() && value != NOTHING => text += &value,
                _ => return Ok(None),
            },
        }
    }
    Ok(Some(text))
}

/// RFC 3339, or seconds since the epoch.
fn time(text: Option<&str>) -> Result<UnixMicros, String> {
    let text = text.ok_or("there is no time")?;
    let read = match text.trim().parse::<f64>() {
        Ok(seconds) => line::moment(seconds).ok_or("it isn't in seconds since 1970"),
        Err(_) => moment::parse(text),
    };
    read.map_err(|why| format!("`{text}` is no time: {why}"))
}

fn answered(answer: &str) -> Code {
    if matches!(answer.trim(), "429" | "OVER_LIMIT") { Code::OverLimit } else { Code::Ok }
}
