//! `tollgate capacity`: what a load takes by the model of [`crate::capacity`], in words or as JSON. Asks no service.

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use crate::{
    capacity::{
        Bound, Estimate, Fleet, Host, Load, Machine, Sizes, Wait,
        constants::{FLOOR, INCR, WAIT_IDLE},
        limits::CORES_OF_CALLS_MAX,
        page::{bytes, count},
    },
    limit::{Algorithm, Micros, SUB_WINDOWS_DEFAULT, SUB_WINDOWS_MAX},
    rules,
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tollgate capacity --requests 100k --users 1m\n  \
    tollgate capacity --requests 1000000 --descriptors 2 --users 5m --replicas 20 --nodes 6\n  \
    tollgate capacity --requests 20k --nodes 0 --algorithm token_bucket --window 1h --json\n\n\
    What is left out of --replicas and --nodes is chosen so that nothing is more than 60 % full.\n\
    A model: docs/src/operating/capacity.md says what is measured, and how near it comes.\n\
    Exit code: 0 it fits, 2 a command line that can't be meant so, 3 something is more than full.")]
pub(super) struct CapacityArgs {
    /// Requests a second of all clients together (k and m for thousands and millions)
    #[arg(long, value_name = "N", value_parser = |text: &str| number(text, 1.0, 1e10))]
    requests: f64,
    /// Descriptors with a limit in each request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    descriptors: u16,
    /// Users that come within a window: counters of each descriptor
    #[arg(long, value_name = "N", default_value = "100k", value_parser = |text: &str| number(text, 1.0, 1e12))]
    users: f64,
    /// sliding_window, fixed_window, sliding_log, token_bucket or leaky_bucket
    #[arg(long, default_value = "sliding_window", value_parser = algorithm)]
    algorithm: Algorithm,
    /// Window of the limits
    #[arg(long, default_value = "1m", value_parser = window)]
    window: Micros,
    /// Parts of a sliding_window, as sub_windows of the rules: the fewer, the less memory
    #[arg(long, value_name = "N", default_value_t = SUB_WINDOWS_DEFAULT,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(SUB_WINDOWS_MAX)))]
    sub_windows: u8,
    /// Replicas of Tollgate [default: as many as it takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    replicas: Option<u32>,
    /// Cores of each replica (TOLLGATE_WORKERS)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    workers: u32,
    /// Redis nodes: 0 counts in the replicas' memory, more than 1 are a Cluster's primaries [default: as many as it takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    nodes: Option<u32>,
    /// How long a decision waits for a Redis that is idle, in ms (tollgate_store_duration_seconds)
    #[arg(long, value_name = "MS", default_value_t = WAIT_IDLE * 1e3, value_parser = |text: &str| number(text, 0.01, 9.0))]
    wait: f64,
    /// Network of each replica and node, each way, in Gbit/s
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = |text: &str| number(text, 0.001, 10_000.0))]
    network: f64,
    /// Memory of each Redis node, in GiB
    #[arg(long, value_name = "N", default_value_t = 16.0, value_parser = |text: &str| number(text, 0.001, 100_000.0))]
    node_memory: f64,
    /// How quick a core is: CPU of the floor for a request, in µs, as `--example capacity` measures it
    #[arg(long, value_name = "US", default_value_t = FLOOR.value, value_parser = |text: &str| number(text, 0.1, 1e4))]
    floor_us: f64,
    /// The same of Redis: CPU of a plain INCR, in µs
    #[arg(long, value_name = "US", default_value_t = INCR.value, value_parser = |text: &str| number(text, 0.01, 1e3))]
    incr_us: f64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CapacityArgs) -> Exit {
    let host = Host { network: args.network * 1e9 / 8.0, node_memory: args.node_memory * 1024f64.powi(3) };
    let load = args.load().sized(Sizes { replicas: args.replicas, nodes: args.nodes }, &host);
    let (estimate, bounds) = (load.estimate(), load.bounds(&host));
    if args.json {
        println!("{:#}", as_json(&load, &estimate, &bounds));
    } else {
        print!("{}", in_words(&load, &estimate, &bounds));
    }
    if bounds[0].share > 1.0 { Exit::Attention } else { Exit::Done }
}

impl CapacityArgs {
    fn load(&self) -> Load {
        Load {
            requests_per_second: self.requests,
            descriptors: f64::from(self.descriptors),
            users: self.users,
            algorithm: self.algorithm,
            window: self.window,
            sub_windows: self.sub_windows.into(),
            fleet: Fleet { replicas: 1, workers: self.workers, nodes: 1 },
            wait: Wait::Idle(self.wait / 1e3),
            machine: Machine { floor_us: self.floor_us, incr_us: self.incr_us },
        }
    }
}

/// `1000000`, `1m`, `2.5k`.
fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1.0), |digits| (digits, 1e6)),
    };
    let number =
        digits.parse().ok().map(|number: f64| number * factor).filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}, such as 250000, 250k or 2.5m"))
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let names: Vec<_> = Algorithm::ALL.into_iter().map(Algorithm::name).collect();
    Algorithm::parse(text).ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

fn window(text: &str) -> Result<Micros, String> {
    rules::window(text).map_err(|why| format!("{why}; write it as 30s, 5m, 1h or 7d"))
}

