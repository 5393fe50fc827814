//! Moments as text: RFC 3339, or a date for its first instant, in UTC unless an offset says otherwise. Rule files, the
//! API and the command line all write them like this.

#[cfg(test)]
mod tests;

use prost_types::Timestamp;

use crate::limit::UnixMicros;

/// The latest moment: beyond it a double no longer holds every microsecond (the year 2255). Whoever writes `9999-12-31`
/// means never.
const LAST: u64 = (1 << 53) - 1;

/// Reads `2027-01-01`, `2027-01-01T08:30:00Z` or `2027-01-01T08:30:00.25+02:00`. The error is for people, and doesn't
/// repeat the text.
pub fn parse(text: &str) -> Result<UnixMicros, &'static str> {
    let Timestamp { seconds, nanos } =
        text.trim().parse().map_err(|_| "write it as 2027-01-01 or 2027-01-01T08:30:00Z")?;
    let seconds = u64::try_from(seconds).map_err(|_| "it is before 1970")?;
    let micros = seconds.saturating_mul(1_000_000).saturating_add(nanos as u64 / 1_000);
    Ok(UnixMicros(micros.min(LAST)))
}

/// The moment as text in UTC, with a fraction only if there is one: [`parse`] reads it back.
pub fn text(moment: UnixMicros) -> String {
    let (seconds, nanos) = ((moment.0 / 1_000_000) as i64, (moment.0 % 1_000_000) as i32 * 1_000);
    Timestamp { seconds, nanos }.to_string()
}
