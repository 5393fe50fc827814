//! Reads single values: as Go does for the variables of envoyproxy/ratelimit, because teams keep their environment.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use super::unknown;

/// Reads any word that people use for true or false, in any case; Go's `1 t T TRUE true True` and their opposites among
/// them.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    const TRUE: [&str; 8] = ["1", "t", "true", "y", "yes", "on", "enable", "enabled"];
    const FALSE: [&str; 8] = ["0", "f", "false", "n", "no", "off", "disable", "disabled"];
    let is_one_of = |words: [&str; 8]| words.iter().any(|word| word.eq_ignore_ascii_case(text.trim()));
    match (is_one_of(TRUE), is_one_of(FALSE)) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// Reads a Go duration: `10s`, `150us`, `1h30m`, `1.5s`, `0`. Negative ones have no meaning here.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 10ms, 30s or 1h30m".to_string();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total) = (text.strip_prefix('+').unwrap_or(text), 0f64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * seconds;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

/// A duration of something that can't be done in no time, and for which 0 doesn't mean "never" either.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("expected more than 0, such as 10ms, 30s or 1h30m".into()),
        some => Ok(some),
    }
}

/// A Go integer: `12`, `-3`, `0x1f`, `0b11`, `0o17` or `017`, with `_` between digits where it has such a prefix.
pub(super) fn int(text: &str) -> Result<i64, String> {
    let wrong = || "expected a whole number".to_string();
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.split_at_checked(2) {
        Some(("0x", rest)) => (16, rest.replace('_', "")),
        Some(("0b", rest)) => (2, rest.replace('_', "")),
        Some(("0o", rest)) => (8, rest.replace('_', "")),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, lower[1..].replace('_', "")),
        _ => (10, lower),
    };
    // `from_str_radix` takes a sign of its own.
    let number = i64::from_str_radix(&digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']));
    number.map(|number| if is_negative { -number } else { number }).ok_or_else(wrong)
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let number = int(text).ok().and_then(|number| number.try_into().ok());
    number.ok_or_else(|| match unknown::is_address(text) {
        true => "expected a port, 0 to 65535, and this is what Kubernetes sets for a Service of that name; \
                 `enableServiceLinks: false` in the pod's spec ends that"
            .into(),
        false => "expected a port, 0 to 65535".into(),
    })
}

/// Reads a whole number of at least `min`.
pub(super) fn at_least(min: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let number = int(text).ok().and_then(|number| u64::try_from(number).ok());
        number.filter(|n| *n >= min).ok_or_else(|| format!("expected a whole number of at least {min}"))
    }
}

/// Reads an address to listen on, or a name that has one (`localhost`).
pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let named = || (bare, 0).to_socket_addrs().ok()?.map(|address| address.ip()).min();
    bare.parse().ok().or_else(named).ok_or_else(|| "expected an address such as 0.0.0.0 or 127.0.0.1".into())
}

/// Reads names of hosts, separated by commas, without ports.
pub(super) fn host_names(text: &str) -> Result<Vec<String>, String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().all(|name| is_name(name)) {
        true => Ok(names),
        false => Err("expected names such as tollgate-admin.shop.svc, separated by commas and without ports".into()),
    }
}

/// Reads a number of bytes, or one with K, M, G (or KiB, MiB, GiB) behind it; all are powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "expected bytes such as 536870912, 512MiB or 2GiB".to_string();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| wrong())?;
    let shift = match text[end..].trim().trim_end_matches('B').trim_end_matches('i') {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Reads `host:port`, or `:port` for every interface, as Go writes listen addresses.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let read = || {
        let (place, number) = text.rsplit_once(':')?;
        let ip = if place.is_empty() { Ok(IpAddr::from([0, 0, 0, 0])) } else { host(place) };
        Some(SocketAddr::new(ip.ok()?, port(number).ok()?))
    };
    read().ok_or_else(|| "expected an address such as :9090 or 127.0.0.1:9090".into())
}

/// Reads one of a few words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}