fn in_words(load: &Load, estimate: &Estimate, bounds: &[Bound]) -> String {
    let fleet = load.fleet;
    let (replicas, nodes) = (f64::from(fleet.replicas), f64::from(fleet.nodes));
    let mut text = format!(
        "{} requests a second with {} each, {} users within {} s, {}\n{} of {}, {}\n\n",
        count(load.requests_per_second),
        several(load.descriptors, "descriptor"),
        count(load.users),
        load.window.0 as f64 / 1e6,
        load.algorithm.name(),
        several(replicas, "replica"),
        several(f64::from(fleet.workers), "worker"),
        match fleet.nodes {
            0 => "each of which counts in its own memory: a limit is admitted by each of them".to_owned(),
            1 => "one Redis".to_owned(),
            nodes => format!("a Cluster of {nodes} primaries"),
        },
    );
    let mut row = |name: &str, all: String, each: String| text += &format!("  {name:<12} {all:<26} {each}\n");
    let cores = |cores: f64| format!("{cores:.2} cores");
    let of_replica = estimate.tollgate_cores / replicas;
    row("Tollgate", cores(estimate.tollgate_cores), format!("{of_replica:.2} of {} in each replica", fleet.workers));
    row("", bytes(estimate.replica_memory * replicas), format!("{} in each replica", bytes(estimate.replica_memory)));
    if fleet.nodes > 0 {
        row("Redis", cores(estimate.redis_cores), format!("{:.2} of 1 in each node", estimate.redis_cores / nodes));
        let each =
            format!("{} in each node, {} counters", bytes(estimate.redis_memory / nodes), count(estimate.counters));
        row("", bytes(estimate.redis_memory), each);
    }
    let both = |to: f64, from: f64| format!("{}/s and {}/s back", bytes(to), bytes(from));
    row("network", both(estimate.requests_in, estimate.answers_out), "requests and answers".to_owned());
    if fleet.nodes > 0 {
        let each =
            format!("to Redis, {} and {} a node", bytes(estimate.to_redis / nodes), bytes(estimate.from_redis / nodes));
        row("", both(estimate.to_redis, estimate.from_redis), each);
        let scripts = format!("{:.1} counters in each", estimate.counters_per_script);
        row("scripts", format!("{}/s", count(estimate.scripts)), scripts);
        row("wait", format!("{:.2} ms", estimate.wait * 1e3), "for Redis, on average".to_owned());
    }
    text += "\nWhat breaks first:\n";
    for (nth, bound) in bounds.iter().take(SHOWN).enumerate() {
        let full_at = bound.full_at.map(|full_at| format!(", full at {} requests a second", count(full_at)));
        let share = 100.0 * bound.share;
        text += &format!(
            "  {}. {}: {share:.0} %{}\n     then: {}\n",
            nth + 1,
            bound.what,
            full_at.unwrap_or_default(),
            bound.change
        );
    }
    if load.calls_take_too_much() {
        text += &format!(
            "\nThe calls take more than {CORES_OF_CALLS_MAX} cores: consider fewer of them (docs/src/operating/capacity.md#when-a-call-per-request-is-wrong).\n"
        );
    }
    text + &format!(
        "\nBy the model of docs/src/operating/capacity.md, for cores on which the floor takes {} µs and an INCR {} µs. Leave two fifths free.\n",
        load.machine.floor_us, load.machine.incr_us
    )
}

fn several(number: f64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1.0 { "" } else { "s" })
}

/// How many of the bounds are worth a line.
const SHOWN: usize = 3;

fn as_json(load: &Load, estimate: &Estimate, bounds: &[Bound]) -> serde_json::Value {
    let bounds = bounds.iter().map(|bound| {
        json!({ "what": bound.what, "share": bound.share, "full_at_requests_per_second": bound.full_at, "change": bound.change })
    });
    json!({
        "requests_per_second": load.requests_per_second,
        "descriptors": load.descriptors,
        "users": load.users,
        "algorithm": load.algorithm.name(),
        "window_seconds": load.window.0 as f64 / 1e6,
        "sub_windows": load.sub_windows,
        "replicas": load.fleet.replicas,
        "workers": load.fleet.workers,
        "nodes": load.fleet.nodes,
        "floor_us": load.machine.floor_us,
        "incr_us": load.machine.incr_us,
        "tollgate_cores": estimate.tollgate_cores,
        "redis_cores": estimate.redis_cores,
        "replica_memory_bytes": estimate.replica_memory,
        "redis_memory_bytes": estimate.redis_memory,
        "counters": estimate.counters,
        "request_bytes_per_second": estimate.requests_in,
        "answer_bytes_per_second": estimate.answers_out,
        "to_redis_bytes_per_second": estimate.to_redis,
        "from_redis_bytes_per_second": estimate.from_redis,
        "scripts_per_second": estimate.scripts,
        "counters_per_script": estimate.counters_per_script,
        "wait_ms": estimate.wait * 1e3,
        "connections_per_node": estimate.connections_per_node,
        "bounds": bounds.collect::<Vec<_>>(),
        "calls_take_too_much": load.calls_take_too_much(),
    })
}
