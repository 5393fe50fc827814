//! The tables of docs/src/operating/capacity.md, made of the model: a test holds the page equal to them.

use std::fmt::Write as _;

use super::{
    Fleet, Host, Load, Machine, Sizes, Wait,
    constants::{ALL, DENIAL_CACHE_BYTES, STORE_TIMEOUT, WAIT_IDLE},
    limits::COMFORTABLE,
};
use crate::limit::{Algorithm, SUB_WINDOWS_DEFAULT, Unit};

/// Every constant, its value and the command that measured it.
pub fn constants() -> String {
    let mut text = "| constant | value | what it is | measured by |\n|---|---:|---|---|\n".to_owned();
    for constant in ALL {
        let value =
            if constant.value >= 1e6 { bytes(constant.value) } else { format!("{} {}", constant.value, constant.unit) };
        let _ = writeln!(text, "| `{}` | {value} | {} | `{}` |", constant.name, constant.what, constant.command);
    }
    text
}

/// What is not measured: defaults and bounds of the design, and what is assumed of the hosts.
pub fn assumptions() -> String {
    let host = Host::default();
    let rows = [
        (
            "queues of a worker for a Cluster",
            "one for each node".to_owned(),
            "`TOLLGATE_REDIS_CLUSTER_BATCH=node`, the default",
        ),
        (
            "counters that a script decides at most",
            "128, 32 of a log".to_owned(),
            "[the design](../why/design.md#stores)",
        ),
        ("sub-windows", SUB_WINDOWS_DEFAULT.to_string(), "`--sub-windows`, as `sub_windows` of the rules"),
        ("longest wait for Redis", format!("{} ms", STORE_TIMEOUT * 1e3), "`TOLLGATE_STORE_TIMEOUT`"),
        (
            "wait for an idle Redis",
            format!("{} ms", WAIT_IDLE * 1e3),
            "`--wait`; yours is in `tollgate_store_duration_seconds`",
        ),
        ("denial cache of a worker", bytes(DENIAL_CACHE_BYTES), "`TOLLGATE_DENIALS_MAX_BYTES`"),
        ("network of a host, each way", format!("{}/s", bytes(host.network)), "`--network`"),
        ("memory of a Redis node", bytes(host.node_memory), "`--node-memory`"),
        (
            "how full anything may be",
            format!("{:.0} %", 100.0 * COMFORTABLE),
            "what is left takes bursts and the loss of a host",
        ),
    ];
    let mut text = "| assumed | value | set by |\n|---|---:|---|\n".to_owned();
    for (what, value, by) in rows {
        let _ = writeln!(text, "| {what} | {value} | {by} |");
    }
    text
}

/// What the scales of the page take.
pub fn scales() -> String {
    let mut text =
        "| requests a second | descriptors | users a minute | replicas of 4 cores | Tollgate, cores | Redis nodes | \
        Redis, cores | Redis, memory | to Tollgate and back | to Redis and back | what breaks first | what to change |\n\
        |---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|\n"
            .to_owned();
    for (requests, users) in [(10e3, 100e3), (100e3, 1e6), (1e6, 5e6), (5e6, 20e6)] {
        for descriptors in [1.0, 2.0] {
            text += &scale(requests, descriptors, users);
        }
    }
    text
}

fn scale(requests_per_second: f64, descriptors: f64, users: f64) -> String {
    let host = Host::default();
    let load = Load {
        requests_per_second,
        descriptors,
        users,
        algorithm: Algorithm::SlidingWindow,
        window: Unit::Minute.window(),
        sub_windows: SUB_WINDOWS_DEFAULT.into(),
        fleet: Fleet { replicas: 1, workers: 4, nodes: 1 },
        wait: Wait::Idle(WAIT_IDLE),
        machine: Machine::default(),
    };
    let load = load.sized(Sizes::default(), &host);
    let (estimate, bounds) = (load.estimate(), load.bounds(&host));
    format!(
        "| {} | {descriptors} | {} | {} | {:.1} | {} | {:.1} | {} | {}/s, {}/s | {}/s, {}/s | {} | {} |\n",
        count(requests_per_second),
        count(users),
        load.fleet.replicas,
        estimate.tollgate_cores,
        load.fleet.nodes,
        estimate.redis_cores,
        bytes(estimate.redis_memory),
        bytes(estimate.requests_in),
        bytes(estimate.answers_out),
        bytes(estimate.to_redis),
        bytes(estimate.from_redis),
        bounds[0].what,
        bounds[0].change,
    )
}

/// Three digits and a unit: `1.2 MB`.
pub fn bytes(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let unit = units.len().min(1 + (bytes.max(1.0).log10() / 3.0) as usize) - 1;
    let value = bytes / 1000f64.powi(unit as i32);
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit])
}

/// A whole number with commas, rounded to three digits where it is not round.
pub fn count(number: f64) -> String {
    let step = 10f64.powi((number.max(1.0).log10() as i32 - 2).max(0));
    let digits = format!("{:.0}", (number / step).round() * step);
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group)).collect();
    groups.join(",")
}
