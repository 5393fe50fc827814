//! CSV as in RFC 4180, cell by cell with locations: commas, quotes that are doubled inside quotes, LF or CRLF. It
//! doesn't know what the cells mean.

use std::borrow::Cow;

use crate::rules::node::Location;

/// A cell of a record. Blanks around a cell without quotes are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Cell<'t> {
    pub(crate) text: Cow<'t, str>,
    line: u32,
    /// Positions in bytes of the whole text: the begin of its line, its own begin, and its end.
    line_start: usize,
    start: usize,
    end: usize,
}

/// Why a record can't be read, and where.
#[derive(Debug)]
pub(crate) struct CsvError {
    pub(super) at: Location,
    pub(crate) what: Cow<'static, str>,
    pub(crate) hint: Option<Cow<'static, str>>,
}

/// Reads the records of a text one after the other.
pub(crate) struct CsvReader<'t> {
    text: &'t str,
    at: usize,
    line: u32,
    line_start: usize,
}

impl<'t> CsvReader<'t> {
    pub(crate) fn new(text: &'t str) -> CsvReader<'t> {
        CsvReader { text, at: 0, line: 1, line_start: 0 }
    }

    /// Reads the next record into `cells`; `false` at the end. Empty lines are skipped. After an error nothing more can
    /// be read.
    pub(crate) fn next(&mut self, cells: &mut Vec<Cell<'t>>) -> Result<bool, CsvError> {
        cells.clear();
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b'\n' | b'\r')) {
            self.end_line();
        }
        if self.at == bytes.len() {
            return Ok(false);
        }
        loop {
            let cell = if bytes.get(self.at) == Some(&b'"') { self.quoted()? } else { self.plain()? };
            cells.push(cell);
            match bytes.get(self.at) {
                Some(b',') => self.at += 1,
                _ => {
                    self.end_line();
                    return Ok(true);
                }
            }
        }
    }

    fn end_line(&mut self) {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) == Some(&b'\r') {
            self.at += 1;
        }
        if bytes.get(self.at) == Some(&b'\n') {
            self.at += 1;
            self.line += 1;
            self.line_start = self.at;
        }
    }

    fn plain(&mut self) -> Result<Cell<'t>, CsvError> {
        let start = self.at;
        let bytes = &self.text.as_bytes()[start..];
        let length = bytes.iter().position(|byte| matches!(byte, b',' | b'\n' | b'\r')).unwrap_or(bytes.len());
        let whole = &self.text[start..start + length];
        let text = whole.trim_matches([' ', '\t']);
        let start = start + (whole.len() - whole.trim_start_matches([' ', '\t']).len());
        if let Some(quote) = text.find('"') {
            let hint = match quote {
                0 => "no blanks may stand before a quote",
                _ => "put the whole cell in quotes, and double the quotes that belong to it",
            };
            return Err(self.broken(start + quote, "a quote inside a cell", hint));
        }
        self.at += length;
        Ok(self.cell(Cow::Borrowed(text), start))
    }

    fn quoted(&mut self) -> Result<Cell<'t>, CsvError> {
        let (start, line, line_start) = (self.at, self.line, self.line_start);
        let bytes = self.text.as_bytes();
        let mut text = Cow::Borrowed("");
        let mut from = start + 1;
        let mut at = from;
        loop {
            match bytes.get(at) {
                None => {
                    (self.line, self.line_start) = (line, line_start);
                    return Err(self.broken(start, "this quote is never closed", "a quote inside quotes is doubled"));
                }
                Some(b'\n') => {
                    at += 1;
                    (self.line, self.line_start) = (self.line + 1, at);
                }
                Some(b'"') => {
                    let part = &self.text[from..at];
                    if text.is_empty() {
                        text = Cow::Borrowed(part);
                    } else {
                        text.to_mut().push_str(part);
                    }
                    at += 1;
                    if bytes.get(at) != Some(&b'"') {
                        break;
                    }
                    text.to_mut().push('"');
                    at += 1;
                    from = at;
                }
                Some(_) => at += 1,
            }
        }
        if !matches!(bytes.get(at), None | Some(b',' | b'\n' | b'\r')) {
            return Err(self.broken(at, "text after the closing quote", "a quote inside quotes is doubled"));
        }
        self.at = at;
        Ok(Cell { text, line, line_start, start, end: at })
    }

    fn cell(&self, text: Cow<'t, str>, start: usize) -> Cell<'t> {
        let end = start + text.len();
        Cell { text, line: self.line, line_start: self.line_start, start, end }
    }

    fn broken(&self, at: usize, what: &'static str, hint: &'static str) -> CsvError {
        let at = location(self.text, self.line, self.line_start, at, 1);
        CsvError { at, what: what.into(), hint: Some(hint.into()) }
    }
}

impl CsvError {
    /// Line and column, both from 1.
    pub(crate) fn line_column(&self) -> (u32, u32) {
        (self.at.line, self.at.column)
    }
}

impl Cell<'_> {
    /// Line and column in the text that it was read from, both from 1.
    pub(crate) fn line_column(&self, text: &str) -> (u32, u32) {
        let Location { line, column, .. } = self.location(text);
        (line, column)
    }

    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Location in the text that it was read from.
    pub(super) fn location(&self, text: &str) -> Location {
        let width = text[self.start..self.end].chars().take_while(|character| *character != '\n').count().max(1);
        location(text, self.line, self.line_start, self.start, width as u32)
    }
}

fn location(text: &str, line: u32, line_start: usize, at: usize, width: u32) -> Location {
    Location { line, column: text[line_start..at].chars().count() as u32 + 1, width }
}

#[cfg(test)]
mod tests;
