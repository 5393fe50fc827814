//! Moments as text: RFC 3339, or a date for its first instant, in UTC unless an offset says otherwise. Rule files, the
//! API and the command line all write them like this.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use jiff::{
    Timestamp,
    fmt::temporal::{DateTimePrinter, Pieces},
    tz::Offset,
};

use crate::limit::UnixMicros;

/// The latest moment: beyond it a double no longer holds every microsecond (the year 2255). Whoever writes `9999-12-31`
/// means never.
const LAST: u64 = (1 << 53) - 1;

/// A year of which every moment is after [`LAST`], whatever its offset.
const YEAR_AFTER_LAST: i16 = 2257;

/// No offset is as long, in seconds.
const DAY: u32 = 86_400;

/// Bytes of `2027-01-01T08:30:00`.
const WITH_SECONDS: usize = 19;

const FORM: &str = "write it as 2027-01-01 or 2027-01-01T08:30:00Z";

/// Reads `2027-01-01`, `2027-01-01T08:30:00Z` or `2027-01-01T08:30:00.25+02:00`. The error is for people, and doesn't
/// repeat the text.
pub fn parse(text: &str) -> Result<UnixMicros, &'static str> {
    let text = usual(text.trim());
    let pieces = Some(&*text).filter(|text| is_rfc_3339(text)).and_then(|text| Pieces::parse(text).ok()).ok_or(FORM)?;
    let offset = pieces.to_numeric_offset().unwrap_or(Offset::UTC);
    if offset.seconds().unsigned_abs() >= DAY {
        return Err(FORM);
    }
    if pieces.date().year() >= YEAR_AFTER_LAST {
        return Ok(UnixMicros(LAST));
    }
    let time = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    let at = offset.to_timestamp(time).map_err(|_| FORM)?;
    if at < Timestamp::UNIX_EPOCH {
        return Err("it is before 1970");
    }
    Ok(UnixMicros(at.as_microsecond().unsigned_abs().min(LAST)))
}

/// Dates and times have other forms, which would be read too: weeks, no separators, no seconds, names of time zones.
fn is_rfc_3339(text: &str) -> bool {
    let text = text.as_bytes();
    let has = |at: usize, byte: u8| text.get(at) == Some(&byte);
    let is_date = text.first().is_some_and(u8::is_ascii_digit) && has(4, b'-') && has(7, b'-');
    is_date && (text.len() == 10 || has(13, b':') && has(16, b':')) && !text.iter().any(|byte| b"[,".contains(byte))
}

/// Some programs put a blank before the offset, or write a fraction longer than nanoseconds.
fn usual(text: &str) -> Cow<'_, str> {
    const NANOS: usize = 9;
    let mut usual = Cow::Borrowed(text);
    if let Some((time, offset)) = text.rsplit_once(' ').filter(|(time, _)| time.len() >= WITH_SECONDS)
        && offset.starts_with(['+', '-', 'Z', 'z'])
    {
        usual = Cow::Owned(format!("{time}{offset}"));
    }
    if let Some((whole, fraction)) = usual.split_once('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits > NANOS {
            usual = Cow::Owned(format!("{whole}.{}{}", &fraction[..NANOS], &fraction[digits..]));
        }
    }
    usual
}

/// In UTC, with a fraction only where there is one, of milliseconds or microseconds: [`parse`] reads it back. The last
/// moment that has a form is at the end of the year 9999.
pub fn write(moment: UnixMicros) -> String {
    let at = i64::try_from(moment.0).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let digits = match moment.0 {
        whole if whole.is_multiple_of(1_000_000) => 0,
        millis if millis.is_multiple_of(1_000) => 3,
        _ => 6,
    };
    DateTimePrinter::new().precision(Some(digits)).timestamp_to_string(&at.unwrap_or(Timestamp::MAX))
}

/// How far a moment is from now, in its largest unit: `in 4 h`, `3 min ago`, `now`.
pub fn distance(at: UnixMicros, now: UnixMicros) -> String {
    let (length, is_past) = (at.0.abs_diff(now.0), at < now);
    // Nobody looks at a clock more closely than to the second.
    match length_in_words(length.saturating_add(500_000) / 1_000_000 * 1_000_000) {
        _ if length < 1_000_000 => "now".to_owned(),
        words if is_past => format!("{words} ago"),
        words => format!("in {words}"),
    }
}

/// A length of time in its largest unit, rounded to the nearest: `4 h`, `90 min`, `10 ms`.
pub fn length_in_words(micros: u64) -> String {
    // From twice a unit on, so that half as much more is not lost: 90 min, 36 h.
    const UNITS: [(&str, u64); 6] =
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("µs", 1)];
    let rounded = |size: u64| micros.saturating_add(size / 2) / size;
    let fits = |(_, size): &&(&str, u64)| {
        let count = rounded(*size);
        (count >= 2 && micros.saturating_add(size / 60) >= 2 * size)
            || (count == 1 && micros.abs_diff(*size) <= size / 60)
    };
    let (unit, size) = UNITS.iter().find(fits).unwrap_or(&UNITS[UNITS.len() - 1]);
    format!("{} {unit}", rounded(*size))
}
