//! Variables that look like settings and that nothing reads: misspelt, another program's, or newer than this version.
//! It knows which names are known, not what they mean.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::LazyLock};

use clap::Args as _;

use super::{Flags, VARIABLES};

/// Prefixes of variables that are meant for this program, or for the one that it replaces.
const OURS: [&str; 8] = ["REDIS_", "GRPC_", "LIMIT_", "CONFIG_", "XDS_", "MEMCACHE_", "USE_", "TOLLGATE_"];

/// Variables that the other subcommands read and `serve` doesn't.
const OF_CLIENTS: [&str; 4] = ["TOLLGATE_ADDR", "TOLLGATE_TOKEN", "TOLLGATE_TOKEN_FILE", "TOLLGATE_CACERT"];

/// Variables of gRPC's libraries (`doc/environment_variables.md` of gRPC, and the Go library's own), which platforms
/// set.
const OF_GRPC: [&str; 11] = [
    "GRPC_GO_*",
    "GRPC_VERBOSITY",
    "GRPC_TRACE",
    "GRPC_STACKTRACE_MINLOGLEVEL",
    "GRPC_POLL_STRATEGY",
    "GRPC_DNS_RESOLVER",
    "GRPC_SSL_CIPHER_SUITES",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "GRPC_ENABLE_FORK_SUPPORT",
    "GRPC_EXPERIMENT*",
    "GRPC_XDS_*",
];

/// Names that other programs and charts give to a setting which has another name here, and which are too different to
/// be found by their likeness.
const ELSEWHERE: [(&str, &str); 22] = [
    ("REDIS_HOST", "REDIS_URL"),
    ("REDIS_HOSTS", "REDIS_URL"),
    ("REDIS_PORT", "REDIS_URL"),
    ("REDIS_ADDR", "REDIS_URL"),
    ("REDIS_ADDRESS", "REDIS_URL"),
    ("REDIS_SERVER", "REDIS_URL"),
    ("REDIS_ENDPOINT", "REDIS_URL"),
    ("REDIS_DB", "REDIS_URL"),
    ("REDIS_DATABASE", "REDIS_URL"),
    ("REDIS_PASSWORD", "REDIS_AUTH"),
    ("REDIS_PASS", "REDIS_AUTH"),
    ("REDIS_USER", "REDIS_AUTH"),
    ("REDIS_USERNAME", "REDIS_AUTH"),
    ("REDIS_PASSWORD_FILE", "REDIS_AUTH_FILE"),
    ("REDIS_CLUSTER", "REDIS_TYPE"),
    ("REDIS_MODE", "REDIS_TYPE"),
    ("GRPC_TLS_CERT", "GRPC_SERVER_TLS_CERT"),
    ("GRPC_TLS_KEY", "GRPC_SERVER_TLS_KEY"),
    ("GRPC_TLS_CACERT", "GRPC_CLIENT_TLS_CACERT"),
    ("CONFIG_PATH", "TOLLGATE_RULES"),
    ("CONFIG_DIR", "TOLLGATE_RULES"),
    ("CONFIG_FILE", "TOLLGATE_RULES"),
];

/// Every name that something reads, or that is known to have no effect.
static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let command = Flags::augment_args(clap::Command::new("tollgate"));
    let of_flags = command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()));
    let others = VARIABLES.iter().map(|variable| variable.name).chain(OF_CLIENTS);
    of_flags.chain(others.map(str::to_owned)).collect()
});

/// A line about a variable that nothing reads and that was meant to be read.
pub(super) fn line(name: &str, value: &str) -> Option<String> {
    let is_known = KNOWN.contains(name) || OF_GRPC.iter().any(|known| matches(known, name));
    if is_known || is_of_a_service(name, value) {
        return None;
    }
    let meant = meant(name);
    // Other names are only meant for this program if they are like one of its own.
    if !OURS.iter().any(|prefix| name.starts_with(prefix)) && meant.is_none() {
        return None;
    }
    let meant = match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("it is misspelt, or newer than this version knows ({})", env!("CARGO_PKG_VERSION")),
    };
    Some(format!("{name} does nothing here: nothing reads it; {meant}"))
}

/// Whether a name is `known`, which may end in `*` for anything.
fn matches(known: &str, name: &str) -> bool {
    known.strip_suffix('*').map_or(known == name, |prefix| name.starts_with(prefix))
}

/// Whether Kubernetes sets the variable in each pod for a Service of its namespace. For a Service `redis` these are
/// `REDIS_SERVICE_HOST`, `REDIS_SERVICE_PORT`, `REDIS_SERVICE_PORT_<NAME>`, `REDIS_PORT=tcp://…`,
/// `REDIS_PORT_6379_TCP`, and that with `_PROTO`, `_PORT` and `_ADDR`.
fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_port = |rest: &str| {
        let (number, rest) = rest.split_once('_').unwrap_or((rest, ""));
        let protocol = rest.split('_').next().unwrap_or_default();
        number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].contains(&protocol)
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_address(value))
        || name.match_indices("_PORT_").any(|(at, sign)| is_port(&name[at + sign.len()..]))
}

/// Whether a value is the address of a Service as Kubernetes writes it into a variable.
pub(super) fn is_address(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

/// The known name that was likely meant.
fn meant(name: &str) -> Option<&'static str> {
    if let Some((_, meant)) = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == name) {
        return Some(meant);
    }
    let prefixed = format!("TOLLGATE_{name}");
    let bare = name.strip_prefix("TOLLGATE_").unwrap_or(&prefixed);
    if let Some(known) = KNOWN.get(bare) {
        return Some(known);
    }
    // Short names are like too many others: PATH is one letter away from PORT.
    if !(8..=64).contains(&name.len()) {
        return None;
    }
    let near = KNOWN.iter().filter(|known| !known.ends_with('*') && may_be_near(name, known));
    let near = near.map(|known| (strsim::osa_distance(name, known), known));
    near.min().filter(|(changes, _)| *changes <= NEAR).map(|(_, known)| known.as_str())
}

/// A name that is so many letters away from a known one was likely meant for it.
const NEAR: usize = 2;

/// `false` where the names are certainly farther apart than [`NEAR`]: each change adds one letter at most and takes one away
/// at most. Sets of letters are compared far sooner than changes are counted, and a start compares each variable of its
/// environment with each known one.
fn may_be_near(name: &str, known: &str) -> bool {
    let (own, other) = (letters(name), letters(known));
    let missing = |own: u64, other: u64| (own & !other).count_ones() as usize;
    name.chars().count().abs_diff(known.chars().count()) <= NEAR
        && missing(own, other) <= NEAR
        && missing(other, own) <= NEAR
}

/// Which letters a name has, one bit for several letters where there are more than bits.
fn letters(name: &str) -> u64 {
    name.chars().fold(0, |letters, letter| letters | 1 << (letter as u32 % 64))
}
