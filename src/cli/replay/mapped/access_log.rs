//! A format of Envoy's access log, and the values of a line in it: `[%START_TIME%] "%REQ(:METHOD)% …`. A value ends where the
//! text begins that stands behind its operator.

use std::{borrow::Cow, ops::Range};

/// Envoy's own format, with the short names of its operators.
pub(super) const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
     %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
     %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
     \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"";

/// Text, then an operator with the text behind it, and so on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TextFormat {
    before: String,
    operators: Vec<(String, String)>,
}

/// Where the value of each operator stands.
pub(super) struct Values<'l> {
    line: &'l str,
    places: Vec<Range<usize>>,
}

impl TextFormat {
    /// Reads a format. The error is for people.
    pub(super) fn parse(format: &str) -> Result<TextFormat, String> {
        let format = format.trim_end();
        let (before, mut rest) = format.split_once('%').ok_or("it has no operator such as %START_TIME%")?;
        let mut operators: Vec<(String, String)> = Vec::new();
        loop {
            let length = operator(rest).ok_or_else(|| format!("an operator has no end: %{rest}"))?;
            let (name, after) = (&rest[..length], &rest[length + 1..]);
            let (text, next) = after.split_once('%').map_or((after, None), |(text, next)| (text, Some(next)));
            if text.is_empty() && next.is_some() {
                return Err(format!("there must be some text behind %{name}%"));
            }
            operators.push((name.to_owned(), text.to_owned()));
            match next {
                Some(next) => rest = next,
                None => return Ok(TextFormat { before: before.to_owned(), operators }),
            }
        }
    }

    /// Finds the values of a line.
    pub(super) fn values<'l>(&self, line: &'l str) -> Result<Values<'l>, String> {
        let wrong = |name: &str| format!("the line isn't in the format, from %{name}% on");
        let first = self.operators.first().map_or("", |(name, _)| name);
        let mut at = line.starts_with(&self.before).then_some(self.before.len()).ok_or_else(|| wrong(first))?;
        let mut places = Vec::with_capacity(self.operators.len());
        for (nth, (name, behind)) in self.operators.iter().enumerate() {
            let rest = &line[at..];
            let is_last = nth + 1 == self.operators.len();
            let length = if is_last { rest.strip_suffix(&**behind).map(str::len) } else { rest.find(&**behind) };
            let length = length.ok_or_else(|| wrong(name))?;
            places.push(at..at + length);
            at += length + behind.len();
        }
        Ok(Values { line, places })
    }

    /// The value of an operator, which may be named without what is in its brackets where it is the time.
    pub(super) fn value<'l>(&self, values: &Values<'l>, name: &str) -> Result<Cow<'l, str>, String> {
        let is_it = |own: &str| own == name || (name == "START_TIME" && own.starts_with("START_TIME("));
        let position = self.operators.iter().position(|(own, _)| is_it(own)).ok_or_else(|| {
            let known: Vec<&str> = self.operators.iter().map(|(own, _)| &**own).collect();
            format!("the format has no %{name}%: it has {}", known.join(", "))
        })?;
        Ok(values.line[values.places[position].clone()].into())
    }
}

/// Bytes of an operator up to the sign that ends it; there may be such signs in its brackets.
fn operator(text: &str) -> Option<usize> {
    let end = text.find('%')?;
    match text.find('(').filter(|open| *open < end) {
        None => Some(end),
        Some(open) => {
            let close = open + text[open..].find(')')?;
            Some(close + text[close..].find('%')?)
        }
    }
}
