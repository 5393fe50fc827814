//! The meaning of a scalar without quotes, as go-yaml v2 resolves it, so that files of envoyproxy/ratelimit mean the
//! same here. It knows no rules.

/// The meaning of a plain scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Int(i64),
    /// A number that the reference refuses wherever it stands.
    Unusable(Unusable),
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unusable {
    Fraction(f64),
    /// More than an i64 holds.
    Huge,
}

impl Plain {
    pub(super) fn of(text: &str) -> Plain {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Plain::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Plain::Bool(false),
            ".nan" | ".NaN" | ".NAN" => Plain::Unusable(Unusable::Fraction(f64::NAN)),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
                Plain::Unusable(Unusable::Fraction(f64::INFINITY))
            }
            "-.inf" | "-.Inf" | "-.INF" => Plain::Unusable(Unusable::Fraction(f64::NEG_INFINITY)),
            _ => number(text),
        }
    }
}

fn number(text: &str) -> Plain {
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return Plain::Text;
    }
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.as_bytes().first() {
        Some(b'-') => (true, &plain[1..]),
        Some(b'+') => (false, &plain[1..]),
        _ => (false, plain.as_str()),
    };
    match integer(digits) {
        Some(Ok(size)) => match i64::try_from(if negative { -(size as i128) } else { size as i128 }) {
            Ok(number) => Plain::Int(number),
            Err(_) => Plain::Unusable(Unusable::Huge),
        },
        Some(Err(TooLong)) => Plain::Unusable(Unusable::Huge),
        None if is_fraction(digits) => match plain.parse() {
            Ok(number) => Plain::Unusable(Unusable::Fraction(number)),
            Err(_) => Plain::Text,
        },
        None => Plain::Text,
    }
}

struct TooLong;

/// Digits as Go's `ParseInt` with base 0 reads them: `0x`, `0o`, `0b`, and a leading 0 for octal.
fn integer(digits: &str) -> Option<Result<u64, TooLong>> {
    let (base, rest) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if rest.is_empty() || !rest.chars().all(|digit| digit.is_digit(base)) {
        return None;
    }
    Some(u64::from_str_radix(rest, base).map_err(|_| TooLong))
}

/// A number with a point. An exponent alone (`1e5`) is taken as text: as a descriptor's value it is more often an
/// identifier than a number.
fn is_fraction(digits: &str) -> bool {
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let Some((whole, part)) = mantissa.split_once('.') else { return false };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !(whole.is_empty() && part.is_empty())
        && all_digits(whole)
        && all_digits(part)
        && !exponent.is_empty()
        && all_digits(exponent)
}
